"""What the controller sees of sweeps: their jobs and the drivers' newest words, turned into events of the lifecycle."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cluster.backend import Backend, JobStatus
from service.lifecycle import Event, JobLost, JobSeen
from service.records import State, SweepRecord
from service.sweeps import sweeps_folder
from service.tuning.confined import read_in
from service.tuning.sweep_folder import PROGRESS_FILE
from service.tuning.tracking_cursor import read_cursor

LARGEST_BYTES: Final = 2**20  # of a word that is listened to
DEEPEST: Final = 32  # levels of it
_PARTS: Final = ("best", "metric", "tracking", "trials")  # that have parts of their own


def look(home: Path, backend: Backend, sweeps: Iterable[SweepRecord]) -> list[tuple[SweepRecord, Event]]:
    """What there is to hear of those of `sweeps` that had a driver. PlaceLostError where the place does not answer.

    Jobs first, words second: a driver's last word is written before its job is over.
    """
    watched = [sweep for sweep in sweeps if sweep.attempt]
    statuses = backend.statuses([sweep.id for sweep in watched]) if watched else {}
    seen = [(sweep, event_of(home, sweep, statuses.get(sweep.id))) for sweep in watched]
    return [(sweep, event) for sweep, event in seen if event is not None]


def event_of(home: Path, sweep: SweepRecord, status: JobStatus | None) -> Event | None:
    """What the lifecycle has to hear of a sweep whose job stands so; None for nothing."""
    if status is None or status.attempt < sweep.attempt:
        # a job that was never submitted is due while the sweep starts; later it counts as lost with its cluster
        is_missed = sweep.state in (State.RUNNING, State.STOPPING)
        return JobLost(sweep.attempt, _progress(home, sweep.id)) if is_missed else None
    if not sweep.state.is_placed and status.state.is_over:
        return None
    said = _progress(home, sweep.id)
    return JobSeen(status.attempt, status.state, said, status.message, _hours(said or {}))


def without_words(event: Event) -> Event:
    """What was seen of the job alone: what the driver has left cannot be made sense of."""
    match event:
        case JobSeen():
            return replace(event, progress=None, trial_hours=None)
        case JobLost():
            return replace(event, progress=None)
        case _:
            return event


def _hours(said: Mapping[str, Any]) -> float | None:
    hours = said.get("trial_hours")
    return float(hours) if isinstance(hours, int | float) and 0 <= hours < float("inf") else None


def _progress(home: Path, sweep_id: str) -> dict[str, Any] | None:
    return newest_word(sweeps_folder(home) / sweep_id)


def newest_word(folder: Path) -> dict[str, Any] | None:
    """What the driver last said of the sweep in `folder`, and which run in MLflow its tracker has made of it.

    None where there is nothing that can be read, or more than a driver would say.
    """
    said: Any = None
    with suppress(OSError, ValueError, RecursionError):
        said = json.loads(read_in(folder, PROGRESS_FILE, LARGEST_BYTES))
    if not (isinstance(said, dict) and _is_shallow(said)):
        return None
    for part in _PARTS:
        if not isinstance(said.get(part), dict | None):
            said.pop(part, None)
    cursor = read_cursor(folder)
    run = {"experiment_id": cursor.experiment_id, "run_id": cursor.run_id} if cursor.run_id else {}
    return {**said, "tracking": {**(said.get("tracking") or {}), **run}}


def _is_shallow(data: object, levels: int = DEEPEST) -> bool:
    """Whether whoever goes through `data` comes to its ends."""
    below = data.values() if isinstance(data, dict) else data if isinstance(data, list) else ()
    return levels >= 0 and all(_is_shallow(item, levels - 1) for item in below if isinstance(item, dict | list))
