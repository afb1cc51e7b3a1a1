"""The held-out test: after the search and seen by nobody who decides, once, and never at the cost of the result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from service.spec.sweep_spec import parse_sweep
from service.tuning.assembly import tests_winner as is_tested
from service.tuning.decisions import Decider
from service.tuning.events import HeldOutEnded, HeldOutStarted, Params, SearchEnded, TrialProposed
from service.tuning.held_out import MAX_LOSSES, HeldOut, scores, shown_names, winning_fits
from service.tuning.history import History
from service.tuning.ledger import read_ledger
from service.tuning.limits import Limits
from service.tuning.replay import replay
from service.tuning.report_held_out import held_out_lines, held_out_of
from service.tuning.retention import RetentionPolicy, expendable
from tests.conducted import LOSS, Counting, Patient, Sweep

LIMITS = Limits(2, max_trials=2, max_restarts=0)


class Closing(Counting):
    """Proposes until the search is over; asked after that, it fails the test."""

    def propose(self, history: History) -> Params | None:
        assert history.search_ended is None, "the search goes on"
        return super().propose(history)


def searched(folder: Path, losses: tuple[float, float] = (2.0, 1.0)) -> Sweep:
    """A sweep whose two trials are over, trial 1 the best unless told otherwise."""
    sweep = Sweep(folder, LIMITS, searcher=Closing())
    sweep.decider.tests = True
    for loss in losses:
        trial = sweep.start()
        sweep.report(trial, 1, loss + 1)
        sweep.report(trial, 2, loss, checkpoint=sweep.saved(trial, 2))
    return sweep


def begun(sweep: Sweep) -> HeldOutStarted:
    started = sweep.conductor.start()
    assert isinstance(started, HeldOutStarted)
    assert sweep.conductor.start() is None, "it is tested once"
    assert sweep.conductor.finished is None
    return started


def results(folder: Path) -> list[HeldOutEnded]:
    return [r.event for r in read_ledger(folder) if isinstance(r.event, HeldOutEnded)]


def test_the_winner_is_tested_once_the_search_is_over_and_the_record_can_be_replayed(tmp_path: Path) -> None:
    sweep = searched(tmp_path)
    before = [(t.number, t.params, dict(t.curve), t.metrics) for t in sweep.history.trials], sweep.history.ranking()
    started = begun(sweep)
    assert (started.trial, started.attempt, started.checkpoint.epoch) == (1, 2, 2)
    assert sweep.history.search_ended == SearchEnded("completed", "all 2 trials are done")
    sweep.conductor.tested(1, 1, {"test_loss": 7.0})
    assert not results(tmp_path), "that was an attempt, and no test"
    sweep.conductor.tested(1, 2, {"test_loss": 0.5})
    sweep.conductor.tested(1, 2, {"test_loss": 9.0})
    assert sweep.conductor.start() is None
    sweep.conductor.end(None)
    assert results(tmp_path) == [HeldOutEnded(1, 2, "finished", {"test_loss": 0.5})]
    after = [(t.number, t.params, dict(t.curve), t.metrics) for t in sweep.history.trials], sweep.history.ranking()
    assert after == before
    assert held_out_lines(held_out_of(sweep.history)) == ["  held out    held_out_loss 0.5"]
    decider = Decider(Closing(), Patient(), LIMITS, History(LOSS), tests=True)
    assert replay(read_ledger(tmp_path), decider).difference is None


def test_a_driver_that_is_lost_while_it_tests_is_followed_by_one_that_tests_and_asks_nobody(tmp_path: Path) -> None:
    begun(searched(tmp_path))
    sweep = Sweep(tmp_path, LIMITS, searcher=Closing())
    sweep.decider.tests = True
    sweep.conductor.interrupt_running("the driver before was lost")
    assert begun(sweep).attempt == 3
    sweep.conductor.tested(1, 2, {"test_loss": 9.0})
    sweep.conductor.tested(1, 3, {"test_loss": 0.5})
    assert sweep.conductor.start() is None
    sweep.conductor.end(None)
    assert [e.kind for e in results(tmp_path)] == ["interrupted", "finished"]
    decider = Decider(Closing(), Patient(), LIMITS, History(LOSS), tests=True)
    assert replay(read_ledger(tmp_path), decider).difference is None


def test_lost_workers_are_replaced_until_the_test_must_be_what_ends_them(tmp_path: Path) -> None:
    sweep = searched(tmp_path)
    for _ in range(MAX_LOSSES):
        sweep.conductor.attempt_failed(1, begun(sweep).attempt, "infrastructure", "the node is gone")
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert [e.kind for e in results(tmp_path)] == ["lost"] * MAX_LOSSES + ["failed"]
    assert "the node is gone" in held_out_lines(held_out_of(sweep.history))[0]


@pytest.mark.parametrize("how", ["raises", "hangs", "says nothing", "logs nothing", "lost its weights"])
def test_a_test_that_fails_costs_the_sweep_nothing_and_says_why(tmp_path: Path, how: str) -> None:
    sweep = searched(tmp_path)
    attempt = begun(sweep).attempt
    match how:
        case "raises" | "hangs":
            sweep.conductor.attempt_failed(1, attempt, "user" if how == "raises" else "hung", "ValueError: no")
        case "says nothing":
            sweep.conductor.attempt_over(1, attempt)
        case "logs nothing":
            sweep.conductor.tested(1, attempt, {})
        case _:
            sweep.conductor.checkpoint_lost(1, attempt, "damaged")
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert sweep.conductor.finished.ending == "completed"
    assert sweep.history.ranking()[0][0] == 1
    assert len(results(tmp_path)) == 1
    assert held_out_lines(held_out_of(sweep.history))[0].startswith("  held out    no score: ")


def test_nothing_is_tested_where_nobody_asks_or_nobody_has_won(tmp_path: Path) -> None:
    for name in ("unasked", "failed"):
        (tmp_path / name).mkdir()
    sweep = searched(tmp_path / "unasked")
    sweep.decider.tests = False
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert not any(isinstance(r.event, SearchEnded) for r in read_ledger(tmp_path / "unasked"))
    sweep = Sweep(tmp_path / "failed", Limits(2, max_trials=1, max_restarts=0))
    sweep.decider.tests = True
    sweep.conductor.attempt_failed(sweep.start(), 1, "user", "broke")
    assert sweep.conductor.start() is None
    assert sweep.conductor.finished is not None
    assert held_out_lines(held_out_of(sweep.history)) == []


def raced(tmp_path: Path) -> tuple[Sweep, History]:
    """Trial 0 with two complete fits and one that failed, all with a checkpoint at the best epoch and a later one."""
    sweep = Sweep(tmp_path, Limits(3, max_trials=1))
    sweep.decider.tests = True
    events: list[Any] = [TrialProposed(i, {"x": 0}, "repeat", repeats=0, fold=i) for i in (1, 2)]
    sweep.start()
    sweep.conductor.commit(events)
    for trial, loss in enumerate((1.0, 2.0, 3.0)):
        started = sweep.decider._attempt(sweep.history.trials[trial], {"x": 0}, None, "")  # as a race begins it
        sweep.conductor.commit([started] if trial else [])
        for epoch in (1, 2):
            sweep.report(trial, epoch, loss + epoch, checkpoint=sweep.saved(trial, epoch))
        if trial < 2:
            sweep.report(trial, 3, loss + 3)
        else:
            sweep.conductor.attempt_failed(trial, 1, "fatal", "broke")
    return sweep, sweep.history


def test_with_folds_all_complete_fits_of_the_winner_are_tested_and_keep_their_weights_for_it(tmp_path: Path) -> None:
    _, history = raced(tmp_path)
    assert winning_fits(history) == [(0, 1), (1, 1)]
    needed = {"checkpoints/0/1.ckpt", "checkpoints/1/1.ckpt"}
    assert needed <= {c.path for t in history.trials for c in t.checkpoints}
    assert not needed & {c.path for c in expendable(history, RetentionPolicy(1, 1, keeps_fits=True))}
    assert "checkpoints/1/1.ckpt" in {c.path for c in expendable(history, RetentionPolicy(1, 1))}


def test_the_mean_of_several_fits_is_told_with_its_spread() -> None:
    tests = [HeldOut(n, 2, 3, metrics={"test_acc": value, "test/f1": 0.5}) for n, value in enumerate((0.8, 0.9))]
    found = scores([*tests, HeldOut(2, 2, 3, cause="it broke")])
    assert found["held_out_acc"].mean == pytest.approx(0.85)
    assert found["held_out_acc"].deviation == pytest.approx(0.0707106, rel=1e-4)
    assert found["held_out_f1"].fits == 2
    assert scores([]) == {}


def test_metrics_are_shown_by_names_that_nothing_else_has() -> None:
    assert shown_names(["test_acc", "test/f1", "auc", "test"]) == {
        "test_acc": "held_out_acc", "test/f1": "held_out_f1", "auc": "held_out_auc", "test": "held_out_test",
    }  # fmt: skip
    assert len(set(shown_names(["test_acc", "acc", "test/acc"]).values())) == 3


@pytest.mark.parametrize(
    ("evaluation", "untestable", "asked"),
    [
        ("{folds: 1}", "", True),
        ("{folds: 1}", None, False),
        ("{test: auto}", "Net has no test_step", False),
        ("{test: true}", None, True),
        ("{test: false}", "", False),
    ],
)
def test_what_decides_whether_there_is_a_test(evaluation: str, untestable: str | None, asked: bool) -> None:  # noqa: FBT001  # a case
    text = f"""
name: small
fit: {{trainer: {{max_epochs: 3}}}}
metric: {{name: loss, goal: minimize}}
parameters: {{x: {{min: 0.0, max: 1.0}}}}
budget: {{max_trials: 2}}
evaluation: {evaluation}
"""
    assert is_tested(parse_sweep(text, file="sweep.yaml", root=Path()), untestable) is asked


def test_an_event_of_a_test_survives_the_ledger(tmp_path: Path) -> None:
    sweep = searched(tmp_path)
    sweep.conductor.tested(1, begun(sweep).attempt, {"test_loss": float("nan"), "test_acc": float("inf")})
    read = results(tmp_path)[0].metrics
    assert read["test_acc"] == float("inf")
    assert read["test_loss"] != read["test_loss"]
    assert held_out_lines(held_out_of(History.of(LOSS, read_ledger(tmp_path)))) == [
        "  held out    held_out_loss not finite, held_out_acc not finite"
    ]
