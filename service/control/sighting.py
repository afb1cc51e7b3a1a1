"""What the controller sees of sweeps: their jobs and the drivers' newest words, turned into events of the lifecycle."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cluster.backend import Backend, JobStatus
from service.queueing.lifecycle import Event, JobLost, JobSeen
from service.records import State, SweepRecord
from service.sweeps.driver_word import tidied
from service.sweeps.folders import Sweep, sweeps_folder
from service.sweeps.once_log import OnceLog
from service.tuning.tracking_cursor import read_cursor

_odd: Final = OnceLog(logging.getLogger(__name__))


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
    return JobSeen(status.attempt, status.state, said, status.message, (said or {}).get("trial_hours"))


def without_words(event: Event) -> Event:
    """What was seen of the job alone: what the driver has left cannot be made sense of."""
    match event:
        case JobSeen():
            return replace(event, progress=None, trial_hours=None)
        case JobLost():
            return replace(event, progress=None)
        case _:
            return event


def _progress(home: Path, sweep_id: str) -> dict[str, Any] | None:
    try:
        said = newest_word(sweeps_folder(home) / sweep_id)
    except Exception as error:  # noqa: BLE001  # of one folder: the others have their turn
        _odd.warn(sweep_id, f"what the driver of {sweep_id} says is passed over: {error!r}", error)
        return None
    _odd.forget(sweep_id)
    return said


def newest_word(folder: Path) -> dict[str, Any] | None:
    """What the driver last said of the sweep in `folder`, and which run in MLflow its tracker has made of it.

    None where there is nothing that can be read, or more than a driver would say; see `driver_word`.
    """
    said = Sweep(folder).progress()
    if said is None:
        return None
    cursor = read_cursor(folder)
    run = {"experiment_id": cursor.experiment_id, "run_id": cursor.run_id} if cursor.run_id else {}
    return tidied({**said, "tracking": {**said.get("tracking", {}), **run}})
