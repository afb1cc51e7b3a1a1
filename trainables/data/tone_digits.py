"""Generated sounds: digits as telephones dial them, two tones each, at any pace and in noise."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan

SAMPLE_RATE: Final = 4000
_LOW: Final = np.array([697, 770, 852, 941])
_HIGH: Final = np.array([1209, 1336, 1477])
_PLACES: Final = np.array([(3, 1), (0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)])
_LONGEST: Final = 5
_TONE_SAMPLES, _PAUSE_SAMPLES = (240, 481), (80, 241)


class ToneDigits(ArrayDataModule):
    """Batches of sounds (batch, 3600), how many samples of each count (batch,), and digits (batch, 5) from 1 to 10.

    Generated, nobody speaks: two to five digits, each 0.06 to 0.12 s of the two tones that a telephone gives it (ITU-T
    Q.23), a little out of tune, with pauses of 0.02 to 0.06 s, all at 4,000 samples per second in white noise. Digit d
    is written as d + 1; 0 stands after the end.

    Args:
        sounds: How many sounds there are in all.
        noise: Deviation of the noise; a tone's is 0.35 to 0.7.
        batch_size: Sounds per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the sounds and the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test sounds that validates, where `folds` is 1.
        test_share: Share of all sounds that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        sounds: int = 600,
        noise: float = 0.5,
        batch_size: int = 16,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()
        self.sounds, self.noise = sounds, noise

    def load(self) -> None:
        """Dial, record and split the sounds."""
        self.set_parts(*dial(self.sounds, self.noise, self.plan.seed), split=self.plan.split_evenly(self.sounds))


@cache
def dial(sounds: int, noise: float, seed: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Sounds, their lengths in samples, and what was dialled."""
    random = np.random.default_rng(seed)
    longest = _LONGEST * (_TONE_SAMPLES[1] + _PAUSE_SAMPLES[1] - 2)
    waves, samples = np.zeros((sounds, longest), dtype=np.float32), np.zeros(sounds, dtype=np.int64)
    targets = np.zeros((sounds, _LONGEST), dtype=np.int64)
    for i in range(sounds):
        digits = random.integers(10, size=random.integers(2, _LONGEST + 1))
        wave = np.concatenate([_dialled(digit, random) for digit in digits])
        waves[i, : len(wave)] = wave + noise * random.normal(size=len(wave))
        samples[i], targets[i, : len(digits)] = len(wave), digits + 1
    return waves, samples, targets


def _dialled(digit: int, random: np.random.Generator) -> NDArray[np.float64]:
    low, high = _PLACES[digit]
    seconds = np.arange(random.integers(*_TONE_SAMPLES)) / SAMPLE_RATE
    pitches = np.array([_LOW[low], _HIGH[high]]) * random.uniform(0.985, 1.015)
    tones = np.sin(2 * np.pi * (pitches[:, None] * seconds + random.random((2, 1)))).sum(0)
    return np.concatenate([random.uniform(0.35, 0.7) * tones, np.zeros(random.integers(*_PAUSE_SAMPLES))])
