"""What every scheduler keeps to, whichever files there are: the best go on, a replay decides alike, nothing hangs."""

from __future__ import annotations

import math
import random
import statistics
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service import plugins
from service.spec.objective import Constraint, Objective, Objectives
from service.spec.space import Params
from service.tuning.events import Record, TrialEnded
from service.tuning.history import History, Status
from service.tuning.strategy import Drop, Problem, Resume, Verdict
from tests.scheduling import ONE, SPACE, built, declining, shuffled, simulated
from tests.simulator import Breakdown, Curves

TWO = Objectives((Objective("loss"), Objective("acc", "maximize")), (Constraint.parse("size <= 2"),))
CALM = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
# What a scheduler is asked to do beside its defaults; a scheduler that is not named here is tested with those alone.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "asha": [{"variant": "promotion"}, {"brackets": 3}, {"variant": "promotion", "brackets": 2}],
    "hyperband": [{"reduction_factor": 2}],
    "median": [{"interval_epochs": 3, "min_trials": 2}],
    "pb2": [{"interval_epochs": 3}],
    "pbt": [{"interval_epochs": 3}, {"population_size": 5}],
}
CASES = [(name, options) for name in plugins.names("schedulers") for options in [{}, *VARIANTS.get(name, [])]]
every_case = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{n}-{o}" if o else n for n, o in CASES])


def stops_trials(name: str, options: dict[str, Any]) -> bool:
    module = plugins.find("schedulers", name)
    return bool(module.reach(module.Options(max_epochs=27, **options), 40)[-1] < 40)


@every_case
def test_rungs_ascend_to_the_end_and_no_more_trials_reach_a_later_one(name: str, options: dict[str, Any]) -> None:
    module = plugins.find("schedulers", name)

    @settings(CALM, max_examples=30)
    @given(st.integers(9, 1000), st.integers(1, 200))
    def check(max_epochs: int, trials: int) -> None:
        parsed = module.Options(max_epochs=max_epochs, **options)
        rungs, reach = module.rungs(parsed), module.reach(parsed, trials)
        assert all(type(number) is int for number in (*rungs, *reach))
        assert list(rungs) == sorted(set(rungs))
        assert rungs[0] >= 1
        assert rungs[-1] == max_epochs
        assert module.build(parsed, Problem(SPACE, ONE, rungs)).rungs == rungs
        assert len(reach) == len(rungs)
        assert reach[0] == trials
        assert list(reach) == sorted(reach, reverse=True)
        assert reach[-1] >= 1

    check()


@every_case
def test_single_epoch_is_trained_without_any_decision(name: str, options: dict[str, Any]) -> None:
    kept = {key: value for key, value in options.items() if key not in ("brackets", "interval_epochs")}
    history = simulated(built(name, kept, max_epochs=1), shuffled(7)).run()
    assert history.counts[Status.COMPLETED] == 7


@every_case
def test_options_are_strict_and_say_what_they_mean(name: str, options: dict[str, Any]) -> None:
    module = plugins.find("schedulers", name)
    for wrong in ({"max_epoch": 3}, {"max_epochs": 0}, {"max_epochs": 9, "grace": 1}):
        with pytest.raises(ValidationError):
            module.Options(**wrong)
    described = module.Options.model_json_schema()["properties"]
    assert set(options) <= set(described)
    assert all(field.get("description") for field in described.values())


@every_case
@pytest.mark.parametrize("validate_every", [1, 2, 4])
def test_best_trial_is_trained_to_the_end_and_the_worst_is_not_preferred(
    name: str, options: dict[str, Any], validate_every: int
) -> None:
    for workers in (2, 9):
        simulation = simulated(built(name, options), shuffled(40), workers=workers, validate_every=validate_every)
        history = simulation.run()
        ranked = history.trials
        best = history.trials[20]
        assert best.status is Status.COMPLETED
        assert history.ranking()[0][0] == best.number or name in ("pbt", "pb2")
        if stops_trials(name, options):
            ended = [t for t in ranked if t.status is Status.COMPLETED]
            stopped = [t for t in ranked if t.status is Status.STOPPED]
            assert len(ended) + len(stopped) == 40
            mean = statistics.fmean
            assert mean(t.params["q"] for t in ended) < mean(t.params["q"] for t in stopped) - 0.1
            assert max(t.params["q"] for t in stopped) == 1.0
        else:
            assert len(ranked) == history.counts[Status.COMPLETED] == 40


