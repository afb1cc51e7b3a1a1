"""Whether there is anything to test a winner with: by the classes that a sweep names, before anything is trained.

A class that the sweep file does not name by its path, such as one that the user's own LightningCLI brings, counts as
testable: its test will say.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytorch_lightning as pl

from service.errors import Fault, TrialError
from service.tuning.config_merge import Config
from service.tuning.lightning_config import import_class

ADVICE: Final = "evaluation.test: auto or false, or classes with test_step and test_dataloader"


def untestable(fit: Config, parameters: Mapping[str, Sequence[Any]]) -> str:
    """Why no trial of the sweep can be tested; empty where one can. What the user's modules raise propagates."""
    found = _reasons(fit, parameters)
    return found[0] if all(found) else ""


def test_faults(fit: Config, parameters: Mapping[str, Sequence[Any]]) -> list[Fault]:
    """Why `evaluation.test: true` cannot be kept by every trial; empty where it can."""
    found = dict.fromkeys(reason for reason in _reasons(fit, parameters) if reason)
    return [Fault(reason, "evaluation.test", given="true", allowed=ADVICE) for reason in found]


def _reasons(fit: Config, parameters: Mapping[str, Sequence[Any]]) -> list[str]:
    """For each model with each data module: why they cannot be tested, or nothing."""
    models, modules = _classes("model", fit, parameters), _classes("data", fit, parameters)
    is_unknown = bool(fit.get("cli") or fit.get("data"))  # where no class was found, whether there may be one
    return [_reason(model, data, is_unknown=is_unknown) for model, data in itertools.product(models, modules)]


def _classes(section: str, fit: Config, parameters: Mapping[str, Sequence[Any]]) -> list[type | None]:
    given = fit.get(section)
    own = given.get("class_path") if isinstance(given, Mapping) else given
    paths = parameters.get(f"{section}.class_path") or [own]
    return [_imported(path) for path in paths]


def _imported(path: object) -> type | None:
    with contextlib.suppress(TrialError):  # a short name, which only the parser knows
        return import_class(path) if isinstance(path, str) else None
    return None


def _reason(model: type | None, data: type | None, *, is_unknown: bool) -> str:
    if model is None:
        return ""
    if not _overrides(model, "test_step"):
        return f"{model.__name__} has no test_step"
    if _overrides(model, "test_dataloader") or (data is None and is_unknown):
        return ""
    if data is None:
        return f"{model.__name__} has no test_dataloader, and there is no data module"
    return "" if _overrides(data, "test_dataloader") else f"{data.__name__} has no test_dataloader"


def _overrides(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is not getattr(pl.LightningModule, name)
