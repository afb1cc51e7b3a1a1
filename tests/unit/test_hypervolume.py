"""The area that points dominate, against counting cells."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.tuning.hypervolume import Staircase, hypervolume

SIDE = 8
points = st.lists(st.tuples(st.integers(-1, SIDE + 1), st.integers(-1, SIDE + 1)), max_size=20)


@given(points)
def test_the_area_is_that_of_the_cells_that_some_point_dominates(found: list[tuple[int, int]]) -> None:
    cells = sum(
        any(x <= i and y <= j for x, y in found) for i in range(-1, SIDE) for j in range(-1, SIDE)
    )  # a cell is named by its lower corner
    assert hypervolume([(float(x), float(y)) for x, y in found], (float(SIDE), float(SIDE))) == cells


@given(points)
def test_it_never_shrinks_and_says_when_it_grows(found: list[tuple[int, int]]) -> None:
    stairs = Staircase((float(SIDE), float(SIDE)))
    for point in found:
        before = stairs.area
        assert stairs.add((float(point[0]), float(point[1]))) == (stairs.area > before)


def test_what_is_no_number_adds_nothing() -> None:
    assert hypervolume([(float("nan"), 0.0), (float("-inf"), 0.0), (0.0, float("inf"))], (1.0, 1.0)) == 0
