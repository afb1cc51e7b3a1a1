"""Scikit-learn's handwritten digits: 1,797 real images of 8 x 8 pixels that come with the package."""

from __future__ import annotations

from functools import cache
from typing import Any

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
    """

    def __init__(
        self,
        batch_size: int = 64,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()

    def setup(self, stage: str | None = None) -> None:  # noqa: ARG002  # every stage needs the same arrays
        """Load and split the images, once."""
        if not self.parts:
            images, labels = _load()
            self.set_parts(images[:, None] / 16.0, labels, self.plan.split(labels))


@cache
def _load() -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target
