"""Which of a model's parameters a training strategy is about."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

from torch import nn
from torch.nn.utils.parametrizations import _WeightNorm
from torch.nn.utils.parametrize import ParametrizationList

_NORMS: Final = (
    nn.modules.batchnorm._NormBase,  # noqa: SLF001  # the one base of all batch and instance norms
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.LocalResponseNorm,
)


def weights(module: nn.Module, *, with_norms_and_biases: bool = False) -> dict[str, nn.Parameter]:
    """The trainable parameters by name; those of normalisations, and all of one dimension, only where asked for.

    The lengths that `weight_norm` takes from a weight belong to a normalisation.
    """
    of_norms = {
        id(parameter)
        for part in module.modules()
        if isinstance(part, _NORMS)
        for parameter in part.parameters(recurse=False)
    } | {id(module.get_parameter(length)) for length in weight_normed(module).values()}
    return {
        name: parameter
        for name, parameter in module.named_parameters()
        if parameter.requires_grad and (with_norms_and_biases or (parameter.ndim > 1 and id(parameter) not in of_norms))
    }


def weight_normed(module: nn.Module) -> dict[str, str]:
    """For each weight that torch's `weight_norm` splits, the name of its directions and that of their lengths."""
    return {
        f"{name}.original1": f"{name}.original0"
        for name, part in module.named_modules()
        if isinstance(part, ParametrizationList) and isinstance(part[0], _WeightNorm)
    }


def matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    """The names that one of the patterns (as of file names, `*` included) means: the name itself, or what it begins.

    ValueError names a pattern that means nothing, and what there is.
    """
    given = list(names)
    found: list[str] = []
    for pattern in patterns:
        meant = [name for name in given if fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")]
        if not meant:
            some = ", ".join(given[:10]) + (", …" if len(given) > 10 else "")  # noqa: PLR2004  # as shown
            msg = f"no parameter is meant by {pattern!r}; there are: {some}"
            raise ValueError(msg)
        found += [name for name in meant if name not in found]
    return found
