"""How long a searcher takes for a proposal, over the size of the history and the number of parameters.

The history is that of a simulated sweep of random search with ASHA, so many trials are short, a few are long and some
run. A proposal is timed as in a running sweep, where a few reports came since the one before; the first after a
restart, for which the searcher has seen nothing yet, stands in brackets.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Final

from service import plugins
from service.spec.objective import Objective, Objectives
from service.spec.space import Params, Real, Space
from service.tuning.events import Record, Reported, TrialProposed
from service.tuning.history import History
from service.tuning.strategy import Problem
from tests.benchmarks.search.tasks import METRIC
from tests.simulator import Curves, Simulation

OBSERVATIONS: Final = (10, 100, 1000, 5000)
DIMENSIONS: Final = (5, 20, 50)
OBJECTIVES: Final = Objectives((Objective(METRIC),))
EPOCHS: Final = 27
PROPOSALS: Final = 5  # timed after the first


def table(searchers: Sequence[str]) -> str:
    """Milliseconds a proposal, as Markdown."""
    head = ["searcher", "parameters", *(f"{count:,} observations" for count in OBSERVATIONS)]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for dimension in DIMENSIONS:
        space = Space({f"x{i}": Real(1e-4, 1.0, log=i % 2 == 0) for i in range(dimension)})
        records, rungs = _sweep(space)
        problem = Problem(space, OBJECTIVES, rungs, 1)
        for searcher in searchers:
            _milliseconds(searcher, problem, records, OBSERVATIONS[0])  # imports are no part of a proposal
            found = [_milliseconds(searcher, problem, records, count) for count in OBSERVATIONS]
            shown = [f"{usual:.1f} ({first:.0f})" for usual, first in found]
            lines.append(f"| {searcher} | {dimension} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _milliseconds(searcher: str, problem: Problem, records: Sequence[Record], observations: int) -> tuple[float, float]:
    """(usual, first) of a proposal with so many observations."""
    plugin = plugins.find("searchers", searcher)
    search = plugin.build(plugin.Options(), problem)
    took = []
    for history in _moments(records, observations):
        began = time.perf_counter()
        search.propose(history)
        took.append(1000 * (time.perf_counter() - began))
        if len(took) > PROPOSALS:
            break
    return statistics.median(took[1:]), took[0]


def _moments(records: Sequence[Record], observations: int) -> Iterator[History]:
    """The history whenever a proposal is due, from `observations` reports on."""
    history, seen = History(OBJECTIVES), 0
    for record in records:
        if seen >= observations and isinstance(record.event, TrialProposed):
            yield history
        history.apply(record)
        seen += isinstance(record.event, Reported)


def _sweep(space: Space) -> tuple[list[Record], tuple[int, ...]]:
    search, schedule = plugins.find("searchers", "random"), plugins.find("schedulers", "asha")
    options = schedule.Options(max_epochs=EPOCHS)
    rungs = tuple(schedule.rungs(options))
    problem = Problem(space, OBJECTIVES, rungs)

    def loss(params: Params, epoch: int) -> dict[str, float]:
        return {METRIC: sum((u - 0.5) ** 2 for u in space.to_unit(params)) + 1 / epoch}

    simulation = Simulation(
        OBJECTIVES,
        search.build(search.Options(), problem),
        schedule.build(options, problem),
        Curves(loss),
        max_trials=max(OBSERVATIONS),
        wall_clock_s=1.1 * max(OBSERVATIONS) / 4,
    )
    simulation.run()
    return simulation.records, rungs
