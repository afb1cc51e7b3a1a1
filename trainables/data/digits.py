"""Scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels that come with the package."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan


class Digits(ArrayDataModule):
    """Batches of images (batch, 1, 8, 8) in [0, 1] with digits 0 to 9 (UCI Optical Recognition of Handwritten Digits).

    Args:
        batch_size: Images per training batch.
        folds: Number of cross-validation folds; 1 means one stratified validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test images that validates, where `folds` is 1.
        test_share: Share of all images that no search sees.
        train_samples: Images to train on at most, spread evenly over the digits; 0 for all that the split leaves.
        digits: Which digits there are; the classes count from 0 in this order. None for all ten.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # arguments of a config
        self,
        batch_size: int = 64,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
        train_samples: int = 0,
        digits: list[int] | None = None,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()
        self.train_samples, self.digits = train_samples, list(range(10)) if digits is None else digits
        if train_samples < 0 or not self.digits or not set(self.digits) <= set(range(10)):
            msg = f"train_samples {train_samples} must be at least 0, and digits {digits} some of 0 to 9"
            raise ValueError(msg)

    def load(self) -> None:
        """Load and split the images."""
        images, labels = _load()
        rows = np.flatnonzero(np.isin(labels, self.digits))
        classes = np.array([self.digits.index(label) for label in labels[rows]])
        split = self.plan.split(classes)
        if self.train_samples:
            split = replace(split, train=_spread(split.train, classes, self.train_samples))
        self.set_parts(images[rows, None] / 16.0, classes, split=split)


def _spread(rows: NDArray[np.int64], classes: NDArray[Any], count: int) -> NDArray[np.int64]:
    """`count` of the rows: the first of each class, then the second of each, and so on."""
    seen: Counter[int] = Counter()
    rounds = []
    for row in rows:
        rounds.append(seen[classes[row]])
        seen[classes[row]] += 1
    return rows[np.argsort(rounds, kind="stable")[:count]]


@cache
def _load() -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target
