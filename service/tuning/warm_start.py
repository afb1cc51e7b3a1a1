"""Any searcher with the knowledge of earlier sweeps: their best configurations go first, for as long as that pays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from service.spec.space import Params, identity
from service.tuning.history import History
from service.tuning.knowledge_relevance import Judged, PastModel
from service.tuning.points import Tried
from service.tuning.strategy import Problem, Searcher

if TYPE_CHECKING:
    from collections.abc import Hashable

TRIED_FIRST: Final = 2  # suggestions that every warm start begins with, each followed by one of the searcher
MOST: Final = 20  # suggestions in all: beyond them the searcher knows this sweep better
LARGEST_SHARE: Final = 0.5  # of the proposals, for a sweep that predicts this one fully
_ANOTHER: Final = 1  # sets these draws apart from those of searchers


class WarmStarted:
    """A searcher whose first proposals alternate with what earlier sweeps suggest.

    How many suggestions there are follows from how well the earlier sweep's order predicts this one's (`relevance`),
    so one that misleads gets its first two and next to no more. Suggestions move what the searcher itself proposes by
    nothing but what they show. A pure function of the history, as the searcher is.
    """

    def __init__(self, searcher: Searcher, problem: Problem) -> None:
        self._searcher, self._space = searcher, problem.space
        self._seed, self._objectives = problem.seed, problem.objectives
        self._models = [PastModel(past, problem.space, problem.objectives) for past in problem.past]
        self._points: list[dict[Hashable, Params]] = []
        self._tried = Tried()

    def propose(self, history: History) -> Params | None:
        """A suggestion where one is due, else what the searcher proposes."""
        suggestion = self._suggestion(history)
        if suggestion is not None:
            return suggestion
        own = self._searcher.propose(history)
        return self._another(history) if own is not None and self._is_repeated(history, own) else own

    def is_suggestion(self, history: History, params: Params) -> bool:
        """Whether `params`, which `propose` gave at `history`, come from an earlier sweep."""
        suggestion = self._suggestion(history)
        return suggestion is not None and identity(params) == identity(suggestion)

    def _is_repeated(self, history: History, own: Params) -> bool:
        """Whether the searcher's `own` point was tried as a suggestion: with one seed, sweeps draw the same points."""
        key = identity(own)
        return any(key in points for points in self._suggested()) and key in self._tried(history)

    def _another(self, history: History) -> Params:
        import numpy as np

        return self._space.sample(np.random.default_rng([self._seed, history.proposals, _ANOTHER]))

    def _suggested(self) -> Sequence[dict[Hashable, Params]]:
        """Per earlier sweep its suggestions, the best first."""
        if not self._points:
            for i, model in enumerate(self._models):
                found = [params for params, _ in zip(model.suggestions(self._seed + i), range(MOST), strict=False)]
                self._points.append({identity(params): params for params in found})
        return self._points

    def _suggestion(self, history: History) -> Params | None:
        tried, points = self._tried(history), self._suggested()
        used = len({key for own in points for key in own} & tried)
        asked = used + history.proposals + 2  # suggestions do not count among the searcher's proposals
        if used >= MOST or used + 1 > LARGEST_SHARE * asked:
            return None
        relevances = self._relevances(history)
        for i in sorted(range(len(points)), key=lambda i: -relevances[i]):
            share = LARGEST_SHARE if used < TRIED_FIRST else LARGEST_SHARE * relevances[i]
            if relevances[i] <= 0 or used + 1 > share * asked:
                return None
            fresh = next((params for key, params in points[i].items() if key not in tried), None)
            if fresh is not None:
                return fresh
        return None

    def _relevances(self, history: History) -> list[float]:
        from service.tuning.gaussian_process import one_thread

        with one_thread():
            judged = Judged(history, self._objectives)
            return [model.relevance(history, judged) for model in self._models]
