"""Prior knowledge of a parameter: which value is probably good, as a change of the map from the unit interval; pure.

A prior moves draws towards a value: evenly spread numbers of the unit interval become values that crowd around it. So
every searcher follows it without knowing of it. A quarter of the draws stays spread as without a prior, which keeps
every value within reach of a sweep whose prior is wrong.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal, TypeAlias, get_args

Strength: TypeAlias = Literal["weak", "medium", "strong"]
STRENGTHS: Final[tuple[Strength, ...]] = get_args(Strength)
EVEN_SHARE: Final = 0.25  # of the draws; no strength takes it away
_WIDTHS: Final[dict[Strength, float]] = {"weak": 0.25, "medium": 0.12, "strong": 0.05}  # of the range, on its scale
_CHOSEN: Final[dict[Strength, float]] = {"weak": 0.25, "medium": 0.5, "strong": 0.75}  # what the value gets on top
_CELLS: Final = 128  # of equal density each, so that the map has an exact inverse


@dataclass(frozen=True, slots=True)
class Prior:
    """A value that is probably good, and how sure that is."""

    around: Any
    strength: Strength = "medium"

    def probabilities(self, even: tuple[float, ...], chosen: int) -> tuple[float, ...]:
        """The probabilities of a choice whose values have those of `even` without a prior; `chosen` is `around`."""
        extra = _CHOSEN[self.strength]
        return tuple((1 - extra) * p + (extra if i == chosen else 0.0) for i, p in enumerate(even))


class Warp:
    """A continuous, strictly rising map of the unit interval onto itself that crowds points around `centre`.

    `onto` takes an even number to a place on the parameter's scale, `back` is its inverse.
    """

    def __init__(self, centre: float, strength: Strength) -> None:
        width = _WIDTHS[strength] * math.sqrt(2)
        start, end = math.erf(-centre / width), math.erf((1 - centre) / width)
        places = [i / _CELLS for i in range(_CELLS + 1)]
        bell = [(math.erf((place - centre) / width) - start) / (end - start) for place in places]
        shares = [EVEN_SHARE * place + (1 - EVEN_SHARE) * share for place, share in zip(places, bell, strict=True)]
        self._places, self._shares = places, [*shares[:-1], 1.0]

    def onto(self, u: float) -> float:
        """The place on the scale that `u` is taken to."""
        return _between(u, self._shares, self._places)

    def back(self, place: float) -> float:
        """The number that is taken to `place`."""
        return _between(place, self._places, self._shares)


def _between(x: float, known: list[float], values: list[float]) -> float:
    i = min(len(known) - 1, max(1, bisect_right(known, x))) - 1
    part = (x - known[i]) / (known[i + 1] - known[i])
    return min(1.0, max(0.0, values[i] + part * (values[i + 1] - values[i])))


@cache
def warp(centre: float, strength: Strength) -> Warp:
    """The map that crowds around `centre`; the same object for the same arguments."""
    return Warp(centre, strength)
