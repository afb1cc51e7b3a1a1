"""Scikit-learn's handwritten digits that move across frames: real writing, generated motion."""

from __future__ import annotations

from functools import cache
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan

Label = Literal["direction", "digit"]
DIRECTIONS: Final = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Right, down, left, up: rows and columns per frame."""


class MovingDigits(ArrayDataModule):
    """Batches of videos (batch, frames, 1, size, size) in [0, 1], with the direction (0 to 3) or the digit (0 to 9).

    Each of the 1,797 digits makes one video. It starts anywhere and moves a pixel per frame; what leaves on one side
    comes in on the other, so that a single frame says nothing of the direction.

    Args:
        label: `direction` (the index into `DIRECTIONS`) or `digit`.
        frames: Frames of a video.
        size: Side of a frame in pixels, at least 8.
        batch_size: Videos per training batch.
        folds: Number of cross-validation folds; 1 means one stratified validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the motions and the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test videos that validates, where `folds` is 1.
        test_share: Share of all videos that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        label: Label = "direction",
        frames: int = 6,
        size: int = 16,
        batch_size: int = 32,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()
        self.label, self.frames, self.size = label, frames, size

    def load(self) -> None:
        """Load the digits, set them in motion and split the videos."""
        videos, directions, digits = film(self.frames, self.size, self.plan.seed)
        labels = directions if self.label == "direction" else digits
        self.set_parts(videos[:, :, None], labels, split=self.plan.split(labels))


@cache
def film(frames: int, size: int, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Videos (1797, frames, size, size), their directions and their digits; ValueError for a `size` below 8."""
    from sklearn.datasets import load_digits

    images, digits = load_digits(return_X_y=True)
    images = images.reshape(-1, 8, 8).astype(np.float32) / 16
    if size < images.shape[1]:
        msg = f"size {size} is below the {images.shape[1]} pixels of a digit"
        raise ValueError(msg)
    random = np.random.default_rng(seed)
    directions = random.integers(len(DIRECTIONS), size=len(images))
    starts = random.integers(size, size=(len(images), 1, 2))
    places = starts + np.arange(frames)[:, None] * np.array(DIRECTIONS)[directions][:, None]
    rows, columns = ((places[..., axis, None] + np.arange(8)) % size for axis in (0, 1))
    videos = np.zeros((len(images), frames, size, size), dtype=np.float32)
    which, when = np.arange(len(images))[:, None, None, None], np.arange(frames)[:, None, None]
    videos[which, when, rows[..., :, None], columns[..., None, :]] = images[:, None]
    return videos, directions, digits
