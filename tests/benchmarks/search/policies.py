"""Every policy of the benchmark by its name: ours, and the peers'."""

from __future__ import annotations

from typing import Final, Protocol

from tests.benchmarks.search.cells import Cell, Result
from tests.benchmarks.search.own import OWN, Own
from tests.benchmarks.search.peer import PEERS, TWO_OBJECTIVES

FULL_SEEDS_OF_DEAR: Final = 3


class Policy(Protocol):
    """What runs a cell."""

    @property
    def version(self) -> str:
        """Changes with whatever may change the results."""

    @property
    def is_dear(self) -> bool:
        """Whether proposals cost so much real time that few seeds must do."""

    def run(self, cell: Cell, budget: float) -> Result:
        """The cell's result; `budget` in full trainings per worker."""


def names(*, two_objectives: bool = False) -> list[str]:
    """The named policies, ours first."""
    return [*(name for name in OWN if name != "grid"), *TWO_OBJECTIVES] if two_objectives else [*OWN, *PEERS]


def find(name: str) -> Policy:
    """The policy called `name`, or the searcher and scheduler that it spells; SpecError where there are none."""
    known: dict[str, Policy] = {**OWN, **PEERS, **TWO_OBJECTIVES}
    return known[name] if name in known else Own.parse(name)
