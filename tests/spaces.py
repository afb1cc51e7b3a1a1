"""Search spaces of every shape for property tests: choices, weights, logs, steps, constants and conditions."""

from __future__ import annotations

import math
from dataclasses import replace

from hypothesis import strategies as st

from service.spec.space import Choice, Constant, Integer, Parameter, Real, Space, identity

VALUES = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, "a", "b", [1, 2], {"k": 1}])
MAX_FINITE_VALUES = 4


@st.composite
def choices(draw: st.DrawFn) -> Choice:
    values = tuple(draw(st.lists(VALUES, min_size=1, max_size=MAX_FINITE_VALUES, unique_by=identity)))
    return Choice(values, draw(st.none() | st.tuples(*[st.floats(0.05, 20)] * len(values))))


@st.composite
def small_integers(draw: st.DrawFn) -> Integer:
    log = draw(st.booleans())
    low, step = draw(st.integers(1 if log else -5, 5)), draw(st.integers(1, 3))
    return Integer(low, low + step * draw(st.integers(1, MAX_FINITE_VALUES - 1)), log, step)


@st.composite
def large_integers(draw: st.DrawFn) -> Integer:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    return Integer(low, low + draw(st.integers(50, 10**6)), log, draw(st.integers(1, 7)))


@st.composite
def stepped_reals(draw: st.DrawFn) -> Real:
    log, step = draw(st.booleans()), draw(st.sampled_from([0.1, 0.25, 3.0]))
    low = draw(st.sampled_from([0.1, 1.0, 2.5]))
    return Real(low, low + step * draw(st.integers(1, MAX_FINITE_VALUES - 1)), log, step)


@st.composite
def reals(draw: st.DrawFn) -> Real:
    log = draw(st.booleans())
    low = draw(st.floats(1e-9, 1.0) if log else st.floats(-1e3, 1e3))
    return Real(low, low + draw(st.floats(1e-3, 1e3)), log)


@st.composite
def spaces(draw: st.DrawFn, *, finite: bool = False, most: int = 6) -> Space:
    """Up to `most` parameters, each perhaps on a condition over those before it; a finite one has few values each."""
    countable = choices() | small_integers() | stepped_reals() | st.builds(Constant, VALUES)
    kinds: st.SearchStrategy[Parameter] = countable if finite else countable | large_integers() | reals()
    parameters: dict[str, Parameter] = {}
    for i, parameter in enumerate(draw(st.lists(kinds, min_size=1, max_size=most))):
        parents = [name for name, p in parameters.items() if (p.size or MAX_FINITE_VALUES + 1) <= MAX_FINITE_VALUES]
        when = {}
        for parent in draw(st.lists(st.sampled_from(parents), max_size=2, unique=True)) if parents else []:
            values = parameters[parent].grid_values(MAX_FINITE_VALUES)
            when[parent] = tuple(draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique_by=identity)))
        parameters[f"p{i}"] = replace(parameter, when=when)
    return Space(parameters)


def assert_there_and_back(parameter: Parameter, u: float) -> None:
    """The value at `u` is one of the parameter's, and its own place leads to it again."""
    value = parameter.from_unit(u)
    assert parameter.contains(value)
    place = parameter.to_unit(value)
    assert 0 <= place <= 1
    again = parameter.from_unit(place)
    if isinstance(parameter, Real) and parameter.step is None:
        assert math.isclose(again, value, rel_tol=1e-6, abs_tol=1e-6 * (parameter.high - parameter.low))
    else:
        assert identity(again) == identity(value)
