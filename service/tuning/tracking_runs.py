"""Which run of MLflow is meant: the sweep's own, a trial's, or that of one fit where trials have several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class FitKey:
    """The run of one fit, beneath that of trial `of`, which is the number of the trial's first fit."""

    number: int
    of: int


RunKey: TypeAlias = int | FitKey | None  # a trial's number; None is the sweep itself


def parent_of(key: int | FitKey) -> RunKey:
    """The run that the run of `key` stands beneath."""
    return key.of if isinstance(key, FitKey) else None


def order_of(key: RunKey) -> tuple[int, int]:
    """Sorts parents before what stands beneath them."""
    return (0, 0) if key is None else (2, key.number) if isinstance(key, FitKey) else (1, key)


def key_of(tags: Mapping[str, str]) -> RunKey:
    """Whose run it is, by its tags."""
    trial, fit = tags.get("tuneyard.trial"), tags.get("tuneyard.fit")
    if trial is None:
        return None
    return int(trial) if fit is None else FitKey(int(fit), int(trial))


def tags_of(key: RunKey) -> dict[str, str]:
    """The tags by which `key_of` tells, and the run's name is not among them."""
    if key is None:
        return {"tuneyard.kind": "sweep"}
    if isinstance(key, FitKey):
        return {"tuneyard.kind": "fit", "tuneyard.trial": str(key.of), "tuneyard.fit": str(key.number)}
    return {"tuneyard.kind": "trial", "tuneyard.trial": str(key)}
