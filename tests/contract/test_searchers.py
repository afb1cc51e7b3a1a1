"""What every searcher keeps to, whichever files there are: in the space, replayable, unrepeated, never stuck."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import plugins
from service.spec.objective import DIVERGED_LOSS, Constraint, Objective, Objectives
from service.spec.space import Choice, Constant, Integer, Params, Real, Space, identity
from service.tuning.events import AttemptEnded, AttemptStarted, Event, Record, Reported, TrialEnded, TrialProposed
from service.tuning.history import History
from service.tuning.points import all_points
from service.tuning.strategy import Problem, Searcher
from tests.simulator import Curves, Simulation, best_loss
from tests.spaces import MAX_FINITE_VALUES, spaces

ONE = Objectives((Objective("loss"),))
TWO = Objectives((Objective("loss"), Objective("acc", "maximize")), (Constraint.parse("size <= 2"),))
RUNGS = (1, 2, 4)
FATES = ("pending", "running", "reported", "paused", "stopped", "completed", "diverged", "failed", "failed early")
OUTCOMES = st.tuples(st.sampled_from(FATES), st.integers(0, 3))  # few different losses, so that many are equal
CALM = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
every_searcher = pytest.mark.parametrize("name", plugins.names("searchers"))


def built(name: str, space: Space, objectives: Objectives = ONE, seed: int = 0) -> Searcher:
    module: ModuleType = plugins.find("searchers", name)
    searcher: Searcher = module.build(module.Options(), Problem(space, objectives, RUNGS, seed))
    return searcher


class Book:
    """A history under way; trials get their fates when `settle` is called, the last proposed first."""

    def __init__(self, objectives: Objectives = ONE) -> None:
        self.history = History(objectives)
        self.records: list[Record] = []
        self.unsettled: list[tuple[int, str, int]] = []

    def add(self, *events: Event) -> None:
        for event in events:
            self.records.append(Record(len(self.records), 1.0 + len(self.records), event))
            self.history.apply(self.records[-1])

    def propose(self, params: Params, fate: str = "pending", loss: int = 0, *, is_start_point: bool = False) -> None:
        number = len(self.history.trials)
        place = -1 if is_start_point else self.history.proposals
        self.add(TrialProposed(number, params, "start_point" if is_start_point else "searcher", place))
        self.unsettled.append((number, fate, loss))

    def settle(self) -> None:
        while self.unsettled:
            self._settle(*self.unsettled.pop())

    def _settle(self, number: int, fate: str, loss: int) -> None:
        if fate == "pending":
            return
        self.add(AttemptStarted(number, 1, self.history.trials[number].params, None, "new"))
        if fate not in ("running", "failed early"):
            for epoch in range(1, 2 + loss):
                value = DIVERGED_LOSS if fate == "diverged" and epoch == 1 + loss else loss / epoch
                metrics = {"loss": value, "acc": float(loss % 2), "size": float(loss)}
                self.add(Reported(number, 1, epoch, metrics, float(epoch), None, "continue", ""))
        if fate == "paused":
            self.add(AttemptEnded(number, 1, "paused"))
        elif fate in ("stopped", "completed", "diverged"):
            self.add(AttemptEnded(number, 1, fate), TrialEnded(number, fate))  # type: ignore[arg-type]  # an Ending
        elif fate.startswith("failed"):
            self.add(AttemptEnded(number, 1, "user", "broke"), TrialEnded(number, "failed", "broke"))


@every_searcher
@pytest.mark.parametrize("objectives", [ONE, TWO], ids=["one", "several"])
def test_proposals_are_in_the_space_and_a_fresh_searcher_repeats_them(name: str, objectives: Objectives) -> None:
    @settings(CALM, max_examples=12)
    @given(spaces(), st.integers(0, 2**31), st.lists(OUTCOMES, min_size=14, max_size=22))
    def check(space: Space, seed: int, outcomes: Sequence[tuple[str, int]]) -> None:
        book, searcher = Book(objectives), built(name, space, objectives, seed)
        for i, (fate, loss) in enumerate(outcomes):
            params = searcher.propose(book.history)
            assert searcher.propose(book.history) == params, "asking changed the answer"
            fresh = built(name, space, objectives, seed)
            assert fresh.propose(History.of(objectives, book.records)) == params, "a replay proposes something else"
            if params is None:
                break
            assert space.problems(params) == []
            assert {type(v) for v in params.values()} <= {type(None), bool, int, float, str, list, dict}
            book.propose(params, fate, loss)
            if i % 3 == 2:
                book.settle()

    check()


@every_searcher
@pytest.mark.parametrize("fates", [("pending",), FATES], ids=["all pending", "any fate"])
def test_a_finite_space_is_used_up_without_a_repeat(name: str, fates: Sequence[str]) -> None:
    @settings(CALM, max_examples=15)
    @given(spaces(finite=True, most=3), st.integers(0, 2**31))
    def check(space: Space, seed: int) -> None:
        book, searcher = Book(), built(name, space, seed=seed)
        every = {identity(params) for params in all_points(space)}
        start = next(all_points(space))
        book.propose(start, is_start_point=True)
        found = [identity(start)]
        while (params := searcher.propose(book.history)) is not None:
            found.append(identity(params))
            assert len(found) <= len(every), "a point is proposed again"
            book.propose(params, fates[len(found) % len(fates)], len(found) % 4)
            if len(found) % 2:
                book.settle()
        assert set(found) == every, "the space is said to be used up too early"
        book.settle()
        assert searcher.propose(book.history) is None, "None is for good"

    check()


@every_searcher
def test_large_finite_space_is_used_up(name: str) -> None:
    space = Space({f"p{i}": Integer(1, MAX_FINITE_VALUES) for i in range(4)})
    book, searcher = Book(), built(name, space)
    while (params := searcher.propose(book.history)) is not None:
        book.propose(params, "completed", len(book.records) % 4)
        book.settle()
    assert len({identity(t.params) for t in book.history.trials}) == MAX_FINITE_VALUES**4 == len(book.history.trials)


@every_searcher
def test_space_of_constants_has_one_point(name: str) -> None:
    book, searcher = Book(), built(name, Space({"a": Constant(1), "b": Constant([None])}))
    assert searcher.propose(book.history) == {"a": 1, "b": [None]}
    book.propose({"a": 1, "b": [None]})
    assert searcher.propose(book.history) is None


@every_searcher
@pytest.mark.parametrize("fate", FATES)
def test_trials_that_all_share_a_fate_do_no_harm(name: str, fate: str) -> None:
    space = Space(
        {"lr": Real(1e-5, 1, log=True), "kind": Choice(("a", "b")), "k": Integer(1, 9, when={"kind": ("b",)})}
    )
    book, searcher = Book(), built(name, space)
    for _ in range(30):
        params = searcher.propose(book.history)
        assert params is not None
        assert space.contains(params)
        book.propose(params, fate, 1)
        book.settle()


@every_searcher
def test_pending_trials_keep_parallel_proposals_apart(name: str) -> None:
    space = Space({"x": Real(0, 1), "y": Real(0, 1)})
    book, searcher = Book(), built(name, space)
    for i in range(24):
        params = searcher.propose(book.history)
        assert params is not None
        book.propose(params, "completed" if i < 16 else "pending", i % 4)
        book.settle()
    points = {(t.params["x"], t.params["y"]) for t in book.history.trials}
    assert len(points) == 24


@every_searcher
def test_start_points_do_not_count_as_proposals(name: str) -> None:
    space = Space({"x": Real(0, 1), "y": Real(1e-3, 1, log=True)})
    book, searcher = Book(), built(name, space)
    first = searcher.propose(book.history)
    book.propose({"x": 0.123, "y": 0.5}, "completed", 1, is_start_point=True)
    book.settle()
    assert searcher.propose(book.history) == first


@pytest.mark.parametrize(("name", "part"), [("bayes", 0.1), ("tpe", 0.4), ("gp", 0.05), ("bohb", 0.7)])
def test_models_learn_what_random_search_does_not(name: str, part: float) -> None:
    space = Space({"x": Real(0, 1), "lr": Real(1e-5, 1, log=True), "kind": Choice(("a", "b", "c"))})

    def loss(params: Params, epoch: int) -> dict[str, float]:  # noqa: ARG001  # a curve's signature
        off = (params["x"] - 0.3) ** 2 + (np.log10(params["lr"]) + 3) ** 2 / 9
        return {"loss": float(off) + 0.2 * (params["kind"] != "b")}

    def found(name: str, seed: int) -> float:
        scheduler = plugins.find("schedulers", "fifo")
        fifo = scheduler.build(scheduler.Options(max_epochs=1), Problem(space, ONE, (1,), seed))
        parts = (ONE, built(name, space, seed=seed), fifo, Curves(loss))
        return best_loss(Simulation(*parts, max_trials=50).run())

    seeds = range(10)
    learned, random = ([found(each, seed) for seed in seeds] for each in (name, "random"))
    assert statistics.median(learned) < part * statistics.median(random)


def test_cmaes_learns_in_many_dimensions() -> None:
    space = Space({f"x{i}": Real(-1, 1) for i in range(8)})

    def loss(params: Params, epoch: int) -> dict[str, float]:  # noqa: ARG001  # a curve's signature
        return {"loss": sum(10.0 ** (i / 4) * (x - 0.3) ** 2 for i, x in enumerate(params.values()))}

    def found(name: str) -> float:
        scheduler = plugins.find("schedulers", "fifo")
        fifo = scheduler.build(scheduler.Options(max_epochs=1), Problem(space, ONE, (1,)))
        return best_loss(Simulation(ONE, built(name, space), fifo, Curves(loss), max_trials=300).run())

    assert found("cmaes") < 0.1 * found("random")