@every_case
def test_about_as_many_trials_reach_each_rung_as_the_plan_says(name: str, options: dict[str, Any]) -> None:
    module = plugins.find("schedulers", name)
    parsed = module.Options(max_epochs=27, **options)
    planned = sum(module.reach(parsed, 40))
    reached = []
    for seed in range(5):
        scheduler = module.build(parsed, Problem(SPACE, ONE, module.rungs(parsed), seed))
        history = simulated(scheduler, shuffled(40, seed)).run()
        reached.append(sum(t.epoch >= rung for t in history.trials for rung in scheduler.rungs))
    assert 0.8 * statistics.fmean(reached) < planned < 1.25 * statistics.fmean(reached)


@every_case
def test_diverging_is_worst(name: str, options: dict[str, Any]) -> None:
    def metrics(params: Params, epoch: int) -> dict[str, float]:
        is_broken = params["q"] > 0.4 and epoch > int(10 * params["q"]) % 2
        return {"loss": (math.nan if epoch % 2 else math.inf) if is_broken else declining(params, epoch)["loss"] + 5}

    for workers in (1, 5):
        history = simulated(built(name, options), shuffled(30), task=Curves(metrics), workers=workers).run()
        broken = [t for t in history.trials if t.status is Status.DIVERGED]
        assert broken
        assert all(t.epoch <= 2 or name in ("pbt", "pb2") for t in broken)
        assert history.counts[Status.COMPLETED] >= 1
        assert history.trials[15].status is Status.COMPLETED


@every_case
def test_scheduler_itself_stops_what_is_not_finite(name: str, options: dict[str, Any]) -> None:
    scheduler = built(name, options)
    simulation = simulated(scheduler, [0.5, 0.2], workers=2)
    simulation._start_idle()
    for epoch, value in ((1, math.nan), (2, math.inf), (3, 1e30)):
        simulation.history.observe(0, epoch, {"loss": value}, 1.0)
        assert scheduler.judge(simulation.history, 0, epoch) == Verdict("stop", "diverged")


@dataclass
class Rechecked:
    """A scheduler that holds each of its answers against that of a fresh one on a replayed history."""

    name: str
    options: dict[str, Any]
    objectives: Objectives
    records: list[Record]
    answers: int = 0

    def __post_init__(self) -> None:
        self.scheduler = built(self.name, self.options, self.objectives, seed=3)
        self.rungs = self.scheduler.rungs

    def judge(self, history: History, trial: int, epoch: int) -> Verdict:
        answer = self.scheduler.judge(history, trial, epoch)
        replayed = History.of(self.objectives, self.records)
        replayed.observe(trial, epoch, history.trials[trial].metrics[epoch], 1.0)
        fresh = built(self.name, self.options, self.objectives, seed=3)
        assert fresh.judge(replayed, trial, epoch) == answer == self.scheduler.judge(history, trial, epoch)
        self.answers += 1
        return answer

    def release(self, history: History, *, is_drained: bool) -> list[Resume | Drop]:
        answer = self.scheduler.release(history, is_drained=is_drained)
        replayed = History.of(self.objectives, self.records)
        fresh = built(self.name, self.options, self.objectives, seed=3)
        assert fresh.release(replayed, is_drained=is_drained) == answer
        self.answers += 1
        return answer


@every_case
@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "several"])
def test_fresh_scheduler_decides_the_same_on_a_replayed_history(
    name: str, options: dict[str, Any], objectives: Objectives
) -> None:
    records: list[Record] = []
    scheduler = Rechecked(name, options, objectives, records)
    simulated(scheduler, shuffled(12), objectives=objectives, records=records).run()
    assert scheduler.answers > 20


