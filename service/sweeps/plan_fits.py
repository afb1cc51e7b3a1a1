"""How often the trials of a sweep are trained where there are folds or seeds: at most, and by experience."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from service.spec.sections import Evaluation

RACED_SHARE: Final = 0.2  # of all further fits that complete trials could have (tests/benchmarks/search/folds.py)


@dataclass(frozen=True, slots=True)
class Fits:
    """Fits over all trials; None where their number is not known. `each`: of a trial that stays in the race."""

    each: int
    final: int
    most: int | None
    expected: int | None
    notes: tuple[str, ...]


def fits_of(evaluation: Evaluation, trials: int | None, complete: int | None) -> Fits | None:
    """The fits of `trials` of which `complete` are expected to train to the end; None with one fit per trial."""
    if not evaluation.is_raced:
        return None
    each = evaluation.folds * evaluation.seeds
    final = evaluation.finalists * evaluation.final_seeds * evaluation.folds
    most = (
        None if trials is None else trials * each + min(evaluation.finalists, trials) * (final // evaluation.finalists)
    )
    expected = None
    if trials is not None and complete is not None:
        further = max((each - 1) * min(1, complete), math.ceil(RACED_SHARE * (each - 1) * complete))
        expected = min(most or 0, trials + further + final)
    notes = [f"a trial gets up to {each} fits while it is not clearly worse than the best"] if each > 1 else []
    if final:
        notes.append(
            f"at the end, {evaluation.finalists} trials are trained {final // evaluation.finalists} times more"
        )
    return Fits(each, final, most, expected, tuple(notes))
