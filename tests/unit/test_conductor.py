"""Decisions, one by one: what starts, what ends, what waits, and what is left on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.spec.objective import Constraint, Objective, Objectives
from service.tuning.events import AttemptStarted, CheckpointsDropped, SweepEnded, SweepPaused
from service.tuning.history import Status
from service.tuning.ledger import read_ledger
from service.tuning.limits import Limits
from service.tuning.retention import RetentionPolicy
from tests.conducted import Counting, Patient, Sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_a_trial_that_reaches_max_epochs_is_completed(folder: Path) -> None:
    sweep = Sweep(folder, Limits(max_epochs=2, max_trials=1))
    trial = sweep.start()
    assert sweep.report(trial, 1)
    assert not sweep.report(trial, 2)
    assert sweep.history.trials[0].status is Status.COMPLETED
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert sweep.conductor.finished.reason == "all 1 trials are done"


def test_defaults_and_start_points_come_before_the_searcher(folder: Path) -> None:
    points = [("defaults", {"x": -1}), ("start_point", {"x": -2})]
    sweep = Sweep(folder, Limits(1, max_trials=4), first_points=points)
    for _ in range(4):
        sweep.report(sweep.start(), 1)
    assert [t.params["x"] for t in sweep.history.trials] == [-1, -2, 0, 1]
    assert [t.source for t in sweep.history.trials] == ["defaults", "start_point", "searcher", "searcher"]


def test_an_exhausted_space_ends_the_sweep(folder: Path) -> None:
    sweep = Sweep(folder, Limits(1), searcher=Counting(2))
    sweep.report(sweep.start(), 1)
    sweep.report(sweep.start(), 1)
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert sweep.conductor.finished.reason == "the search space is used up"


def test_the_wall_clock_stops_running_trials_at_their_next_report(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, wall_clock_s=100.0))
    trial = sweep.start()
    assert sweep.report(trial, 1)
    sweep.now = 101.0
    assert not sweep.report(trial, 2)
    assert sweep.history.trials[0].status is Status.STOPPED
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert sweep.conductor.finished.ending == "completed"


def test_gpu_hours_end_the_sweep(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, gpu_hours=0.001, gpu_per_trial=0.5))
    trial = sweep.start()
    assert sweep.report(trial, 1, seconds=1.0)
    assert not sweep.report(trial, 2, seconds=7.3)


def test_a_reached_target_ends_the_sweep(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=9))
    first, second = sweep.start(), sweep.start()
    assert not sweep.report(first, 1, 0.0)
    assert not sweep.report(second, 1, 5.0)
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert sweep.conductor.finished.reason == "trial 0 reached the target"


def test_a_diverged_trial_ends_at_once_and_is_never_best(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=2))
    first, second = sweep.start(), sweep.start()
    assert not sweep.report(first, 1, 1e30, diverged=True)
    sweep.report(second, 1, 3.0)
    assert sweep.history.trials[0].status is Status.DIVERGED
    assert sweep.history.ranking() == [(1, 1)]


def test_paused_trials_go_on_when_no_new_ones_come(folder: Path) -> None:
    sweep = Sweep(folder, Limits(2, max_trials=2), scheduler=Patient(pause_at=(1,), drops=(1,)))
    for _ in range(2):
        assert not sweep.report(sweep.start(), 1)
    started = sweep.conductor.start()
    assert isinstance(started, AttemptStarted)
    assert (started.trial, started.reason, started.attempt) == (0, "promoted", 2)
    assert not sweep.report(0, 2)
    assert sweep.conductor.start() is None
    assert sweep.history.trials[1].status is Status.STOPPED
    assert sweep.conductor.finished is not None


def test_a_draining_sweep_starts_nothing_and_can_be_resumed(folder: Path) -> None:
    limits = Limits(5, max_trials=2)
    sweep = Sweep(folder, limits)
    trial = sweep.start()
    sweep.conductor.is_draining = True
    assert not sweep.report(trial, 1, checkpoint=sweep.saved(0, 1))
    assert sweep.conductor.start() is None
    sweep.conductor.end("received SIGINT")
    sweep.conductor.end("told to leave")  # as once the grace after SIGTERM is over, while the rest is delivered
    pauses = [record.event for record in read_ledger(folder) if isinstance(record.event, SweepPaused)]
    assert pauses == [SweepPaused("received SIGINT")]
    again = Sweep(folder, limits)
    started = again.conductor.start()
    assert started is not None
    assert (started.trial, started.attempt) == (0, 2)
    assert started.checkpoint is not None


def test_the_end_is_on_record(folder: Path) -> None:
    sweep = Sweep(folder, Limits(1, max_trials=1))
    sweep.report(sweep.start(), 1)
    sweep.conductor.start()
    sweep.conductor.end(None)
    assert read_ledger(folder)[-1].event == SweepEnded("completed", "all 1 trials are done")


def test_checkpoints_that_nothing_needs_are_dropped_on_record_then_on_disk(folder: Path) -> None:
    sweep = Sweep(folder, Limits(3, max_trials=3))
    for number, loss in enumerate((3.0, 1.0, 2.0)):
        trial = sweep.start()
        for epoch in (1, 2, 3):
            sweep.report(trial, epoch, loss / epoch, checkpoint=sweep.saved(number, epoch))
    left = sorted(p.relative_to(folder).as_posix() for p in (folder / "checkpoints").rglob("*.ckpt"))
    assert left == ["checkpoints/1/3.ckpt"]
    dropped = [p for r in read_ledger(folder) if isinstance(r.event, CheckpointsDropped) for p in r.event.paths]
    assert len(dropped) == 8
    assert Sweep(folder, Limits(3)).history.trials[1].checkpoints[0].path == "checkpoints/1/3.ckpt"


def test_constraints_put_infeasible_trials_behind(folder: Path) -> None:
    objectives = Objectives((Objective("loss"),), (Constraint.parse("latency_ms <= 20"),))
    sweep = Sweep(folder, Limits(1, max_trials=3), objectives=objectives)
    for loss, latency in ((0.1, 50.0), (0.9, 10.0), (0.5, 21.0)):
        sweep.report(sweep.start(), 1, loss, metrics={"latency_ms": latency})
    assert [trial for trial, _ in sweep.history.ranking()] == [1, 2, 0]


def test_checkpoints_of_trials_that_end_while_they_wait_are_dropped(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=3, wall_clock_s=10.0), scheduler=Patient(pause_at=(1,)))
    for number in range(3):
        sweep.report(sweep.start(), 1, 1.0 + number, checkpoint=sweep.saved(number, 1))
    sweep.now = 11.0
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert [p.parent.name for p in (folder / "checkpoints").rglob("*.ckpt")] == ["0"]


def test_files_that_the_record_does_not_name_are_swept_up(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=1))
    trial = sweep.start()
    sweep.report(trial, 1, checkpoint=sweep.saved(0, 1))
    sweep.saved(0, 2)
    sweep.conductor.sweep_up()
    assert [p.name for p in (folder / "checkpoints" / "0").iterdir()] == ["1.ckpt"]


def test_a_draining_attempt_that_had_no_chance_to_save_gets_one_more_epoch(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=1))
    trial = sweep.start()
    sweep.conductor.is_draining = True
    assert sweep.report(trial, 1)
    assert not sweep.report(trial, 2, checkpoint=sweep.saved(0, 2))


def test_what_may_yet_become_the_best_keeps_its_checkpoint_until_the_end(folder: Path) -> None:
    both = Objectives((Objective("loss"), Objective("size")))
    sweep = Sweep(folder, Limits(1, max_trials=3), objectives=both, retention=RetentionPolicy(runners_up=1))
    leaders = []
    for loss, size in ((7.0, 0.0), (4.0, 3.0), (2.0, 5.0)):
        trial = sweep.start()
        sweep.report(trial, 1, loss, metrics={"size": size}, checkpoint=sweep.saved(trial, 1))
        leaders.append(sweep.history.ranking()[0][0])
        assert sweep.history.trials[leaders[-1]].checkpoints
    assert leaders == [0, 0, 1], "the last one makes of an earlier one the compromise"
    sweep.conductor.start()
    sweep.conductor.end(None)
    left = sorted(p.relative_to(folder).as_posix() for p in (folder / "checkpoints").rglob("*.ckpt"))
    assert left == ["checkpoints/1/1.ckpt"]