class Frail:
    """Breaks down now and then, for the trial's own fault or another, or ends in NaN."""

    def __init__(self, seed: int, rate: float) -> None:
        self.rng, self.rate = random.Random(seed), rate

    def train(self, params: Params, state: Any, epoch: int) -> tuple[Any, dict[str, float], float]:  # noqa: ANN401  # the task's own
        luck = self.rng.random() / self.rate if self.rate else math.inf
        if luck < 0.7:
            raise Breakdown("user" if luck < 0.3 else "infrastructure" if luck < 0.6 else "memory")
        metrics = declining(params, epoch)
        return state, {**metrics, "loss": math.nan} if luck < 1 else metrics, self.rng.random()


@every_case
def test_nothing_waits_for_ever_whatever_breaks(name: str, options: dict[str, Any]) -> None:
    @settings(CALM, max_examples=20)
    @given(
        st.integers(1, 25), st.integers(1, 9), st.integers(1, 10), st.integers(0, 999), st.sampled_from([0, 0.02, 0.2])
    )
    def check(trials: int, workers: int, validate_every: int, seed: int, rate: float) -> None:
        qualities = [random.Random(seed).random() for _ in range(trials)]
        scheduler = built(name, options, seed=seed)
        simulation = simulated(
            scheduler, qualities, workers=workers, validate_every=validate_every, task=Frail(seed, rate),
            max_trials=trials if seed % 2 else None,
        )  # fmt: skip
        history = simulation.run()
        assert all(t.status.is_over for t in history.trials)
        causes = [r.event.cause for r in simulation.records if isinstance(r.event, TrialEnded)]
        assert "never promoted" not in causes, "the decider had to clear away what the scheduler forgot"
        if rate == 0:
            assert len(history.trials) == trials
            assert history.counts[Status.COMPLETED] >= 1

    check()


@every_case
def test_several_objectives_and_limits_decide_too(name: str, options: dict[str, Any]) -> None:
    def metrics(params: Params, epoch: int) -> dict[str, float]:
        q = params["q"]  # below 0.7 a front where loss pays for acc; above it dominated; above 0.9 beyond the limit
        extra = 0.5 if q > 0.7 else 0.0
        size = 1.0 if q < 0.9 else 3.0
        return {"loss": q + extra + math.exp(-epoch), "acc": q - 2 * extra, "size": size}

    simulation = simulated(built(name, options, TWO), shuffled(39), objectives=TWO, task=Curves(metrics))
    history = simulation.run()
    assert history.counts[Status.COMPLETED] >= 1
    if stops_trials(name, options):
        completed = [t.params["q"] for t in history.trials if t.status is Status.COMPLETED]
        stopped = [t.params["q"] for t in history.trials if t.status is Status.STOPPED]
        assert statistics.fmean(q > 0.7 for q in completed) < statistics.fmean(q > 0.7 for q in stopped)
        assert max(completed) < max(stopped) == 1.0


@every_case
def test_no_trial_on_a_front_where_all_are_equal_trade_offs_is_lost_for_nothing(
    name: str, options: dict[str, Any]
) -> None:
    """Both ends and the middle of a front are among those that went furthest, wherever a scheduler stops trials."""
    goals = Objectives((Objective("loss"), Objective("acc", "maximize")))

    def metrics(params: Params, epoch: int) -> dict[str, float]:
        return {"loss": params["q"] + math.exp(-epoch), "acc": params["q"]}

    simulation = simulated(built(name, options, goals), shuffled(45), objectives=goals, task=Curves(metrics))
    history = simulation.run()
    assert history.counts[Status.COMPLETED] >= 1
    second = sorted(simulation.scheduler.rungs)[:2][-1]
    far = sorted(t.params["q"] for t in history.trials if t.epoch >= second)
    assert far[0] < 0.25
    assert far[-1] > 0.75
    assert any(0.3 < q < 0.7 for q in far)
    ranked = [trial for trial, _ in history.ranking()]
    assert 0.25 < history.trials[ranked[0]].params["q"] < 0.75 or not stops_trials(name, options)
