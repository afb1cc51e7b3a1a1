"""A sweep on an object store whose drivers are killed at writes of every kind: each result is there once at its end.

Without Ray: attempts run one after the other in this process, as its drivers hand them out.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from service.errors import SweepRunningError
from service.spec.sweep_spec import parse_sweep
from service.tuning.assignment import Assignment, Report
from service.tuning.decisions import Arrival
from service.tuning.events import AttemptStarted, Reported, SweepEnded, SweepPaused, TrialEnded
from service.tuning.lease import Holder, Lease, Senses, take
from service.tuning.ledger import read_ledger
from service.tuning.storage_objects import ObjectStorage, object_storage
from service.tuning.storage_place import storage_at
from service.tuning.sweep_driver import FAILED, OVER, PAUSED, Driver
from service.tuning.sweep_folder import Job, write_job
from service.tuning.trial_checkpoint import verified_path, write_checkpoint
from tests.object_store import ObjectStore

SWEEP = """
name: killed
fit: {trainer: {max_epochs: 4}}
metric: {name: loss, goal: minimize}
parameters: {model.x: {min: 0.0, max: 1.0}}
search: {name: random, start_from_defaults: false}
scheduler: {name: fifo}
budget: {max_trials: 4, max_concurrent_trials: 1}
"""


class Killed(BaseException):
    """The driver's process is gone, as by SIGKILL."""


@dataclass
class Blow:
    """Kills whoever makes the `left`-th write from now, before the store has it or after."""

    left: int = 0
    is_after: bool = False
    real: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        for name in ("create", "replace", "write_file", "delete_each"):
            self.real[name] = getattr(ObjectStorage, name)
            patch.setattr(ObjectStorage, name, self._struck(name))

    def _struck(self, name: str) -> Callable[..., Any]:
        def call(storage: ObjectStorage, *given: Any) -> Any:  # noqa: ANN401  # whatever is written
            self.left -= 1
            if self.left == 0 and not self.is_after:
                raise Killed
            answer = self.real[name](storage, *given)
            if self.left == 0:
                raise Killed
            return answer

        return call


@pytest.fixture
def place(s3: ObjectStore, tmp_path: Path) -> ObjectStorage:
    found = object_storage(f"{s3.url}/{tmp_path.name}/sweeps/killed-20261122-abcdef")
    spec = parse_sweep(SWEEP, file="sweep.yaml", root=tmp_path)
    write_job(found, Job(found.name, spec.to_dict()))
    return found


def lease_of(place: ObjectStorage, pid: int) -> Lease:
    """What a driver has whose predecessor is known to be gone: it waits for nobody."""
    return take(storage_at(place), Holder("here", pid, str(pid)), Senses(sleep=_never, is_at_work=lambda _: False))


def _never(_: float) -> None:
    pytest.fail("a lease that was not given back is not waited for where its holder is gone")


def drive(place: ObjectStorage, home: Path, pid: int, *, until: int = 10**9) -> int | None:
    """Run the sweep as driver number `pid`, to its end or for so many reports; the exit code."""
    driver = Driver(place, home, lease_of(place, pid))
    if driver.history.ended is not None:
        return OVER if driver.history.ended.ending == "completed" else FAILED
    driver.conductor.is_open = False
    assert driver.ready({"faults": [], "defaults": {}, "is_first": True})
    while (started := driver.conductor.start()) is not None:
        assignment = Assignment.from_dict(json.loads(json.dumps({**driver.shared(), **driver.assign(started)})))
        until = train(driver, assignment, until)
        if until <= 0:
            driver.pause("told to")
    driver.conclude(None)
    return driver._code


