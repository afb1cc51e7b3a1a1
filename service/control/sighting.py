"""What the controller sees of sweeps: their jobs and the drivers' newest words, turned into events of the lifecycle."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from cluster.backend import Backend, JobError, JobState, JobStatus, UnknownJobError
from service.queueing.lifecycle import Event, JobLost, JobSeen
from service.records import State, SweepRecord
from service.spec.document import shorten
from service.sweeps.driver_word import tidied
from service.sweeps.folders import Sweep, sweeps_folder
from service.sweeps.once_log import OnceLog
from service.tuning.storage_objects import ObjectStorage
from service.tuning.storage_place import Place
from service.tuning.tracking_cursor import read_cursor

_AT_ONCE: Final = 16
_LONGEST_END: Final = 300  # characters of what a job printed last
_odd: Final = OnceLog(logging.getLogger(__name__))
_hearing: Final = threading.Lock()
_heard: Final[dict[ObjectStorage, tuple[float, dict[str, Any] | None]]] = {}  # what was heard last stands last


def look(root: Place, backend: Backend, sweeps: Iterable[SweepRecord]) -> list[tuple[SweepRecord, Event]]:
    """What there is to hear of those of `sweeps` that had a driver. PlaceLostError where the place does not answer.

    Jobs first, words second: a driver's last word is written before its job is over.
    """
    watched = [sweep for sweep in sweeps if sweep.attempt]
    statuses = backend.statuses([sweep.id for sweep in watched]) if watched else {}
    for sweep in watched:
        if _is_missed(sweep, statuses.get(sweep.id)):  # which may be behind on what another replica has submitted
            with suppress(UnknownJobError):
                statuses[sweep.id] = backend.status(sweep.id)

    def seen(sweep: SweepRecord) -> Event | None:
        return _explained(backend, sweep.id, event_of(root, sweep, statuses.get(sweep.id)))

    if isinstance(root, Path):
        found = list(map(seen, watched))
    else:
        with ThreadPoolExecutor(_AT_ONCE) as pool:  # each waits for the network
            found = list(pool.map(seen, watched))
    return [(sweep, event) for sweep, event in zip(watched, found, strict=True) if event is not None]


def event_of(root: Place, sweep: SweepRecord, status: JobStatus | None) -> Event | None:
    """What the lifecycle has to hear of a sweep whose job stands so; None for nothing."""
    if status is None or status.attempt < sweep.attempt:
        return JobLost(sweep.attempt, _progress(root, sweep.id, is_last=True)) if _is_missed(sweep, status) else None
    if not sweep.state.is_placed and status.state.is_over:
        return None
    said = _progress(root, sweep.id, is_last=status.state.is_over)
    return JobSeen(status.attempt, status.state, said, status.message, (said or {}).get("trial_hours"))


def _explained(backend: Backend, sweep_id: str, event: Event | None) -> Event | None:
    """A driver that failed before its first word did not even start: the end of what its job printed says why."""
    if not isinstance(event, JobSeen) or event.state is not JobState.FAILED or event.progress is not None:
        return event
    try:
        printed = backend.logs(sweep_id).text
    except JobError:
        return event
    end = next(filter(None, map(str.strip, reversed(printed.splitlines()))), "")
    return replace(event, message=": ".join(filter(None, (event.message, shorten(end, _LONGEST_END)))))


def _is_missed(sweep: SweepRecord, status: JobStatus | None) -> bool:
    """Whether the sweep's job ought to be there. One that was never submitted is due while the sweep starts.

    Later it counts as lost with its cluster.
    """
    is_there = status is not None and status.attempt >= sweep.attempt
    return sweep.state in (State.RUNNING, State.STOPPING) and not is_there


def without_words(event: Event) -> Event:
    """What was seen of the job alone: what the driver has left cannot be made sense of."""
    match event:
        case JobSeen():
            return replace(event, progress=None, trial_hours=None)
        case JobLost():
            return replace(event, progress=None)
        case _:
            return event


def _progress(root: Place, sweep_id: str, *, is_last: bool) -> dict[str, Any] | None:
    try:
        said = newest_word(sweeps_folder(root) / sweep_id, is_last=is_last)
    except Exception as error:  # noqa: BLE001  # of one folder: the others have their turn
        _odd.warn(sweep_id, f"what the driver of {sweep_id} says is passed over: {error!r}", error)
        return None
    _odd.forget(sweep_id)
    return said


def newest_word(place: Place, *, is_last: bool = False) -> dict[str, Any] | None:
    """What the driver last said of the sweep in `place`, and which run in MLflow its tracker has made of it.

    None where there is nothing that can be read, or more than a driver would say; see `driver_word`. An object store
    is asked every few seconds only, however many want to know, unless no more can come (`is_last`).
    """
    if isinstance(place, Path):
        return _word_in(place)
    heard_at, word = _heard.get(place, (-math.inf, None))
    if is_last or time.monotonic() - heard_at > place.pace_s / 2:
        word = _word_in(place)
        _remember(place, word)
    return word


def _remember(place: ObjectStorage, word: dict[str, Any] | None) -> None:
    """Keep a word until the store is asked again anyway: it may be large, and a service has many sweeps."""
    with _hearing:
        now = time.monotonic()
        _heard.pop(place, None)
        _heard[place] = now, word
        while now - _heard[oldest := next(iter(_heard))][0] > oldest.pace_s / 2:
            del _heard[oldest]


def _word_in(place: Place) -> dict[str, Any] | None:
    said = Sweep(place).progress()
    if said is None:
        return None
    cursor = read_cursor(place)
    run = {"experiment_id": cursor.experiment_id, "run_id": cursor.run_id} if cursor.run_id else {}
    return tidied({**said, "tracking": {**said.get("tracking", {}), **run}})
