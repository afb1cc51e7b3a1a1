"""What a fault of the baseline is."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from tests.chaos.baseline.arena import Arena
from tests.chaos.checker import Expected


@dataclass(frozen=True, slots=True)
class Case:
    """`run` starts the sweep, does the fault, and says what is expected; the sweep then goes to its end.

    `searcher`: "tune" is Tune's random search, "own" one as a user writes it.
    """

    name: str
    what: str
    run: Callable[[Arena, random.Random, Expected], Expected]
    searcher: Literal["tune", "own"] = "tune"
