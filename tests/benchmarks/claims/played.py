"""Other searchers played on the recorded curves of a whole grid, with their seconds: when the grid's best was there."""

from __future__ import annotations

import statistics
from functools import cache
from pathlib import Path
from typing import Final

from tests.benchmarks.claims.fits import BySeed

PLAYS: Final = 10


@cache
def seconds_to_best(sweeps: tuple[Path, ...], searcher: str) -> tuple[BySeed, BySeed]:
    """(training seconds until the grid's best value was there under `searcher`, those of the whole grid), by seed.

    The n-th sweep is the grid with seed n. On each the searcher is played with ten seeds of its own, whose mean counts:
    when a search comes upon one point is luck for the most part. One trial at a time; a searcher's own thinking takes
    no time. RuntimeError where it never tried the best one.
    """
    found, whole = {}, {}
    for seed, sweep in enumerate(sweeps):
        courses = [_courses(sweep, searcher, PLAYS * seed + play) for play in range(PLAYS)]
        found[seed] = statistics.mean(reached for reached, _ in courses)
        whole[seed] = courses[0][1]
    return found, whole


def _courses(folder: Path, searcher: str, seed: int) -> tuple[float, float]:
    """(seconds until the best value was there, seconds of the whole grid)."""
    from service.spec.sections import SearchSection
    from service.spec.sweep_spec import SweepSpec
    from service.tuning.ledger import read_ledger
    from service.tuning.sweep_folder import read_job
    from service.tuning.what_if import Recorded, what_if

    job = read_job(folder)
    spec = SweepSpec.from_dict(job.spec)
    recorded = Recorded(list(read_ledger(folder)), spec, job.defaults)
    other = spec.model_copy(update={"search": SearchSection(name=searcher), "seed": seed})
    _, same, played = what_if(recorded, other, workers=1).courses
    if played.reached_s is None:
        msg = f"{searcher} did not come to the best of {folder.name}"
        raise RuntimeError(msg)
    return played.reached_s, same.makespan_s
