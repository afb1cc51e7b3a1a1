"""The benchmark of searchers is fair: one clock for all, budgets cut to the second, scores from what is true."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from service.spec.space import Params, Real, Space
from service.tuning.decisions import Decider
from service.tuning.events import AttemptStarted, Reported
from tests.benchmarks.search.cells import Cell, Result, Store, fronts, incumbents
from tests.benchmarks.search.own import Own
from tests.benchmarks.search.peer import PeerDecider, Process, simulated
from tests.benchmarks.search.scores import Table
from tests.benchmarks.search.tasks import CurveTask

EPOCHS = 4


class Slopes:
    """Curves that fall to `x` from above, two seconds an epoch; what is observed is off by a fixed half."""

    epochs, best, ref, t_full = EPOCHS, 0.0, 1.0, 2.0 * EPOCHS

    def evaluate(self, params: Params, seed: int) -> SimpleNamespace:
        true = params["x"] + 1 / np.arange(1, EPOCHS + 1)
        return SimpleNamespace(true=true, observed=true - 0.5, seconds=2.0 * np.arange(1, EPOCHS + 1) + 0 * seed)


class Asked:
    """A peer that pauses every trial after its first epoch, and resumes the oldest that waits before it proposes."""

    def __init__(self, most: int) -> None:
        self.most, self.count, self.waiting = most, 0, list[int]()

    def ask(self, **question: Any) -> dict[str, Any]:  # noqa: ANN401  # JSON
        if question["op"] == "suggest":
            if self.count < self.most:
                self.count += 1
                return {"trial": 100 + self.count, "config": {"x": 1.0 / self.count}}
            return {"trial": self.waiting.pop(0), "config": None} if self.waiting else {"wait": True}
        if question["op"] == "report" and question["epoch"] == 1:
            self.waiting.append(question["trial"])
            return {"decision": "pause"}
        return {"decision": "continue"}


def task() -> CurveTask:
    return CurveTask("slopes", 0, Slopes(), Space({"x": Real(0.0, 1.0)}))


def result(policy: str, seed: int, steps: list[tuple[float, float]], name: str = "a", budget: float = 4.0) -> Result:
    return Result(policy, name, seed, 4, budget, "v", 1, 1, 0.0, tuple(steps))


def test_a_paused_trial_of_a_peer_goes_on_where_it_was_at_no_cost() -> None:
    simulation = simulated(task(), workers=1, budget=100.0)
    asked = cast("Process", Asked(2))
    simulation.decider = cast("Decider", PeerDecider(asked, simulation.history, task(), 800.0))
    history = simulation.run()
    reports = [(e.trial, e.epoch) for r in simulation.records if isinstance(e := r.event, Reported)]
    assert reports == [(0, 1), (1, 1), (0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)]
    assert simulation.now == pytest.approx(16.0)
    assert [t.seconds for t in history.trials] == [8.0, 8.0]
    resumed = [r.event for r in simulation.records if isinstance(r.event, AttemptStarted)][2]
    assert resumed.checkpoint is not None
    assert resumed.checkpoint.epoch == 1


def test_what_comes_after_the_budget_does_not_count() -> None:
    own = Own("grid", "fifo", {"points": 2}).simulation(task(), 0, 1, 0.8)
    own.run()
    steps = incumbents(task(), own.records, 0.8 * 8.0)
    assert [time for time, _ in steps] == pytest.approx([0.25, 0.5, 0.75])
    assert [regret for _, regret in steps] == pytest.approx([1.0, 0.5, 0.33333])


def test_two_objectives_are_scored_by_what_their_front_leaves_undominated() -> None:
    both = replace(task(), is_double=True)
    own = Own("grid", "fifo", {"points": 2}).simulation(both, 0, 1, 1.0)
    own.run()
    steps = fronts(both, own.records, 8.0)
    # every epoch takes the usual time, which is half of the square: the rest is the error
    assert [left for _, left in steps] == pytest.approx([1.0, 0.75, 1 - 0.5 * 2 / 3, 0.625], abs=1e-4)


def test_regret_is_true_though_the_incumbent_is_what_was_observed() -> None:
    own = Own("grid", "fifo", {"points": 2}).simulation(task(), 0, 1, 1.0)
    own.run()
    assert incumbents(task(), own.records, 8.0)[-1][1] == pytest.approx(0.25)


def test_the_regret_before_anything_was_seen_is_that_of_a_median_configuration() -> None:
    known = result("p", 0, [(0.5, 0.8), (2.0, 0.1)])
    assert [known.regret_at(t) for t in (0.1, 0.5, 1.9, 4.0)] == [1.0, 0.8, 0.8, 0.1]


def test_a_half_written_line_is_no_result_and_the_newest_one_counts(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.add(result("a+b: c", 0, [(1.0, 0.5)]))
    store.add(result("a+b: c", 0, [(1.0, 0.4)]))
    path = next(tmp_path.iterdir())
    path.write_text(path.read_text() + '{"policy":"a+b')
    assert store.results(["a+b: c"]) == {Cell("a+b: c", "a", 0, 4): result("a+b: c", 0, [(1.0, 0.4)])}


def test_ranks_are_over_the_cells_that_all_have() -> None:
    cells = [result("good", s, [(1.0, 0.1)]) for s in range(3)]
    cells += [result("bad", s, [(1.0, 0.1 if s == 2 else 0.3)]) for s in range(3)]
    cells += [result("dear", 0, [(1.0, 0.2)]), result("elsewhere", 0, [(1.0, 0.0)], name="b")]
    table = Table.of([r for r in cells if r.policy != "elsewhere"])
    assert table.comparable(4.0)[1] == [("a", 0, 4)]
    assert {name: rank[0] for name, rank in table.mean_ranks(4.0).items()} == {"good": 1, "dear": 2, "bad": 3}
    assert Table.of(cells).mean_ranks(4.0) == {}
    assert table.ratio("good", "bad", 4.0)[0] == pytest.approx(0.1 / (0.7 / 3))


def test_time_to_the_end_of_random_search_is_a_share_of_its_own_time() -> None:
    known = {"random": [(0.5, 0.9), (2.0, 0.3)], "fast": [(0.25, 0.2)], "worse": [(0.25, 0.4)]}
    table = Table.of([result(name, 0, steps) for name, steps in known.items()])
    assert table.time_share("fast", 4.0)[0] == pytest.approx(0.125, rel=0.01)
    assert table.time_share("random", 4.0)[0] == 1.0
    assert table.time_share("worse", 4.0) == (np.inf, np.inf, np.inf)


def test_a_significant_difference_needs_seeds() -> None:
    worse = [result("p", s, [(1.0, 0.5 + s / 100)]) for s in range(8)]
    control = [result("random+asha", s, [(1.0, 0.4)]) for s in range(8)]
    mean, p = Table.of([*worse, *control]).against("p", 4.0)["a"]
    assert mean > 0
    assert p < 0.05
    assert Table.of([*worse[:3], *control[:3]]).against("p", 4.0)["a"][1] > 0.05


def test_a_policy_is_spelt_as_searcher_and_scheduler_with_their_options() -> None:
    parsed = Own.parse("tpe:n_startup=5+asha:variant=promotion,reduction_factor=4")
    assert parsed == Own("tpe", "asha", {"n_startup": 5}, {"variant": "promotion", "reduction_factor": 4})
