"""Races in simulated sweeps: as good a winner as full cross-validation for fewer fits, decided by the record."""

from __future__ import annotations

from dataclasses import replace

import pytest

from service import plugins
from service.spec.objective import Constraint, Objective, Objectives
from service.spec.space import Params, Real, Space
from service.tuning.events import AttemptStarted, Record, SweepEnded, TrialProposed, decode, encode
from service.tuning.first_fits import OF_THE_SWEEP, FirstFits
from service.tuning.history import History, Status
from service.tuning.racing import RacePlan, without_target
from service.tuning.strategy import Problem
from tests.benchmarks.search.folds import FOLDS, Task, compare
from tests.simulator import Breakdown, Curves, Simulation

LOSS = Objectives((Objective("loss"),))
SPACE = Space({"x0": Real(0.0, 1.0), "x1": Real(0.0, 1.0), "x2": Real(0.0, 1.0), "x3": Real(0.0, 1.0)})
PLAN = RacePlan(FOLDS)
SCHEDULERS = ("fifo", "asha", "hyperband", "median")


def sweep(
    scheduler: str = "asha",
    searcher: str = "tpe",
    plan: RacePlan = PLAN,
    task: Task | Curves | None = None,
    objectives: Objectives = LOSS,
    *,
    trials: int = 20,
) -> Simulation:
    """A raced sweep over `Task`, with curves that come down to its losses at epoch 9."""
    given = task or Task(1, noise=0.3)
    curves = given if isinstance(given, Curves) else Curves(lambda p, e: {"loss": given.fit(p, p["fold"]) + 3 / e})
    plugin, other = plugins.find("searchers", searcher), plugins.find("schedulers", scheduler)
    options = other.Options(max_epochs=9)
    problem = Problem(SPACE, LOSS, tuple(other.rungs(options)), 0)
    shown = without_target(objectives)
    parts = plugin.build(plugin.Options(), problem), other.build(options, problem)
    found = Simulation(shown, *parts, curves, workers=3, max_trials=trials, race=plan)
    assert found.decider.race is not None
    found.decider.race.objectives = objectives
    return found


def proposed(records: list[Record]) -> list[TrialProposed]:
    return [r.event for r in records if isinstance(r.event, TrialProposed)]


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_the_winner_is_as_good_as_full_cross_validations_for_less_than_half_of_the_fits(noise: float) -> None:
    found = compare(noise, "random", range(8), PLAN)
    assert found["share"] <= 0.4
    assert found["difference"] <= 0.02


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_race_comes_to_its_end_beside_early_stopping(scheduler: str) -> None:
    run = sweep(scheduler, plan=replace(PLAN, final_seeds=1, finalists=2))
    history = run.run()
    first = [e for e in proposed(run.records) if e.repeats is None]
    assert len(first) == history.configurations == 20
    assert {t.status for t in history.trials} <= {Status.COMPLETED, Status.STOPPED}
    whole = [t for t in history.trials if t.repeats is not None]
    assert whole
    assert all(history.trials[t.repeats or 0].status is Status.COMPLETED for t in whole)
    winner = history.ranking()[0][0]
    assert {(t.fold, t.seed_index) for t in history.fits_of(winner)} == {(f, s) for f in range(FOLDS) for s in (0, 1)}
    cells = [(t.repeats, t.fold, t.seed_index) for t in whole]
    assert len(set(cells)) == len(cells)


@pytest.mark.parametrize("searcher", ["tpe", "random"])
def test_the_record_alone_decides_so_that_a_restart_changes_nothing(searcher: str) -> None:
    run = sweep(searcher=searcher, plan=replace(PLAN, final_seeds=1, finalists=2), trials=10)
    run.run()
    starts = [i for i, r in enumerate(run.records) if isinstance(r.event, TrialProposed)]
    for at in starts:
        record = run.records[at]
        again = sweep(searcher=searcher, plan=replace(PLAN, final_seeds=1, finalists=2), trials=10)
        again.records = [decode(encode(r)) for r in run.records[:at]]
        again.__post_init__()
        answer = again.decider.start(record.at - 1.0)
        assert record.event in answer.events, f"record {at}"


def test_what_searchers_see_does_not_depend_on_when_they_looked() -> None:
    run = sweep()
    run.run()
    history = History(LOSS)
    kept_up = FirstFits(history)
    for record in run.records:
        history.apply(record)
        kept_up.catch_up()
        fresh = FirstFits(history).catch_up()
        assert fresh.trials == kept_up.trials
        assert fresh.observed == kept_up.observed
        assert fresh.counts == kept_up.counts
        assert fresh.endings == kept_up.endings
        assert fresh.tried == kept_up.tried
        assert fresh.unfinished() == kept_up.unfinished()
    assert len(kept_up.trials) == history.configurations
    assert kept_up.ranking() == sorted(kept_up.ranking(), key=lambda e: kept_up.trials[e[0]].curve[e[1]].losses[0])


