"""Random generators that user code keeps in a data module, a model or a loader: found, saved, wound back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

import numpy as np
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

States: TypeAlias = dict[str, Any]
_KINDS: Final = (torch.Generator, np.random.Generator, random.Random)


def generators_of(holder: object) -> dict[str, Any]:
    """The generators among the attributes of `holder`, by name."""
    return {name: value for name, value in vars(holder).items() if isinstance(value, _KINDS)}


def generator_state(generator: Any) -> Any:  # noqa: ANN401  # one of three unrelated kinds
    """The state of a generator, in types that `torch.load(weights_only=True)` accepts."""
    if isinstance(generator, torch.Generator):
        return generator.get_state()
    return generator.getstate() if isinstance(generator, random.Random) else dict(generator.bit_generator.state)


def set_generator_state(generator: Any, state: Any) -> None:  # noqa: ANN401  # as above
    """The inverse of `generator_state`."""
    if isinstance(generator, torch.Generator):
        generator.set_state(state.cpu())
    elif isinstance(generator, random.Random):
        generator.setstate(state)
    else:
        generator.bit_generator.state = state


def own_generator_states(trainer: pl.Trainer) -> States:
    """The states of all generators that the data module, the model and the loaders of a fit hold."""
    return {name: generator_state(one) for name, one in _own_generators(trainer).items()}


def restore_own_generators(trainer: pl.Trainer, states: States) -> None:
    """Set them to `states`, once the training loader has been asked for its first iterator.

    A DataLoader draws once when it is asked for an iterator, which Lightning does before this can be called.
    """
    for name, generator in _own_generators(trainer).items():
        if name in states:
            set_generator_state(generator, states[name])
    for loader in _flat(trainer.train_dataloader):
        if isinstance(loader, DataLoader) and loader.generator is not None:
            torch.empty((), dtype=torch.int64).random_(generator=loader.generator)


def _own_generators(trainer: pl.Trainer) -> dict[str, Any]:
    data = getattr(trainer, "datamodule", None)  # set by a connector
    holders: dict[str, object] = {"model": trainer.lightning_module, "data": data}
    for stage, loaders in (("train", trainer.train_dataloader), ("validation", trainer.val_dataloaders)):
        for i, loader in enumerate(_flat(loaders)):
            holders |= {f"{stage}.{i}": loader, f"{stage}.{i}.sampler": getattr(loader, "sampler", None)}
    return {
        f"{place}.{name}": one
        for place, holder in holders.items()
        if hasattr(holder, "__dict__")
        for name, one in generators_of(holder).items()
    }


def _flat(loaders: Any) -> Iterator[Any]:  # noqa: ANN401  # one loader, or lists and mappings of them
    if isinstance(loaders, dict):
        loaders = list(loaders.values())
    if isinstance(loaders, list | tuple):
        for one in loaders:
            yield from _flat(one)
    elif loaders is not None:
        yield loaders