def train(driver: Driver, assignment: Assignment, until: int) -> int:
    """One attempt: losses that depend on parameters and epoch only, a checkpoint after each epoch."""
    first = 1
    if assignment.start is not None:
        held = verified_path(object_storage(assignment.storage), assignment.start, Path(driver.home))
        first = int(held.read_text()) + 1
        assert first == assignment.start.epoch + 1
    for epoch in range(first, assignment.max_epochs + 1):
        saved = write_checkpoint(assignment, epoch, lambda path: _text(path, str(epoch)))  # noqa: B023  # called now
        report = Report(epoch, {"loss": assignment.params["model.x"] / epoch}, 1.0, saved, diverged=False)
        until -= 1
        arrival = Arrival(assignment.trial, assignment.attempt, epoch, report.metrics, 1.0, saved)
        if not driver.conductor.report(arrival) or until <= 0:
            break
    else:
        driver.conductor.attempt_over(assignment.trial, assignment.attempt)
    return until


def _text(path: str, text: str) -> None:
    Path(path).write_text(text)


def check(place: ObjectStorage, acknowledged: list[Reported]) -> None:
    """Every trial over once, every epoch once, what was on record is so still, and no file is left over."""
    records = read_ledger(place)
    reports = [r.event for r in records if isinstance(r.event, Reported)]
    assert [report for report in reports if report in acknowledged] == acknowledged
    assert Counter((r.trial, r.epoch) for r in reports) == Counter((t, e) for t in range(4) for e in range(1, 5))
    assert sorted(r.event.trial for r in records if isinstance(r.event, TrialEnded)) == [0, 1, 2, 3]
    assert [r.event.ending for r in records if isinstance(r.event, SweepEnded)] == ["completed"]
    assert sum(len(place.names(f"checkpoints/{trial}")) for trial in place.names("checkpoints")) == 1
    assert json.loads(place.read("progress.json"))["state"] == "completed"
    assert {"report.html", "best.yaml"} <= set(place.names("report"))
    assert len(place.names("lease")) == 1


@pytest.mark.parametrize("is_after", [False, True], ids=["before it is made", "after it"])
def test_drivers_that_are_killed_at_any_write_lose_nothing(
    place: ObjectStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_after: bool
) -> None:
    blow = Blow(is_after=is_after)
    blow.attach(monkeypatch)
    seen: list[Reported] = []
    for pid, distance in enumerate((1, 2, 3, 4, 5, 6, 7, 9, 11, 8, 13, 10, 12, 17, 14, 25), start=10):
        blow.left = distance
        try:
            drive(place, tmp_path, pid)
        except Killed:
            reports = [r.event for r in read_ledger(place) if isinstance(r.event, Reported)]
            assert reports[: len(seen)] == seen
            seen = reports
    blow.left = 0
    assert drive(place, tmp_path, 99) == OVER
    assert len(seen) > 6, "hardly anything was done by those who were killed"
    check(place, seen)


def test_a_driver_that_slept_leaves_what_its_successor_has(place: ObjectStorage, tmp_path: Path) -> None:
    sleeper = Driver(place, tmp_path, lease_of(place, 1))
    assert sleeper.ready({"faults": [], "defaults": {}, "is_first": True})
    started = sleeper.conductor.start()
    assert isinstance(started, AttemptStarted)
    assert drive(place, tmp_path, 2) == OVER
    done = read_ledger(place)
    files = place.names("checkpoints/0"), place.names("checkpoints/1")
    with pytest.raises(SweepRunningError):
        sleeper.conductor.report(Arrival(started.trial, started.attempt, 1, {"loss": 0.0}, 1.0, None))
    with pytest.raises(SweepRunningError):
        sleeper.conductor.commit([SweepPaused("late")])
    assert read_ledger(place) == done
    assert (place.names("checkpoints/0"), place.names("checkpoints/1")) == files


def test_a_paused_sweep_goes_on_from_its_checkpoints(place: ObjectStorage, tmp_path: Path) -> None:
    assert drive(place, tmp_path, 1, until=6) == PAUSED
    assert drive(place, tmp_path, 2) == OVER
    starts = [r.event for r in read_ledger(place) if isinstance(r.event, AttemptStarted)]
    assert [start.checkpoint is not None for start in starts].count(True) == 1
    check(place, [])