def test_every_part_of_a_history_is_either_kept_or_taken_over() -> None:
    own = {
        "trials",
        "observed",
        "counts",
        "_alive",
        "_by_epoch",
        "objectives",
        "target_reached_by",
        "endings",
        "tests",
        "tried",
    }
    of_fits = {"repeats", "_repeats_of", "_standings"}  # what is shown has one fit per configuration
    assert set(vars(History(LOSS))) == own | of_fits | set(OF_THE_SWEEP), "decide on the new part in first_fits.py"


def test_searchers_are_shown_the_mean_of_what_has_several_fits_in_place_of_its_first_fits_luck() -> None:
    run = sweep("fifo")
    history = run.run()
    assert run.decider.race is not None
    shown = run.decider.race.estimates(history)
    assert isinstance(shown, FirstFits)
    for standing in history.standings():
        own = history.trials[standing.configuration]
        seen = shown.trials[shown.place[standing.configuration]].curve[9].losses[0]
        assert seen == pytest.approx(own.curve[9].losses[0] + standing.shift)
    assert any(standing.shift for standing in history.standings())


def test_without_folds_records_are_what_they_were() -> None:
    event = TrialProposed(3, {"x": 1}, "searcher", 2)
    body = encode(Record(0, 1.0, event))
    assert set(body) == {"sequence", "at", "event", "trial", "params", "source", "proposal"}
    repeat = TrialProposed(4, {"x": 1}, "repeat", repeats=3, fold=0, seed_index=1)
    for given in (event, repeat):
        assert decode(encode(Record(0, 1.0, given))).event == given


def test_the_target_is_reached_by_a_mean_and_never_by_one_lucky_fit() -> None:
    lucky = Curves(lambda p, _: {"loss": (0.0 if p["fold"] == 0 else 1.0) + p["x0"] / 100})
    run = sweep("fifo", "random", task=lucky, objectives=Objectives((Objective("loss", target=0.5),)), trials=4)
    run.run()
    assert isinstance(run.records[-1].event, SweepEnded)
    assert run.records[-1].event.reason == "all 4 trials are done"
    met = Curves(lambda p, _: {"loss": 0.1 * p["fold"] + p["x0"] / 100})
    run = sweep("fifo", "random", task=met, objectives=Objectives((Objective("loss", target=0.5),)), trials=40)
    history = run.run()
    assert isinstance(run.records[-1].event, SweepEnded)
    assert "reached the target by its mean over 5 fits" in run.records[-1].event.reason
    assert history.configurations < 40


def test_what_diverges_on_another_fold_is_out_and_a_failed_fold_is_merely_missing() -> None:
    def loss(params: Params, _: int) -> dict[str, float]:
        if params["fold"] == 1 and params["x0"] < 0.5:
            return {"loss": float("nan")}
        if params["fold"] == 2:
            raise Breakdown(kind="fatal")
        return {"loss": params["x0"] + params["fold"]}

    run = sweep("fifo", "random", task=Curves(loss), trials=8)
    run.decider.limits = replace(run.decider.limits, max_failed_trials=None)
    history = run.run()
    winner = history.trials[history.ranking()[0][0]]
    assert winner.params["x0"] >= 0.5
    assert Status.FAILED in {t.status for t in history.fits_of(winner.number)}
    out = {t.repeats for t in history.trials if t.status is Status.DIVERGED}
    assert out
    assert out.isdisjoint(number for number, _ in history.ranking())


def test_who_breaks_a_constraint_gets_no_further_fold() -> None:
    curves = Curves(lambda p, _: {"loss": p["x0"], "size": p["x0"]})
    limited = Objectives((Objective("loss", "maximize"),), (Constraint.parse("size <= 0.6"),))
    history = sweep("fifo", "random", task=curves, objectives=limited).run()
    assert all(t.params["x0"] <= 0.6 for t in history.trials if t.repeats is not None)
    assert history.trials[history.ranking()[0][0]].params["x0"] <= 0.6


def test_who_breaks_a_constraint_on_another_fold_only_does_not_win() -> None:
    curves = Curves(lambda p, _: {"loss": p["x0"], "size": 1.0 if p["x0"] < 0.5 and p["fold"] else 0.5})
    limited = Objectives((Objective("loss"),), (Constraint.parse("size <= 0.6"),))
    history = sweep("fifo", "random", task=curves, objectives=limited).run()
    assert any(t.params["x0"] < 0.5 for t in history.trials if t.repeats is not None)
    assert {t.status for t in history.trials if t.repeats is not None} == {Status.COMPLETED}
    assert history.trials[history.ranking()[0][0]].params["x0"] >= 0.5


def test_a_repeat_says_which_fold_and_seed_it_is_for() -> None:
    run = sweep("fifo", "random", RacePlan(folds=2, seeds=2))
    run.run()
    repeats = [e for e in proposed(run.records) if e.repeats is not None]
    assert {(e.fold, e.seed_index) for e in repeats} == {(1, 0), (0, 1), (1, 1)}
    reasons = [r.event.reason for r in run.records if isinstance(r.event, AttemptStarted)]
    assert any(reason.startswith("fold 1, seed 0 of trial ") for reason in reasons)
