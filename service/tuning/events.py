"""What can happen in a sweep: the records of its ledger, in the order in which they are decided, and their JSON form.

A sweep's whole state is a fold over these (see `history.py`), so nothing else needs to be saved.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

Params: TypeAlias = dict[str, Any]
Ending: TypeAlias = Literal["completed", "stopped", "diverged", "failed"]
Action: TypeAlias = Literal["continue", "pause", "stop"]
SCHEMA_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A saved training state: `path` is relative to the sweep's storage; `digest` is BLAKE2b of the file's bytes."""

    path: str
    epoch: int
    size_bytes: int
    digest: str


@dataclass(frozen=True, slots=True)
class SweepStarted:
    """First record of every ledger: the resolved sweep file, and what ran it."""

    sweep_id: str
    spec: dict[str, Any]
    facts: dict[str, str] = field(default_factory=dict)  # package versions, git commit, data fingerprint
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True)
class DriverStarted:
    """A driver took the sweep over; `lease_epoch` grows by one each time."""

    lease_epoch: int
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class TrialProposed:
    """A configuration to train. `proposal` counts what the searcher itself proposed (-1: it came from elsewhere).

    Where it is trained once more, on another `fold` or with another seed, `repeats` is the trial that did so first.
    """

    trial: int
    params: Params
    source: str  # "defaults", "start_point", "warm_start", "searcher", "random", "repeat" or "final"
    proposal: int = -1
    repeats: int | None = None
    fold: int = 0
    seed_index: int = 0


@dataclass(frozen=True, slots=True)
class AttemptStarted:
    """A trial begins or goes on with `params`, from `checkpoint` (another trial's where it exploits that one)."""

    trial: int
    attempt: int
    params: Params
    checkpoint: Checkpoint | None
    reason: str


@dataclass(frozen=True, slots=True)
class Reported:
    """One epoch of a trial and what was decided on it. `seconds` is the trial's training time up to here."""

    trial: int
    attempt: int
    epoch: int
    metrics: dict[str, float]
    seconds: float
    checkpoint: Checkpoint | None
    action: Action
    reason: str
    diverged: bool = False


@dataclass(frozen=True, slots=True)
class CheckpointSaved:
    """A checkpoint that came without a new report: on the way into a pause, or of an epoch that was trained again."""

    trial: int
    attempt: int
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class CheckpointsDropped:
    """Checkpoint files that nothing needs any more; they are deleted after this is on record."""

    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AttemptEnded:
    """The fit of an attempt is over.

    `kind`: finished, paused, stopped, diverged, user, hung, fatal, memory, infrastructure, interrupted or checkpoint.
    """

    trial: int
    attempt: int
    kind: str
    cause: str = ""


@dataclass(frozen=True, slots=True)
class TrialEnded:
    """A trial is over for good."""

    trial: int
    ending: Ending
    cause: str = ""


@dataclass(frozen=True, slots=True)
class SearchEnded:
    """Nothing new starts, and what runs ends with its next report. Final, whatever the last reports show.

    Not on record where there was nothing left to start anyway, and nothing is tested.
    """

    ending: Literal["completed", "failed"]
    reason: str


@dataclass(frozen=True, slots=True)
class HeldOutStarted:
    """A fit of the winner begins its test on data that the search never saw, with the weights of `checkpoint`.

    `attempt` goes on counting where the trial's own attempts ended.
    """

    trial: int
    attempt: int
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class HeldOutEnded:
    """What came of a held-out test: `metrics` as the module logged them. Neither searcher nor scheduler sees it.

    `kind`: finished, failed (no score, for `cause`), or lost and interrupted, after which it begins again.
    """

    trial: int
    attempt: int
    kind: Literal["finished", "failed", "lost", "interrupted"]
    metrics: dict[str, float] = field(default_factory=dict)
    cause: str = ""


@dataclass(frozen=True, slots=True)
class SweepPaused:
    """The driver stopped on request (Ctrl-C, SIGTERM); the sweep can be resumed."""

    reason: str


@dataclass(frozen=True, slots=True)
class SweepEnded:
    """The sweep is over, unless it is extended. `ending`: completed or failed."""

    ending: Literal["completed", "failed"]
    reason: str


@dataclass(frozen=True, slots=True)
class SweepExtended:
    """The sweep may try up to `max_trials` configurations, more than before; one that had ended goes on."""

    max_trials: int


@dataclass(frozen=True, slots=True)
class Artifacts:
    """Files under the sweep's storage that tracking shall carry to MLflow; `trial` None means the sweep itself."""

    trial: int | None
    paths: tuple[str, ...]


Event: TypeAlias = (
    SweepStarted
    | DriverStarted
    | TrialProposed
    | AttemptStarted
    | Reported
    | CheckpointSaved
    | CheckpointsDropped
    | AttemptEnded
    | TrialEnded
    | SearchEnded
    | HeldOutStarted
    | HeldOutEnded
    | SweepPaused
    | SweepEnded
    | SweepExtended
    | Artifacts
)
Begun: TypeAlias = AttemptStarted | HeldOutStarted  # what a worker is given
_KINDS: Final = {kind.__name__: kind for kind in Event.__args__}
_OF_REPEATS: Final = ("repeats", "fold", "seed_index")  # left out of a record that they say nothing in


@dataclass(frozen=True, slots=True)
class Record:
    """An event at its place in the ledger: `sequence` counts from 0 without gaps, `at` is seconds since the epoch."""

    sequence: int
    at: float
    event: Event


def encode(record: Record) -> dict[str, Any]:
    """A JSON object for `record`; numbers that JSON cannot hold become strings."""
    fields = dataclasses.fields(record.event)
    given = {f.name: getattr(record.event, f.name) for f in fields}
    body = {
        name: _to_json(value)
        for name, value in given.items()
        if name not in _OF_REPEATS or given["repeats"] is not None
    }
    return {"sequence": record.sequence, "at": record.at, "event": type(record.event).__name__, **body}


def decode(data: dict[str, Any]) -> Record:
    """The inverse of `encode`; KeyError or TypeError where `data` is no record of this schema."""
    body = dict(data)
    sequence, at, kind = body.pop("sequence"), body.pop("at"), _KINDS[body.pop("event")]
    if body.get("checkpoint") is not None:
        body["checkpoint"] = Checkpoint(**body["checkpoint"])
    if "metrics" in body:
        body["metrics"] = {name: float(value) for name, value in body["metrics"].items()}
    if "paths" in body:
        body["paths"] = tuple(body["paths"])
    return Record(sequence, at, kind(**body))


def _to_json(value: Any) -> Any:  # noqa: ANN401  # any JSON value may stand in a record
    if isinstance(value, Checkpoint):
        return dataclasses.asdict(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    return value
