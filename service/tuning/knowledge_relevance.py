"""How well an earlier sweep predicts this one, and what it would try here first.

As in RGPE (Feurer, Letham and Bakshy, Scalable Meta-Learning for Bayesian Optimization, 2018) an earlier sweep counts
by how well a model of it alone puts this sweep's trials in order, not by its losses: those need not be comparable.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Final

from service.spec.objective import Objectives
from service.spec.space import Params, Space
from service.tuning.history import History, Trial
from service.tuning.strategy import PastSweep

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.tuning.knowledge_ranks import Surrogate

    Floats = NDArray[np.float64]

PRIOR_MEAN: Final = 0.45  # rank correlation that an earlier sweep is expected to have before any trial has shown it
PRIOR_DEVIATION: Final = 0.3
CAUTION: Final = 0.5  # standard deviations that are taken off
MAX_JUDGED: Final = 100  # trials of this sweep; those that trained longest
FEWEST: Final = 2  # trials of either sweep that have an order
_NEAR: Final = 0.1  # of the unit interval, over all parameters: nearer, and the second one would teach little
_GOOD: Final = 0.5  # share of the others that a suggestion has left behind
_END: Final = 10**9  # an epoch that no trial reaches


class Judged:
    """The order of the trials of this sweep that have shown something, as far as they were compared."""

    def __init__(self, history: History, objectives: Objectives) -> None:
        from service.tuning.knowledge_ranks import wins

        self.trials = _judged(history)
        self.wins = wins([trial.curve for trial in self.trials], objectives)


class PastModel:
    """A model of one earlier sweep, for as many questions as there are; built at the first."""

    def __init__(self, past: PastSweep, space: Space, objectives: Objectives) -> None:
        self.past = past
        self._space, self._objectives = space, objectives
        self._known: dict[int, tuple[Params, Floats]] = {}  # by trial number

    @cached_property
    def _rows(self) -> Floats:
        """The earlier trials in the unit cube, NaN where a parameter is inactive or unknown."""
        return self._at([trial.params for trial in self.past.trials])

    def _at(self, points: list[Params]) -> Floats:
        import numpy as np

        rows = [self._space.to_unit(params) for params in points]
        return np.array(rows, dtype=float).reshape(len(rows), self._space.dimension)

    @cached_property
    def _surrogates(self) -> list[tuple[int, Surrogate]]:
        """(epoch, the order of the earlier trials there) for some epochs, ascending."""
        from service.tuning.knowledge_ranks import Surrogate, levels, shares_beaten

        curves = [trial.curve for trial in self.past.trials]
        found = []
        for epoch, members in levels(curves):
            shares = shares_beaten([curves[i] for i in members], epoch, self._objectives)
            found.append((epoch, Surrogate(self._space, self._rows[members], shares)))
        return found

    @property
    def _is_empty(self) -> bool:
        return len(self.past.trials) < FEWEST or self._space.dimension == 0

    def relevance(self, history: History, judged: Judged | None = None) -> float:
        """From 0 (tells nothing, or the opposite) to 1: the rank correlation, less what is uncertain about it.

        Pairs of trials count at the last epoch that both reached, and by how sure the model is of their order. Before
        the first pair it is what a careful person would expect; a misleading sweep is at 0 after a few trials.
        `judged` is the order of `history`, where several models are asked about it.
        """
        if self._is_empty:
            return 0.0
        correlation, variance = self._agreement(judged or Judged(history, self._objectives))
        precision = PRIOR_DEVIATION**-2
        seen = 0.0 if math.isinf(variance) else 1.0 / variance
        mean: float = (precision * PRIOR_MEAN + seen * correlation) / (precision + seen)
        return min(1.0, max(0.0, mean - CAUTION / math.sqrt(precision + seen)))

    def _agreement(self, judged: Judged) -> tuple[float, float]:
        """(rank correlation, its variance if there were none): Kendall's, each pair weighing what it is predicted."""
        import numpy as np

        if len(judged.trials) < FEWEST:
            return 0.0, math.inf
        i, j = np.triu_indices(len(judged.trials), 1)
        lasts = np.array([trial.epoch for trial in judged.trials])
        epochs = [epoch for epoch, _ in self._surrogates]
        level = np.maximum(0, np.searchsorted(epochs, np.minimum(lasts[i], lasts[j]), side="right") - 1)
        predicted = self._predicted(judged.trials)
        expected, shown = predicted[i, level] - predicted[j, level], 2.0 * judged.wins[i, j] - 1.0
        is_told = ~np.isnan(shown) & (shown != 0) & (expected != 0)
        weights = np.abs(expected[is_told])
        if not weights.sum() > 0:
            return 0.0, math.inf
        correlation = float((weights * np.sign(expected[is_told]) * shown[is_told]).sum() / weights.sum())
        pairs = float(weights.sum() ** 2 / (weights**2).sum())
        count = max(2.0, (1.0 + math.sqrt(1.0 + 8.0 * pairs)) / 2.0)  # trials that have so many pairs
        return correlation, 2.0 * (2.0 * count + 5.0) / (9.0 * count * (count - 1.0))

    def _predicted(self, trials: list[Trial]) -> Floats:
        """The place of each trial (row) at each level; kept for as long as a trial's params stay."""
        import numpy as np

        fresh = [t for t in trials if t.number not in self._known or self._known[t.number][0] is not t.params]
        if fresh:
            rows = self._at([trial.params for trial in fresh])
            found = np.array([surrogate.predict(rows) for _, surrogate in self._surrogates]).T
            self._known |= {trial.number: (trial.params, row) for trial, row in zip(fresh, found, strict=True)}
        return np.array([self._known[trial.number][1] for trial in trials])

    def suggestions(self, seed: int) -> Iterator[Params]:
        """The earlier sweep's best configurations, the best first, no two nearly alike, as full points of the space.

        What an earlier trial does not say is drawn from the space, by `seed`.
        """
        import numpy as np

        from service.tuning.knowledge_ranks import choices, is_broken, shares_beaten, squares

        if self._is_empty:
            return
        trials = self.past.trials
        shares = shares_beaten([trial.curve for trial in trials], _END, self._objectives)
        taken: list[int] = []
        for i in np.argsort(-shares, kind="stable").tolist():
            apart = squares(self._rows[[i]], self._rows[taken], choices(self._space)).mean(axis=0)
            if shares[i] >= _GOOD and not is_broken(trials[i].curve) and not (apart < _NEAR**2).any():
                taken.append(i)
                yield completed(trials[i].params, self._space, np.random.default_rng([seed, i]))


