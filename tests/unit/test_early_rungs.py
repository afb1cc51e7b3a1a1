"""What early epochs foretold: correlations with a known truth, selection mended, advice only from enough evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from service.spec.objective import Constraint, Objective, Objectives
from service.tuning.early_rungs import EarlyRungs, Look, early_rungs, epochs_to_compare
from service.tuning.events import AttemptStarted, Event, Record, Reported, TrialEnded, TrialProposed
from service.tuning.history import History
from service.tuning.rank_agreement import agreement, chance_of_missing, spearman

ONE = Objectives((Objective("loss"),))
RUNGS = (1, 3, 9)


def _history(curves: list[dict[int, float]], objectives: Objectives = ONE, *, last: int = 9) -> History:
    """Trials with these losses by epoch; whoever came to `last` is complete, the others were stopped."""
    events: list[Event] = []
    for number, curve in enumerate(curves):
        events += [TrialProposed(number, {"x": 0.5}, "searcher", number), AttemptStarted(number, 1, {}, None, "new")]
        events += [
            Reported(number, 1, e, {"loss": v, "size": float(number)}, float(e), None, "continue", "")
            for e, v in curve.items()
        ]
        ending = "diverged" if not math.isfinite(curve[max(curve)]) else "completed" if last in curve else "stopped"
        events.append(TrialEnded(number, ending, ""))  # type: ignore[arg-type]  # one of the endings
    return History.of(objectives, [Record(i, float(i), event) for i, event in enumerate(events)])


def _sweep(count: int, noise: float, *, seed: int = 0, is_stopped: bool = True, first: int = 1) -> History:
    """Halving at epochs 1 and 3 over trials whose value at each epoch is their quality with ever less noise."""
    rng = np.random.default_rng(seed)
    quality = rng.normal(size=count)
    values = {e: quality + noise / e * rng.normal(size=count) for e in range(1, 10)}
    alive, curves = list(range(count)), [{} for _ in range(count)]  # type: list[int], list[dict[int, float]]
    for epoch in range(1, 10):
        for i in alive:
            curves[i][epoch] = float(values[epoch][i])
        if is_stopped and epoch in (1, 3) and epoch >= first:
            alive = sorted(alive, key=lambda i, e=epoch: values[e][i])[: max(1, len(alive) // 3)]  # type: ignore[misc]  # a default binds the loop's epoch
    return _history(curves)


@pytest.mark.parametrize("truth", [0.3, 0.6, 0.8, 0.9])
def test_selection_is_mended(truth: float) -> None:
    raw, mended, inside = [], [], []
    rank = 6 / math.pi * math.asin(truth / 2)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        early = rng.normal(size=90)
        late = truth * early + math.sqrt(1 - truth**2) * rng.normal(size=90)
        bar = np.quantile(early, 1 / 3)
        found = agreement(3, early.tolist(), [float(v) if e <= bar else None for e, v in zip(early, late, strict=True)])
        assert found is not None
        assert found.trials == 30
        raw.append(found.correlation)
        mended.append(found.mended)
        inside.append(found.low <= rank <= found.high)
    assert np.median(raw) < rank - 0.1
    assert np.median(mended) == pytest.approx(rank, abs=0.08)
    assert np.mean(inside) >= 0.75


def test_without_selection_nothing_is_mended() -> None:
    values = [float(v) for v in np.random.default_rng(0).normal(size=30)]
    found = agreement(3, values, list(values))
    assert found is not None
    assert found.correlation == 1.0
    assert found.mended == pytest.approx(1.0)
    assert found.low > 0.99


def test_ties_share_their_rank_and_too_few_or_equal_values_say_nothing() -> None:
    assert spearman([1, 1, 2, 2], [1, 1, 2, 2]) == 1.0
    assert spearman([1, 2, 3], [3, 2, 1]) == -1.0
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert agreement(3, [1, 2, 3, 4], [1, 2, 3, 4]) is None
    assert agreement(3, [1.0] * 8, [1.0] * 8) is None


def test_the_chance_of_missing_the_best_falls_with_agreement() -> None:
    chances = [chance_of_missing(c, 40, 13) for c in (-0.5, 0.0, 0.5, 0.9, 1.0)]
    assert chances == sorted(chances, reverse=True)
    assert chances[1] == pytest.approx(27 / 40, abs=0.05)
    assert chances[-1] == 0.0
    assert chance_of_missing(0.5, 40, 40) == 0.0
    assert chance_of_missing(0.5, 40, 13) == chances[2]


def test_each_epoch_knows_who_was_there_and_where_the_winner_stood() -> None:
    history = _sweep(60, 0.2)
    found = early_rungs(history, RUNGS)
    assert [(look.epoch, look.trials, look.kept) for look in found.looks] == [(1, 60, 20), (3, 20, 6)]
    first = found.looks[0]
    assert found.winner == history.ranking()[0][0]
    assert first.winner_place is not None
    values = [t.curve[1].losses[0] for t in history.trials]
    assert first.winner_place == 1 + sum(v < values[found.winner or 0] for v in values)
    assert first.next is not None
    assert (first.next.epoch, first.next.trials) == (3, 20)
    assert first.next.mended >= first.next.correlation
    assert found.last == 9


def test_an_early_rung_that_agrees_is_late_enough() -> None:
    found = early_rungs(_sweep(60, 0.1), RUNGS)
    assert found.advice.startswith("grace_epochs 1 is late enough: at epoch 1 the final winner was place ")
    assert "of 60, and 20 go on" in found.advice
    assert "90 % interval" in found.advice
    assert found.no_advice == ""


def test_grace_epochs_could_be_lower() -> None:
    history = _sweep(60, 0.1, first=3)  # nobody is stopped before epoch 3
    assert early_rungs(history, (3, 9)).advice.startswith("grace_epochs could be 1: ")


def test_grace_epochs_should_be_higher() -> None:
    """Epoch 1 says nothing, epoch 3 nearly everything, and the winner got through by coming early."""
    rng = np.random.default_rng(5)
    quality = rng.permutation(60) / 60.0
    luck = rng.permutation(60) / 60.0
    goes_on = (luck < 0.4) | (quality < 0.05)
    curves = [{1: 5.0 + u} for u in luck]
    for i in np.flatnonzero(goes_on):
        curves[i] |= {e: float(quality[i] + 0.01 * rng.normal()) for e in range(2, 10)}
    worst = int(np.argmin(quality))
    curves[worst][1] = 5.9
    found = early_rungs(_history(curves), RUNGS)
    assert found.advice.startswith("grace_epochs should be at least 3: at epoch 1 the final winner was place ")
    assert not found.looks[0].keeps_winner


def test_a_sweep_without_early_stopping_learns_when_it_could_have_stopped() -> None:
    found = early_rungs(_sweep(60, 0.1, is_stopped=False), (9,), has_grace=False)
    assert found.advice.startswith("stopping early could pay: scheduler asha with grace_epochs 1: ")
    hopeless = early_rungs(_sweep(40, 60.0, is_stopped=False), (9,), has_grace=False)
    assert hopeless.advice == ""


def test_a_scheduler_without_grace_gets_figures_but_no_advice() -> None:
    found = early_rungs(_sweep(60, 0.1), RUNGS, has_grace=False)
    assert found.looks
    assert (found.advice, found.no_advice) == ("", "this scheduler has no grace_epochs to advise on")


@pytest.mark.parametrize("count", [0, 1, 6, 19])
def test_few_trials_are_no_evidence(count: int) -> None:
    found = early_rungs(_sweep(count, 0.1), RUNGS)
    assert found.advice == ""
    assert "too few trials" in found.no_advice


def test_what_does_not_decide_is_said() -> None:
    found = early_rungs(_sweep(36, 1.0, seed=2), RUNGS)
    assert found.advice == ""
    assert found.no_advice.startswith("the trials do not decide whether grace_epochs 1 is right: ")


def test_diverged_trials_stand_last_and_do_not_count_as_seen_again() -> None:
    curves = [{1: i / 10, 3: i / 10, 9: i / 10} for i in range(10)] + [{1: 0.05, 2: math.inf}]
    look: Look = early_rungs(_history(curves), RUNGS).looks[1]
    assert (look.epoch, look.trials) == (3, 11)
    assert look.last is not None
    assert look.last.trials == 10


def test_several_objectives_and_constraints_are_put_in_one_order() -> None:
    two = Objectives((Objective("loss"), Objective("size")), (Constraint("size", "<=", 50.0),))
    curves = [dict.fromkeys((1, 3, 9), (60 - i) / 10) for i in range(60)]  # against each other: one front
    found: EarlyRungs = early_rungs(_history(curves, two), RUNGS)
    assert found.looks[0].next is not None
    assert found.looks[0].next.correlation == pytest.approx(1.0)


def test_where_rungs_are_many_only_a_few_epochs_are_compared() -> None:
    assert epochs_to_compare(range(1, 101), 3) == (1, 3, 9, 27, 81, 100)
    assert epochs_to_compare((4, 16, 50), 4) == (1, 4, 16, 50)
    assert epochs_to_compare((27,), 3) == (1, 3, 9, 27)


def test_why_there_is_no_advice_counts_the_trials_that_came_there() -> None:
    curves = [{1: 0.1, 3: 0.1, 9: 0.1}, {1: 0.2, 3: 0.2}, *({1: float(i)} for i in range(10))]
    few = early_rungs(_history(curves), RUNGS)
    assert "12 came to epoch 1 and 2 of them to epoch 3; 20 and 10 are needed" in few.no_advice
    whole = early_rungs(_history([{1: 0.1}] * 3, last=1), (1,))
    assert whole.no_advice == "trials of one epoch cannot be stopped early"
    alike = early_rungs(_history([{1: 0.5, 3: 0.5, 9: 0.5}] * 20), RUNGS)
    assert alike.no_advice.startswith("too little to advise")
