"""Decisions on what goes wrong: what is tried again, what is not, and what never happens twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.spec.distributions import Real
from service.spec.space import Space
from service.tuning.decisions import FailureKind
from service.tuning.events import Reported
from service.tuning.history import Status
from service.tuning.ledger import read_ledger
from service.tuning.limits import Limits
from service.tuning.storage import FolderStorage
from tests.conducted import Exploiting, Failing, Sweep


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def test_results_of_an_older_attempt_are_not_recorded(folder: Path) -> None:
    sweep = Sweep(folder, Limits(5, max_trials=1))
    trial = sweep.start()
    sweep.conductor.attempt_failed(trial, 1, "infrastructure", "worker lost")
    assert sweep.start() == trial
    assert not sweep.report(trial, 1, attempt=1)
    assert sweep.history.trials[0].curve == {}
    assert sweep.report(trial, 1, attempt=2)


def test_epochs_that_are_trained_again_are_recorded_once(folder: Path) -> None:
    sweep = Sweep(folder, Limits(5, max_trials=1))
    trial = sweep.start()
    sweep.report(trial, 1, 0.5, checkpoint=sweep.saved(0, 1))
    sweep.report(trial, 2, 0.4)
    sweep.conductor.attempt_failed(trial, 1, "user", "boom")
    started = sweep.conductor.start()
    assert started is not None
    assert started.checkpoint is not None
    assert started.checkpoint.epoch == 1
    assert sweep.report(trial, 2, 0.9, checkpoint=sweep.saved(0, 2))
    reports = [r.event for r in read_ledger(folder) if isinstance(r.event, Reported)]
    assert [(r.epoch, r.metrics["loss"]) for r in reports] == [(1, 0.5), (2, 0.4)]
    latest = sweep.history.trials[0].latest_checkpoint
    assert latest is not None
    assert latest.epoch == 2


def test_a_users_error_is_retried_until_max_restarts(folder: Path) -> None:
    sweep = Sweep(folder, Limits(5, max_trials=1, max_restarts=2))
    for _ in range(3):
        trial = sweep.start()
        sweep.conductor.attempt_failed(trial, sweep.history.trials[trial].attempt, "user", "ValueError: boom")
    assert sweep.history.trials[0].status is Status.FAILED
    assert sweep.history.trials[0].cause == "ValueError: boom"
    assert sweep.history.trials[0].attempt == 3


@pytest.mark.parametrize("kind", ["fatal", "memory"])
def test_what_would_fail_again_is_not_tried_again(folder: Path, kind: FailureKind) -> None:
    sweep = Sweep(folder, Limits(5, max_trials=2))
    sweep.conductor.attempt_failed(sweep.start(), 1, kind, "no")
    assert sweep.history.trials[0].status is Status.FAILED


def test_lost_workers_do_not_count_against_the_trial(folder: Path) -> None:
    sweep = Sweep(folder, Limits(50, max_trials=1, max_restarts=0))
    for attempt in range(1, 11):
        trial = sweep.start()
        sweep.report(trial, attempt, checkpoint=sweep.saved(0, attempt))
        sweep.conductor.attempt_failed(trial, attempt, "infrastructure", "node lost")
    assert sweep.history.trials[0].status is Status.PENDING


def test_a_trial_that_ends_every_worker_before_it_reports_has_failed(folder: Path) -> None:
    sweep = Sweep(folder, Limits(5, max_trials=1))
    for attempt in range(1, 7):
        sweep.conductor.attempt_failed(sweep.start(), attempt, "infrastructure", "the worker died")
    assert sweep.history.trials[0].status is Status.FAILED


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_it_is_used(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=1))
    trial = sweep.start()
    for epoch in (1, 2, 3):
        sweep.report(trial, epoch, checkpoint=sweep.saved(0, epoch))
    sweep.conductor.attempt_failed(trial, 1, "infrastructure", "node lost")
    for expected in (3, 2, 1, None):
        started = sweep.conductor.start()
        assert started is not None
        assert (started.checkpoint.epoch if started.checkpoint else None) == expected
        sweep.conductor.checkpoint_lost(trial, started.attempt, "damaged")
    assert sweep.history.trials[0].restarts == 0


def test_a_searcher_that_fails_is_replaced_by_random_points(folder: Path) -> None:
    space = Space({"x": Real(0.0, 1.0)})
    sweep = Sweep(folder, Limits(1, max_trials=2), searcher=Failing([ValueError("no")] * 3 + [{"x": 7.0}] * 3))
    sweep.decider.space = space
    for _ in range(2):
        sweep.report(sweep.start(), 1)
    assert all(space.contains(t.params) for t in sweep.history.trials)
    assert [t.source for t in sweep.history.trials] == ["random", "random"]
    assert len(sweep.decider.warnings) == 2


def test_a_searcher_that_fails_once_is_asked_again(folder: Path) -> None:
    sweep = Sweep(folder, Limits(1, max_trials=1), searcher=Failing([ValueError("busy"), {"x": 0.5}]))
    sweep.decider.space = Space({"x": Real(0.0, 1.0)})
    sweep.report(sweep.start(), 1)
    assert [(t.params, t.source) for t in sweep.history.trials] == [({"x": 0.5}, "searcher")]


def test_storage_that_is_away_is_waited_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(folder, Limits(2, max_trials=1))
    trial = sweep.start()
    failures = iter([OSError(28, "No space left on device")] * 2)
    create = FolderStorage.create

    def full_for_a_while(self: FolderStorage, name: str, data: bytes) -> None:
        error = next(failures, None)
        if error is not None:
            raise error
        create(self, name, data)

    monkeypatch.setattr(FolderStorage, "create", full_for_a_while)
    monkeypatch.setattr("service.tuning.patience.FIRST_WAIT_S", 0.001)
    assert sweep.report(trial, 1)
    assert len([r for r in read_ledger(folder) if isinstance(r.event, Reported)]) == 1


def test_a_sweep_whose_first_trials_fail_alike_ends_with_their_cause(folder: Path) -> None:
    sweep = Sweep(folder, Limits(5, max_trials=50, max_failed_trials=10))
    for _ in range(3):
        sweep.conductor.attempt_failed(sweep.start(), 1, "fatal", "the fit did not log 'val_acc'")
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert sweep.conductor.finished.ending == "failed"
    assert "first 3 trials all failed alike: the fit did not log 'val_acc'" in sweep.conductor.finished.reason


def test_too_many_failures_end_the_sweep(folder: Path) -> None:
    sweep = Sweep(folder, Limits(1, max_trials=50, max_failed_trials=1))
    sweep.report(sweep.start(), 1)
    for cause in "ab":
        sweep.conductor.attempt_failed(sweep.start(), 1, "fatal", cause)
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert "max_failed_trials is 1" in sweep.conductor.finished.reason


def test_a_lost_driver_is_followed_by_one_that_knows_the_same(folder: Path) -> None:
    limits = Limits(5, max_trials=3)
    sweep = Sweep(folder, limits)
    sweep.report(sweep.start(), 1, 0.3)
    sweep.start()
    again = Sweep(folder, limits)
    again.conductor.interrupt_running("the driver before was lost")
    assert [t.status for t in again.history.trials] == [Status.PENDING, Status.PENDING]
    assert [again.start(), again.start(), again.start()] == [0, 1, 2]
    assert again.history.proposals == 3
    assert [t.attempt for t in again.history.trials] == [2, 2, 1]
    assert again.history.trials[0].restarts == 0


def test_a_trial_that_breaks_after_it_exploited_another_is_retried_from_there(folder: Path) -> None:
    sweep = Sweep(folder, Limits(9, max_trials=2), scheduler=Exploiting())
    for number, epochs in ((0, (1, 2)), (1, (1,))):
        trial = sweep.start()
        for epoch in epochs:
            sweep.report(trial, epoch, checkpoint=sweep.saved(number, epoch))
    exploited = sweep.conductor.start()
    assert exploited is not None
    assert (exploited.trial, exploited.checkpoint) == (1, sweep.history.trials[0].latest_checkpoint)
    sweep.conductor.attempt_failed(1, 2, "infrastructure", "node lost")
    again = sweep.conductor.start()
    assert again is not None
    assert again.checkpoint == exploited.checkpoint
    assert (folder / "checkpoints/0/2.ckpt").exists()


def test_a_commit_that_could_not_say_it_was_done_is_not_taken_for_another_drivers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = Sweep(folder, Limits(2, max_trials=1))
    trial = sweep.start()
    failures = iter([OSError(5, "Input/output error")])
    create = FolderStorage.create

    def done_but_unsure(self: FolderStorage, name: str, data: bytes) -> None:
        create(self, name, data)
        error = next(failures, None)
        if error is not None:
            raise error

    monkeypatch.setattr(FolderStorage, "create", done_but_unsure)
    monkeypatch.setattr("service.tuning.patience.FIRST_WAIT_S", 0.001)
    assert sweep.report(trial, 1)
    assert [r.sequence for r in read_ledger(folder)] == list(range(sweep.history.sequence))


def test_a_storage_folder_that_is_gone_is_not_made_anew(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the storage folder is gone"):
        FolderStorage(tmp_path / "mount").create("ledger/x", b"")
    assert not (tmp_path / "mount").exists()
