"""The Pareto order against its definition, and the compromise: on the front, spread, and where it is wished."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.spec.objective import Constraint, Objective, Objectives, Observation
from service.spec.pareto import MOST_NET, Achievement, Wish, pareto_fronts, pareto_places

TWO = Objectives((Objective("loss"), Objective("acc", "maximize")))
FRONT = [Observation((x / 10, 1 - x / 10)) for x in range(11)]


def fronts_by_definition(observations: list[Observation]) -> list[list[int]]:
    left = list(range(len(observations)))
    fronts = []
    while left:
        front = [i for i in left if not any(observations[j].dominates(observations[i]) for j in left)]
        fronts.append(front)
        left = [i for i in left if i not in front]
    return fronts


@st.composite
def observation_lists(draw: st.DrawFn) -> list[Observation]:
    count = draw(st.integers(1, 4))
    loss = st.one_of(st.integers(0, 4).map(float), st.just(math.inf), st.floats(-2, 2))
    point = st.tuples(st.tuples(*[loss] * count), st.sampled_from([0.0, 0.0, 0.0, 1.0, 2.5, math.inf]))
    return [Observation(losses, violation) for losses, violation in draw(st.lists(point, max_size=25))]


@given(observation_lists())
def test_fronts_are_what_the_definition_says(observations: list[Observation]) -> None:
    assert pareto_fronts(observations) == fronts_by_definition(observations)


def several(
    count: int, weight: dict[int, float] | None = None, reference: dict[int, float] | None = None
) -> Objectives:
    weights, references = weight or {}, reference or {}
    goals = (Objective(f"f{i}", weight=weights.get(i, 1.0), reference=references.get(i)) for i in range(count))
    return Objectives(tuple(goals))


@given(observation_lists())
def test_places_count_what_comes_before_and_never_put_a_dominated_point_first(observations: list[Observation]) -> None:
    count = len(observations[0].losses) if observations else 2
    places = pareto_places(observations, Wish.even(count))
    for i, a in enumerate(observations):
        assert places[i] == sum(place < places[i] for place in places)
        for j, b in enumerate(observations):
            assert not (a.dominates(b) and places[i] >= places[j])
            assert (a == b) <= (places[i] == places[j])


@given(
    observation_lists(),
    st.lists(st.floats(0.01, 100), min_size=4, max_size=4),
    st.lists(st.floats(-9, 9) | st.none(), min_size=4, max_size=4),
)
@example([Observation((1.0,), 1.0), Observation((0.0,), 1.0)], [1.0] * 4, [None] * 4)
def test_the_compromise_is_on_the_front_and_leads_every_order(
    observations: list[Observation], weights: list[float], references: list[float | None]
) -> None:
    if not observations:
        with pytest.raises(ValueError, match="nothing to choose from"):
            TWO.compromise(observations)
        return
    count = len(observations[0].losses)
    objectives = Objectives(tuple(Objective(f"f{i}", weight=weights[i], reference=references[i]) for i in range(count)))
    chosen, order = objectives.compromise(observations), objectives.order(observations)
    assert sorted(order) == list(range(len(observations)))
    if any(o.is_finite for o in observations):
        assert observations[chosen].is_finite
        assert not any(o.is_finite and o.dominates(observations[chosen]) for o in observations)
    assert observations[order[0]] == observations[chosen]
    scores = objectives.scores(observations)
    assert scores[chosen] == min(scores)
    for before, after in itertools.pairwise(order):
        assert not (observations[after].is_finite and observations[after].dominates(observations[before]))


@given(observation_lists())
def test_what_shares_a_front_is_equal_by_layer_and_preference_never_contradicts_dominance(
    observations: list[Observation],
) -> None:
    if not observations or len(observations[0].losses) < 2:
        return
    objectives = several(len(observations[0].losses))
    layers, preference = objectives.layers(observations), objectives.preference(observations)
    for i, a in enumerate(observations):
        for j, b in enumerate(observations):
            if a.is_finite and b.is_finite and a.dominates(b):
                assert layers[i] < layers[j]
                assert preference[i] <= preference[j]
    assert all(
        math.isinf(x) and math.isinf(y)
        for o, x, y in zip(observations, layers, preference, strict=True)
        if not o.is_finite
    )


@pytest.mark.parametrize("count", [2, 3])
def test_two_thousand_observations_are_sorted_without_comparing_each_pair_in_python(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(1)
    observations = [Observation(tuple(rng.random() for _ in range(count))) for _ in range(2000)]
    monkeypatch.setattr(Observation, "dominates", lambda *_: pytest.fail("compared in Python"))
    fronts = pareto_fronts(observations)
    assert sum(map(len, fronts)) == 2000
    assert len(fronts) > 10


def test_a_few_of_a_front_show_all_of_it() -> None:
    places = pareto_places(FRONT, Wish.even(2))
    assert [i for i, place in enumerate(places) if place == 0] == [5], "the compromise"
    assert {i for i, place in enumerate(places) if place < 3} == {0, 5, 10}, "then both ends"
    assert (
        max(
            abs(a - b)
            for a, b in zip(
                *[sorted(i for i, place in enumerate(places) if place < 5)[k:] for k in (0, 1)], strict=False
            )
        )
        <= 3
    )


def test_ties_share_a_place_and_crowds_wait() -> None:
    crowd = [Observation((0.5 + i / 1000, 0.5 - i / 1000)) for i in range(20)]
    places = pareto_places([*FRONT, *crowd, FRONT[0], FRONT[0]], Wish.even(2))
    assert places[0] == places[-1] == places[-2] < 6
    assert sum(place < 13 for place in places[11:31]) <= 2, "the crowd comes after the whole front is covered"


def test_a_front_larger_than_its_net_is_ordered_all_the_same() -> None:
    count = 3 * MOST_NET
    front = [Observation((i / count, 1 - i / count)) for i in range(count)]
    assert sorted(pareto_places(front, Wish.even(2))) == list(range(count))


def test_weights_and_references_move_the_compromise() -> None:
    assert several(2).compromise(FRONT) == 5
    assert several(2, weight={0: 3.0}).compromise(FRONT) < 4
    assert several(2, weight={1: 3.0}).compromise(FRONT) > 6
    assert several(2, reference={0: 0.2, 1: 0.8}).compromise(FRONT) == 2
    assert several(2, reference={0: 0.9, 1: 0.3}).compromise(FRONT) == 7, "the nearest to the middle that meets both"
    assert several(2, reference={0: 0.1, 1: 0.1}).compromise(FRONT) == 5, "out of reach: as near to both as can be"
    maximised = Objectives((Objective("loss"), Objective("acc", "maximize", reference=0.9)))
    observations = [Observation((i / 10, -i / 10)) for i in range(11)]
    assert (maximised.compromise(observations), TWO.compromise(observations)) == (9, 5)


def test_units_do_not_matter_to_the_compromise() -> None:
    scaled = [Observation((o.losses[0] * 1e6 + 3, o.losses[1] * 1e-6)) for o in FRONT]
    assert several(2).compromise(scaled) == several(2).compromise(FRONT)


def test_a_limit_comes_before_any_compromise() -> None:
    objectives = Objectives(several(2).objectives, (Constraint.parse("f1 <= 0.35"),))
    observations = [objectives.observe({"f0": o.losses[0], "f1": o.losses[1]}) for o in FRONT]
    assert objectives.pareto(observations) == [7, 8, 9, 10]
    assert objectives.compromise(observations) in (8, 9)
    assert objectives.pareto(observations[:5]) == []
    assert objectives.compromise(observations[:5]) == 4, "the smallest violation, where every one breaks the limit"


def test_small_differences_are_no_trade_off_where_a_span_is_asked_for() -> None:
    noisy = [Observation((0.5, 9.9)), Observation((0.2, 9.95)), Observation((0.09, 10.0))]
    assert several(2).compromise(noisy) == 1
    assert several(2).compromise(noisy, least_span=0.1) == 2


def test_equal_losses_leave_nothing_to_divide_by() -> None:
    same = Achievement.of([(1.0, 2.0)], Wish.even(2))
    assert same((1.0, 2.0)) == 0 < same((1.0, 3.0))
    assert several(2).compromise([Observation((1.0, 2.0))] * 3) == 0
