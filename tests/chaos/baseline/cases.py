"""What a fault of the baseline is, and the words for a machine that cannot have it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos.baseline.arena import Arena
from tests.chaos.checker import Expected


class NotPossibleError(Exception):
    """This machine lacks what the fault needs; it is skipped, and its reason stands in the table."""


@dataclass(frozen=True, slots=True)
class Case:
    """`run` starts the sweep, does the fault, and says what is expected; the sweep then goes to its end.

    `searcher`: "tune" is Tune's random search, "own" one as a user writes it.
    """

    name: str
    what: str
    run: Callable[[Arena, random.Random, Expected], Expected]
    searcher: Literal["tune", "own"] = "tune"
