"""Knowledge of earlier sweeps: a related one counts and is followed, a misleading one costs a few trials."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from service import plugins
from service.spec.objective import DIVERGED_LOSS, Objective, Objectives, Observation
from service.spec.space import Choice, Integer, Params, Real, Space, identity
from service.tuning.events import AttemptEnded, AttemptStarted, Event, Record, Reported, TrialEnded, TrialProposed
from service.tuning.history import History
from service.tuning.knowledge import EarlierSweep, earlier_trials, translate
from service.tuning.knowledge_relevance import PRIOR_MEAN, relevance, suggestions
from service.tuning.strategy import PastSweep, PastTrial, Problem, Searcher
from service.tuning.warm_start import MOST, TRIED_FIRST, WarmStarted
from tests.simulator import Curves, Simulation, best_loss

SPACE = Space({"x": Real(0, 1), "y": Real(1e-4, 1, log=True), "k": Choice(("a", "b", "c"))})
ONE = Objectives((Objective("loss"),))
EPOCHS = (1, 3, 9)
Loss = Callable[[Params, int], float]


def bowl(params: Params, epoch: int) -> float:
    x, y = params.get("x", 0.5), np.log10(params.get("y", 1e-2)) / 4 + 1
    return float((x - 0.3) ** 2 + (y - 0.7) ** 2 + 0.2 * (params.get("k") != "b") + 1 / epoch)


def turned(params: Params, epoch: int) -> float:
    return -bowl(params, epoch) + 2 / epoch


def unrelated(params: Params, epoch: int) -> float:
    digits = int(1e9 * params["x"] + 1e9 * params["y"])
    return float(np.random.default_rng(digits).random()) + 1 / epoch


def epochs_of(number: int) -> tuple[int, ...]:
    """As a halving scheduler leaves it: two of three stop at each rung."""
    return EPOCHS[: 1 + (number % 3 == 0) + (number % 9 == 0)]


def past_of(loss: Loss, count: int = 45, name: str = "old", space: Space = SPACE) -> PastSweep:
    rng = np.random.default_rng(7)
    points = [space.sample(rng) for _ in range(count)]
    points.sort(key=lambda params: loss(params, 1))
    order = {id(params): rank for rank, params in enumerate(points)}
    trials = []
    for params in points:
        reached = EPOCHS[: 1 + (order[id(params)] < count / 3) + (order[id(params)] < count / 9)]
        trials.append(PastTrial(params, {epoch: Observation((loss(params, epoch),)) for epoch in reached}))
    return PastSweep(name, tuple(trials))


def history_of(count: int, loss: Loss = bowl, *, diverged: int = 0) -> History:
    rng, history, events = np.random.default_rng(3), History(ONE), list[Event]()
    for number in range(count):
        params = SPACE.sample(rng)
        events += [TrialProposed(number, params, "searcher", number), AttemptStarted(number, 1, params, None, "new")]
        for epoch in epochs_of(number):
            value = DIVERGED_LOSS if number < diverged else loss(params, epoch)
            events.append(Reported(number, 1, epoch, {"loss": value}, float(epoch), None, "continue", ""))
        if number < diverged:
            events += [AttemptEnded(number, 1, "diverged"), TrialEnded(number, "diverged")]
    for i, event in enumerate(events):
        history.apply(Record(i, float(i), event))
    return history


def test_before_the_first_pair_relevance_is_what_a_careful_person_expects() -> None:
    cautious = relevance(past_of(bowl), history_of(0), SPACE, ONE)
    assert 0.1 < cautious < PRIOR_MEAN
    assert relevance(past_of(bowl), history_of(1), SPACE, ONE) == cautious
    assert relevance(past_of(bowl, 1), history_of(9), SPACE, ONE) == 0.0
    assert relevance(PastSweep("none", ()), history_of(9), SPACE, ONE) == 0.0


def test_relevance_rises_for_a_related_sweep_and_falls_to_nothing_for_a_misleading_one() -> None:
    related = [relevance(past_of(bowl), history_of(count), SPACE, ONE) for count in (0, 6, 30)]
    misleading = [relevance(past_of(turned), history_of(count), SPACE, ONE) for count in (0, 6, 30)]
    assert related == sorted(related)
    assert related[-1] > 0.6
    assert misleading[1:] == [0.0, 0.0]
    assert relevance(past_of(unrelated), history_of(30), SPACE, ONE) < 0.15


def test_losses_on_another_scale_and_trials_that_broke_do_no_harm() -> None:
    scaled = past_of(lambda params, epoch: 1000 * bowl(params, epoch) - 7)
    plain = relevance(past_of(bowl), history_of(30), SPACE, ONE)
    assert relevance(scaled, history_of(30), SPACE, ONE) == pytest.approx(plain)
    assert 0.0 <= relevance(past_of(bowl), history_of(12, diverged=12), SPACE, ONE) < 0.5
    broken = PastSweep(
        "old", tuple(PastTrial(t.params, {1: Observation((DIVERGED_LOSS,))}) for t in past_of(bowl).trials)
    )
    assert 0.0 <= relevance(broken, history_of(30), SPACE, ONE) < 0.5
    assert list(suggestions(broken, SPACE, ONE, 0)) == []


def test_suggestions_are_the_best_and_different_ones_completed_to_points_of_the_space() -> None:
    added = {"new": Integer(1, 8), "only": Integer(1, 3, when={"k": ("b",)})}
    wider = Space({**dict(SPACE.items()), **added})
    past = past_of(bowl)
    found = list(suggestions(past, wider, ONE, 5))
    assert all(wider.contains(params) for params in found)
    assert found == list(suggestions(past, wider, ONE, 5))
    best = min(past.trials, key=lambda trial: min(seen.losses[0] for seen in trial.curve.values()))
    assert {name: found[0][name] for name in best.params} == best.params
    assert len({tuple(sorted(map(str, params.items()))) for params in found}) == len(found) > TRIED_FIRST
    assert len({params["new"] for params in found}) > 1


def warm(
    past: PastSweep, searcher: str = "random", seed: int = 0, space: Space = SPACE
) -> tuple[WarmStarted, Searcher]:
    problem = Problem(space, ONE, EPOCHS, seed, (past,))
    module = plugins.find("searchers", searcher)
    own = module.build(module.Options(), problem)
    return WarmStarted(own, problem), own


def run(searcher: Searcher, loss: Loss, seed: int, trials: int = 30) -> Simulation:
    module = plugins.find("schedulers", "asha")
    scheduler = module.build(module.Options(max_epochs=9), Problem(SPACE, ONE, EPOCHS, seed))
    simulation = Simulation(ONE, searcher, scheduler, Curves(lambda p, e: {"loss": loss(p, e)}), max_trials=trials)
    simulation.decider.is_suggestion = searcher.is_suggestion if isinstance(searcher, WarmStarted) else None
    simulation.run()
    return simulation


def test_a_related_sweep_is_followed_and_a_misleading_one_costs_a_few_trials() -> None:
    followed, left = warm(past_of(bowl))[0], warm(past_of(turned))[0]
    gained = []
    for seed in range(3):
        many, few = (
            sum(trial.source == "warm_start" for trial in run(searcher, bowl, seed).history.trials)
            for searcher in (followed, left)
        )
        assert few <= TRIED_FIRST < many <= MOST
        cold = best_loss(run(warm(past_of(bowl), seed=seed)[1], bowl, seed).history)
        gained.append(best_loss(run(warm(past_of(bowl), seed=seed)[0], bowl, seed).history) <= cold)
    assert all(gained)


@pytest.mark.parametrize("searcher", sorted({*plugins.names("searchers")} - {"grid"}))
def test_any_searcher_takes_suggestions_and_a_fresh_one_repeats_it(searcher: str) -> None:
    simulation = run(warm(past_of(bowl), searcher)[0], bowl, 0, 12)
    fresh, history = warm(past_of(bowl), searcher)[0], History(ONE)
    for record in simulation.records:
        if isinstance(record.event, TrialProposed):
            assert fresh.propose(history) == record.event.params
        history.apply(record)
    assert {trial.source for trial in history.trials} == {"warm_start", "searcher"}


@pytest.mark.parametrize("searcher", ["random", "sobol", "tpe", "bayes"])
def test_an_earlier_sweep_with_the_same_seed_leads_to_other_points(searcher: str) -> None:
    first = run(warm(past_of(bowl), searcher)[1], bowl, 0, 15)
    past = translate(EarlierSweep("old", earlier_trials(first.records)), SPACE, ONE)
    history = run(warm(past, searcher)[0], bowl, 0, 15).history
    assert len({identity(trial.params) for trial in history.trials}) == 15
    assert history.proposals == sum(trial.source == "searcher" for trial in history.trials) >= 5


def test_a_misleading_sweep_does_not_follow_on_a_related_one_whose_suggestions_are_used_up() -> None:
    few = past_of(bowl, 4, "few")
    both = Problem(SPACE, ONE, EPOCHS, 0, (few, past_of(turned, name="misleading")))
    module = plugins.find("searchers", "random")
    history = run(WarmStarted(module.build(module.Options(), both), both), bowl, 0).history
    follows = {identity(params) for params in suggestions(few, SPACE, ONE, 0)}
    suggested = [identity(trial.params) for trial in history.trials if trial.source == "warm_start"]
    assert sum(key not in follows for key in suggested) <= TRIED_FIRST


def test_a_finite_space_is_used_up_without_a_repeat() -> None:
    small = Space({"k": Choice(("a", "b", "c")), "n": Integer(1, 3)})
    searcher = warm(past_of(bowl, 9, space=small), space=small)[0]
    history = History(ONE)
    while (params := searcher.propose(history)) is not None:
        number = len(history.trials)
        history.apply(Record(number, 1.0, TrialProposed(number, params, "searcher", number)))
    assert len({str(trial.params) for trial in history.trials}) == len(history.trials) == 9


@pytest.mark.parametrize("searcher", ["bayes", "random", "sobol", "tpe"])
def test_a_searcher_that_draws_the_points_of_the_earlier_sweep_again_goes_on_all_the_same(searcher: str) -> None:
    cold = run(warm(PastSweep("none", ()), searcher)[1], bowl, 0, 12).history
    past = PastSweep("old", tuple(PastTrial(t.params, t.curve) for t in cold.trials))
    history = run(warm(past, searcher)[0], bowl, 0, 16).history
    own = [trial.params for trial in history.trials if trial.source == "searcher"]
    assert len({str(params) for params in own}) == len(own) > len(history.trials) // 4


def by_the_defaults(past: PastSweep) -> Simulation:
    """A sweep with the default searcher and scheduler, which share one forecast."""
    module = plugins.find("schedulers", "adaptive")
    options = module.Options(max_epochs=9)
    problem = Problem(SPACE, ONE, tuple(module.rungs(options)), 1, (past,))
    bayes = plugins.find("searchers", "bayes")
    searcher = WarmStarted(bayes.build(bayes.Options(), problem), problem)
    curves = Curves(lambda p, e: {"loss": bowl(p, e)})
    simulation = Simulation(ONE, searcher, module.build(options, problem), curves, max_trials=12)
    simulation.decider.is_suggestion = searcher.is_suggestion
    simulation.run()
    return simulation


def test_a_warm_started_sweep_by_the_defaults_is_the_same_each_time_and_leaves_a_misleading_one_soon() -> None:
    one, other = by_the_defaults(past_of(bowl)), by_the_defaults(past_of(bowl))
    assert one.records == other.records
    followed, left = (
        sum(trial.source == "warm_start" for trial in simulation.history.trials)
        for simulation in (one, by_the_defaults(past_of(turned)))
    )
    assert left <= TRIED_FIRST < followed
