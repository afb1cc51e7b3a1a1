"""The two seams of the search: what a searcher and a scheduler are. Both are pure functions of a sweep's history.

They hold no state that a decision depends on: given the same history they answer the same, so a sweep is rebuilt by
replaying its ledger. They may keep caches. None of their files imports ray, torch or mlflow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from service.spec.objective import Objectives, Observation
from service.spec.space import Space
from service.tuning.events import Action, Params
from service.tuning.history import History


class StrictOptions(BaseModel):
    """Base of every plugin's `Options`: frozen, and a name it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class RungOptions(StrictOptions):
    """Base of the `Options` of schedulers that judge trials on rungs."""

    max_epochs: int = Field(ge=1)
    """Epochs after which a trial is complete: the last rung."""
    grace_epochs: int = Field(default=1, ge=1)
    """The first rung: no trial is stopped or paused before it trained this many epochs."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.grace_epochs > self.max_epochs:
            msg = f"grace_epochs ({self.grace_epochs}) must be at most max_epochs ({self.max_epochs})"
            raise ValueError(msg)
        return self


@dataclass(frozen=True, slots=True)
class PastTrial:
    """A trial of an earlier sweep: its params as far as this sweep's space has them, and its losses by epoch.

    `params` lacks what the earlier sweep did not search or what now lies outside the space.
    """

    params: Params
    curve: Mapping[int, Observation]


@dataclass(frozen=True, slots=True)
class PastSweep:
    """What an earlier sweep with the same objectives showed; a searcher judges how well it predicts this one."""

    name: str
    trials: tuple[PastTrial, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """What a searcher and a scheduler are built for. `rungs`: the scheduler's, ascending; the last is `max_epochs`.

    `max_trials` is how many configurations there will be at most, where that is known.
    """

    space: Space
    objectives: Objectives
    rungs: tuple[int, ...]
    seed: int = 0
    past: tuple[PastSweep, ...] = ()
    max_trials: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a running trial after a report, and why."""

    action: Action
    reason: str


@dataclass(frozen=True, slots=True)
class Resume:
    """A paused trial goes on with `params`, from the newest checkpoint of trial `donor` (usually its own)."""

    trial: int
    donor: int
    params: Params
    reason: str


@dataclass(frozen=True, slots=True)
class Drop:
    """A paused trial ends where it stands."""

    trial: int
    reason: str


class Searcher(Protocol):
    """Proposes configurations."""

    def propose(self, history: History) -> Params | None:
        """The configuration of the next trial, or None when the search space is used up for good.

        A pure function of the options, the space, the objectives, the seed and `history`; `history.proposals` says
        how many came before. Every unfinished trial in `history` is pending and has to be taken into account.
        """


class Estimates(Protocol):
    """What a searcher may have beside `propose`: an estimate of what going on is worth."""

    def expected_improvement(self, history: History) -> float | None:
        """By how much the best next trial is expected to improve on the best so far; None while unknown.

        In units of the first objective, never negative; a pure function of `history`, in which every trial is over.
        """


class Scheduler(Protocol):
    """Stops, pauses and promotes trials. `rungs`: the epochs at which it may do so, ascending; the last is the end.

    One that changes the parameters of a trial on its way says so by an attribute `changes_params = True`.
    """

    rungs: tuple[int, ...]

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        """What to do with `trial`, whose report of `epoch` is already in `history`."""

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        """What becomes of paused trials now; asked before a new trial is proposed. Order = urgency.

        `is_drained` says that no new trial will come any more, so that what waits for others must not wait longer.
        """
