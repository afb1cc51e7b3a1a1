"""Priors on a parameter: draws crowd around the value, every value stays within reach, the map keeps its inverse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import SpecError
from service.spec.distributions import Choice, Integer, Real
from service.spec.document import Node, Place
from service.spec.faults import Faults
from service.spec.parameters import parse_parameter, to_data
from service.spec.priors import EVEN_SHARE, STRENGTHS, Prior, Strength, Warp
from service.spec.space import Space
from tests.spaces import assert_there_and_back, choices, large_integers, reals, small_integers, stepped_reals

CALM = settings(deadline=None, database=None, derandomize=True)
UNIT = st.floats(0, 1)


@st.composite
def parameters(draw: st.DrawFn) -> Choice | Integer | Real:
    """A parameter with a prior around one of its values."""
    plain: Choice | Integer | Real = draw(choices() | small_integers() | large_integers() | stepped_reals() | reals())
    return replace(plain, prior=Prior(plain.from_unit(draw(UNIT)), draw(st.sampled_from(STRENGTHS))))


@CALM
@given(parameters(), UNIT)
def test_every_point_is_a_value_and_back(parameter: Choice | Integer | Real, u: float) -> None:
    assert_there_and_back(parameter, u)


@CALM
@given(parameters(), UNIT, UNIT)
def test_numbers_rise_and_bounds_are_inclusive(parameter: Choice | Integer | Real, one: float, other: float) -> None:
    if isinstance(parameter, Integer | Real):
        low, high = sorted((one, other))
        assert parameter.from_unit(low) <= parameter.from_unit(high)
        assert parameter.from_unit(0.0) == parameter.low
        assert parameter.from_unit(1.0) == replace(parameter, prior=None).from_unit(1.0)


@CALM
@given(parameters(), st.integers(1, 9))
def test_the_grid_does_not_know_of_priors(parameter: Choice | Integer | Real, points: int) -> None:
    assert parameter.grid_values(points) == replace(parameter, prior=None).grid_values(points)


@CALM
@given(parameters())
@example(Real(0.1, 0.35, step=0.25, prior=Prior(0.1, "weak")))  # 0.35 - 0.1 is a little less than 0.25
def test_written_form_is_read_back_the_same(parameter: Choice | Integer | Real) -> None:
    tree = Node.of({"parameters": {"p": to_data(parameter)}}, Place("f"))
    faults = Faults(tree)
    assert parse_parameter(tree.mapping["parameters"].mapping["p"], ("parameters", "p"), faults) == parameter
    assert len(faults) == 0


@CALM
@given(UNIT, st.sampled_from(STRENGTHS), UNIT, UNIT)
def test_the_even_share_reaches_everywhere(centre: float, strength: Strength, one: float, other: float) -> None:
    warp, (low, high) = Warp(centre, strength), sorted((one, other))
    assert warp.back(high) - warp.back(low) >= EVEN_SHARE * (high - low) - 1e-12
    assert math.isclose(warp.onto(warp.back(one)), one, abs_tol=1e-12)


@pytest.mark.parametrize(
    ("strength", "least", "most"), [("weak", 0.4, 0.6), ("medium", 0.6, 0.8), ("strong", 0.75, 0.9)]
)
def test_draws_crowd_around_the_value_on_its_own_scale(
    strength: Literal["weak", "medium", "strong"], least: float, most: float
) -> None:
    space = Space({"lr": Real(1e-5, 1.0, log=True, prior=Prior(1e-3, strength))})
    rng = np.random.default_rng(0)
    draws = [space.sample(rng)["lr"] for _ in range(2000)]
    near = sum(1e-4 < lr < 1e-2 for lr in draws) / len(draws)
    assert least < near < most  # two of five decades: 0.4 without a prior
    assert any(lr > 0.1 for lr in draws)


def test_a_choice_draws_its_value_more_often_whatever_its_weights() -> None:
    parameter = Choice(("sgd", "adam", "adamw"), (2.0, 1.0, 1.0), Prior("adamw", "medium"))
    assert parameter.probabilities == pytest.approx((0.25, 0.125, 0.625))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{min: 1, max: 8, prior: {around: 9}}", "p.prior.around: is no value of this parameter"),
        ("{min: 1, max: 8, prior: {around: '4'}}", "allowed: a number from 1 to 8"),
        ("{values: [a, b], prior: {around: c}}", "allowed: one of its values"),
        ("{min: 1, max: 8, prior: {}}", "p.prior: names no value"),
        ("{min: 1, max: 8, prior: 4}", "p.prior: names no value"),
        ("{min: 1, max: 8, prior: {arround: 4}}", "did you mean 'around'?"),
        ("{min: 1, max: 8, prior: {around: 4, strength: stong}}", "did you mean 'strong'?"),
        ("{value: 1, prior: {around: 1}}", "p.prior: does not go with this form of parameter"),
    ],
)
def test_a_wrong_prior_is_a_fault(text: str, fault: str) -> None:
    from service.spec.document import parse

    tree = parse(f"p: {text}", file="f")
    faults = Faults(tree)
    assert parse_parameter(tree.mapping["p"], ("p",), faults) is None
    with pytest.raises(SpecError) as caught:
        faults.raise_any()
    assert fault in str(caught.value)
