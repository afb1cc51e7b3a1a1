"""What a fault is: a name, what it does in words, and the function that does it to a sweep."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.arena import Arena
from tests.chaos.checker import Expected
from tests.chaos.outcome import number_of


@dataclass(frozen=True, slots=True)
class Fault:
    """`run` starts the sweep in the arena, does the fault, and says what is expected; the sweep then goes to its end.

    `name` is F1 to F19, with a letter where one fault has several ways.
    """

    name: str
    what: str
    run: Callable[[Arena, random.Random], Expected]
    variant: str = "parallel"
    is_alone: bool = False  # needs the machine for itself

    @property
    def number(self) -> int:
        """The number in its name."""
        return number_of(self.name)
