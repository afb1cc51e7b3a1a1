"""The search space: every way into and out of it agrees with every other, for any parameters."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.spec.document import Node, Place
from service.spec.faults import Faults
from service.spec.parameters import parse_parameter, to_data
from service.spec.space import Choice, Constant, Integer, Parameter, Real, Space, find_cycle, identity
from tests.spaces import assert_there_and_back

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
UNIT = st.floats(0, 1)


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    values = tuple(draw(st.lists(JSON, min_size=1, max_size=5, unique_by=identity)))
    weights = draw(st.none() | st.tuples(*[st.floats(0.01, 100)] * len(values)))
    return Choice(values, weights)


@st.composite
def integers(draw: st.DrawFn) -> Integer:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -(2**40), 2**40))
    high = low + draw(st.integers(1, 2**40))
    return Integer(low, high, log, draw(st.integers(1, min(high - low, 10_000))))


@st.composite
def reals(draw: st.DrawFn) -> Real:
    log = draw(st.booleans())
    low = draw(st.floats(1e-12, 1e6) if log else st.floats(-1e6, 1e6))
    high = low + draw(st.floats(1e-3, 1e6))
    step = draw(st.none() | st.floats((high - low) / 1000, high - low, exclude_min=True))
    return Real(low, high, log, step)


PARAMETERS: st.SearchStrategy[Parameter] = choices() | integers() | reals() | st.builds(Constant, JSON)


@given(PARAMETERS, UNIT)
def test_every_point_of_the_interval_is_a_value_and_back(parameter: Parameter, u: float) -> None:
    assert_there_and_back(parameter, u)


@given(PARAMETERS)
def test_ends_of_the_interval_are_ends_of_the_range(parameter: Parameter) -> None:
    first, last = parameter.from_unit(0.0), parameter.from_unit(1.0)
    if isinstance(parameter, Integer | Real):
        assert first == parameter.low
        assert last <= parameter.high
        assert last > parameter.high - (parameter.step or 1e-9 * abs(parameter.high) + 1e-9)
    for odd in (math.nan, -3.0, 7.0):
        assert parameter.contains(parameter.from_unit(odd))


@given(integers() | reals(), st.lists(UNIT, min_size=2, max_size=2))
def test_numbers_rise_with_the_interval(parameter: Integer | Real, pair: list[float]) -> None:
    low, high = sorted(pair)
    assert parameter.from_unit(low) <= parameter.from_unit(high)


@given(PARAMETERS, st.integers(1, 9))
def test_grid_values_are_different_values_of_the_parameter(parameter: Parameter, points: int) -> None:
    values = parameter.grid_values(points)
    assert all(map(parameter.contains, values))
    assert len({identity(value) for value in values}) == len(values)
    if parameter.kind in ("integer", "real"):
        assert len(values) <= points


@given(PARAMETERS)
def test_written_form_is_read_back_the_same(parameter: Parameter) -> None:
    tree = Node.of({"parameters": {"p": to_data(parameter)}}, Place("f"))
    faults = Faults(tree)
    assert parse_parameter(tree.mapping["parameters"].mapping["p"], ("parameters", "p"), faults) == parameter
    assert len(faults) == 0


@pytest.mark.parametrize(
    ("parameter", "inside", "outside"),
    [
        (Constant(3), [3, 3.0], [4, True, "3", None]),
        (Choice((1, "a", None, [1, {"b": 2}])), [1.0, "a", None, [1, {"b": 2}]], [True, "1", [1], {}]),
        (Integer(1, 10, step=3), [1, 4.0, 10], [2, 11, 1.5, True, "4", math.nan, math.inf]),
        (Real(0.0, 1.0), [0, 1, 0.5], [-1e-12, 1.1, True, "0.5", math.nan]),
        (Real(0.1, 0.9, step=0.1), [0.1, 0.3, 0.1 + 0.2, 0.9], [0.15, 1.0]),
    ],
)
def test_membership(parameter: Parameter, inside: list[object], outside: list[object]) -> None:
    assert [value for value in inside if not parameter.contains(value)] == []
    assert [value for value in outside if parameter.contains(value)] == []


def test_steps_are_exact_decimals() -> None:
    assert Real(0.1, 0.7, step=0.2).grid_values(9) == [0.1, 0.3, 0.5, 0.7]
    assert Integer(1, 10, step=4).grid_values(9) == [1, 5, 9]


def test_log_scale_gives_each_decade_its_share() -> None:
    draws = [Real(1e-4, 1.0, log=True).from_unit((i + 0.5) / 4000) for i in range(4000)]
    assert [sum(10.0**e <= d < 10.0 ** (e + 1) for d in draws) for e in range(-4, 0)] == [1000] * 4


def test_log_integers_lean_to_the_low_end() -> None:
    draws = [Integer(1, 100, log=True).from_unit((i + 0.5) / 1000) for i in range(1000)]
    assert sum(d <= 10 for d in draws) > 500
    assert {1, 2, 100} <= set(draws)


def test_weights_are_probabilities() -> None:
    space = Space({"p": Choice(("a", "b"), (1.0, 3.0))})
    rng = np.random.default_rng(0)
    share = sum(space.sample(rng)["p"] == "b" for _ in range(4000)) / 4000
    assert abs(share - 0.75) < 0.03


CONDITIONAL = Space(
    {
        "nesterov": Choice((True, False), when={"momentum": (5, 9), "optimizer": ("sgd",)}),
        "momentum": Integer(1, 9, when={"optimizer": ("sgd",)}),
        "optimizer": Choice(("sgd", "adam", "lion")),
        "section.inner": Integer(1, 2),
        "section": Choice(({"a": 1}, {"b": 2})),
        "fixed": Constant(7),
        "lr": Real(0.1, 0.9, step=0.2),
    }
)


def test_parents_and_outer_sections_come_first() -> None:
    order = list(CONDITIONAL.names)
    assert order.index("optimizer") < order.index("momentum") < order.index("nesterov")
    assert order.index("section") < order.index("section.inner")


@given(st.lists(UNIT, min_size=CONDITIONAL.dimension, max_size=CONDITIONAL.dimension))
def test_every_point_of_the_cube_is_in_the_space_and_back(u: list[float]) -> None:
    params = CONDITIONAL.from_unit(u)
    assert CONDITIONAL.problems(params) == []
    back = CONDITIONAL.to_unit(params)
    inactive = [name for name, place in zip(CONDITIONAL.dimensions, back, strict=True) if math.isnan(place)]
    assert set(inactive) == set(CONDITIONAL.dimensions) - set(params)
    assert CONDITIONAL.from_unit(back) == params


def test_samples_are_seeded_plain_and_inside() -> None:
    first, second = (
        [CONDITIONAL.sample(rng) for _ in range(200)] for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert first == second
    assert all(map(CONDITIONAL.contains, first))
    assert {type(value) for params in first for value in params.values()} == {str, int, float, bool, dict}
    assert {len(params) for params in first} == {5, 6, 7}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"typo": 1}, "typo is not a parameter"),
        ({"momentum": 3}, "momentum is given, but its condition is not met"),
        ({"lr": 0.2}, "lr cannot be 0.2: a number from 0.1 to 0.9 in steps of 0.2"),
        ({"lr": None}, "lr cannot be null"),
        ({"fixed": 8}, "fixed cannot be 8: only 7"),
    ],
)
def test_problems_name_what_is_wrong(change: dict[str, object], problem: str) -> None:
    good = {"optimizer": "adam", "section": {"a": 1}, "section.inner": 1, "fixed": 7, "lr": 0.3}
    assert CONDITIONAL.problems(good) == []
    assert [text.startswith(problem) for text in CONDITIONAL.problems({**good, **change})] == [True]
    assert CONDITIONAL.problems({k: v for k, v in good.items() if k != "lr"}) == ["lr is missing"]


def test_grid_holds_every_combination_once() -> None:
    grid = list(CONDITIONAL.grid(5))
    assert len({identity(params) for params in grid}) == len(grid) == CONDITIONAL.grid_size(5)
    assert all(map(CONDITIONAL.contains, grid))
    assert grid == list(CONDITIONAL.grid(5))


def test_size_counts_conditions() -> None:
    sgd = 7 + 2 * 2  # momentum, doubled where nesterov exists
    assert CONDITIONAL.size == (sgd + 2) * 2 * 2 * 5
    assert Space({"a": Real(0, 1)}).size is None


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    parameters: dict[str, Parameter] = {}
    for i in range(draw(st.integers(1, 5))):
        when = {}
        for parent in (
            draw(st.lists(st.sampled_from(sorted(parameters)), max_size=2, unique=True)) if parameters else []
        ):
            size = parameters[parent].size or 1
            when[parent] = tuple(draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=2, unique=True)))
        count = draw(st.integers(1, 4))
        forms: list[Parameter] = [
            Choice(tuple(range(count)), when=when), Integer(0, count, when=when), Constant(0, when=when)
        ]  # fmt: skip
        parameters[f"p{i}"] = draw(st.sampled_from(forms))
    return Space(parameters)


@settings(max_examples=200)
@given(spaces(), st.integers(1, 4))
def test_counting_agrees_with_walking(space: Space, points: int) -> None:
    grid = list(space.grid(points))
    assert space.grid_size(points) == len(grid) == len({identity(params) for params in grid})
    everything = list(space.grid(10))
    assert space.size == len(everything)
    assert all(map(space.contains, everything))


def test_a_huge_grid_is_counted_and_begun_without_walking_it() -> None:
    space = Space({f"p{i}": Integer(1, 10) for i in range(100)})
    assert space.grid_size(10) == 10**100
    assert len(list(itertools.islice(space.grid(10), 1000))) == 1000


def test_circles_are_found() -> None:
    parameters: dict[str, Parameter] = {
        "a": Choice((1,), when={"b": (1,)}), "b": Choice((1,), when={"c": (1,)}), "c": Choice((1,), when={"a": (1,)}),
    }  # fmt: skip
    assert find_cycle(parameters) == ["a", "b", "c", "a"]
    with pytest.raises(ValueError, match="a -> b -> c -> a"):
        Space(parameters)