def _judged(history: History) -> list[Trial]:
    """The trials that have shown something, in the order of their numbers."""
    shown = [trial for trial in history.trials if trial.curve]
    if len(shown) <= MAX_JUDGED:
        return shown
    longest = sorted(shown, key=lambda trial: (-trial.epoch, trial.number))[:MAX_JUDGED]
    return sorted(longest, key=lambda trial: trial.number)


def completed(params: Mapping[str, object], space: Space, rng: np.random.Generator) -> Params:
    """`params` as a full point of `space`: what is missing is drawn, what has no place there is left out."""
    found: Params = {}
    for name, parameter in space.items():
        if not space.is_active(name, found):
            continue
        if name in params and parameter.contains(params[name]):
            found[name] = params[name]
        else:
            found[name] = parameter.from_unit(float(rng.random()) if parameter.kind != "constant" else 0.5)
    return found


def relevance(past: PastSweep, history: History, space: Space, objectives: Objectives) -> float:
    """How well `past` predicts the sweep in `history`; see `PastModel.relevance`, which is faster when asked often."""
    return PastModel(past, space, objectives).relevance(history)


def suggestions(past: PastSweep, space: Space, objectives: Objectives, seed: int) -> Iterator[Params]:
    """What `past` would try in `space`, the best first; see `PastModel.suggestions`."""
    return PastModel(past, space, objectives).suggestions(seed)
