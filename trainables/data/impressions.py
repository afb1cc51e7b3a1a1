"""Generated impressions: who was shown what, when and how, and what they did; the truth behind them is known."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan

Answer = Literal["click", "rating"]
_TASTES = 4


class Log(NamedTuple):
    """Impressions in order of time, with the probability of a click that the generator knew."""

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    context: NDArray[np.float64]
    answers: NDArray[Any]
    probabilities: NDArray[np.float64]


class Impressions(ArrayDataModule):
    """Batches of users (batch,), items (batch,), contexts (batch, 4), the graph (2, edges) and answers (batch,).

    Generated: no person was shown anything. Users and items have tastes in four dimensions, drawn once; the liking of a
    pair is their product plus how active the user and how liked the item is, plus the context's part: place on the
    page, whether it is a telephone, and sine and cosine of the hour. An impression is clicked with the probability
    logistic(liking), or rated from 1 to 5 by liking with noise.

    The earliest `history_share` of the impressions makes the graph, an edge for each that was liked (clicked, or rated
    4 or better); what is trained, validated and tested on is later, so that no answer is among its own edges.

    Args:
        answer: `click` (0 or 1) or `rating` (1 to 5).
        users: Number of users.
        items: Number of items.
        impressions: Number of impressions in all.
        history_share: Share of the impressions, the earliest, that the graph is made of.
        batch_size: Impressions per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the impressions and the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test impressions after the history that validates, where `folds` is 1.
        test_share: Share of all impressions after the history that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        answer: Answer = "click",
        users: int = 200,
        items: int = 100,
        impressions: int = 30000,
        history_share: float = 0.5,
        batch_size: int = 128,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        if not 0 < history_share < 1:
            msg = f"history_share {history_share} must lie between 0 and 1"
            raise ValueError(msg)
        self.save_hyperparameters()
        self.answer, self.counts = answer, (users, items, impressions)
        self.history = round(impressions * history_share)

    def load(self) -> None:
        """Draw the impressions, make the graph of the early ones and split the others."""
        log = generate(self.answer, *self.counts, self.plan.seed)
        is_liked = log.answers[: self.history] >= (1 if self.answer == "click" else 4)
        edges = np.unique(np.stack([log.users[: self.history], log.items[: self.history]])[:, is_liked], axis=1)
        self.shared = (torch.from_numpy(edges),)
        later = [part[self.history :] for part in (log.users, log.items, log.context, log.answers)]
        is_click = self.answer == "click"
        split = self.plan.split(later[-1]) if is_click else self.plan.split_evenly(len(later[-1]))
        self.set_parts(*later, split=split)


@cache
def generate(answer: Answer, users: int, items: int, impressions: int, seed: int) -> Log:
    """Draw impressions; the same for the same arguments."""
    random = np.random.default_rng(seed)
    tastes, kinds = random.normal(size=(users, _TASTES)), random.normal(size=(items, _TASTES))
    active, liked = random.normal(0, 0.5, users), random.normal(0, 0.7, items)
    who, what = random.integers(users, size=impressions), random.integers(items, size=impressions)
    place, hour = random.integers(10, size=impressions), random.uniform(0, 2 * np.pi, impressions)
    is_telephone = random.random(impressions) < 0.5  # noqa: PLR2004  # half of them
    context = np.stack([place / 10, is_telephone, np.sin(hour), np.cos(hour)], axis=1)
    liking = 0.8 * (tastes[who] * kinds[what]).sum(1) + active[who] + liked[what] + context @ [-2.0, 0.5, 0.6, 0.3]
    probabilities = 1 / (1 + np.exp(-liking))
    if answer == "click":
        answers: NDArray[Any] = (random.random(impressions) < probabilities).astype(np.int64)
    else:
        answers = np.clip(np.round(3 + liking + random.normal(0, 0.5, impressions)), 1, 5)
    return Log(who, what, context, answers, probabilities)
