"""Reads WAV files as numbers from -1 to 1, one channel."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import refuse


@dataclass(frozen=True, slots=True)
class WaveReader:
    """Reads WAV files of one sample rate (samples a second); several channels become their mean."""

    sample_rate: int

    def length(self, path: Path) -> int:
        """Samples of a file, by its first bytes alone; DataError where it is no WAV file of this rate."""
        return len(self._open(path, is_mapped=True))

    def read(self, path: Path) -> NDArray[np.float32]:
        """The samples; DataError for one that is no finite number."""
        raw = self._open(path, is_mapped=False)
        if raw.dtype.kind == "f":
            samples = raw.astype(np.float32)
        else:  # whole numbers fill their type's range; those of one byte count from 0
            half = 2.0 ** (8 * raw.dtype.itemsize - 1)
            samples = ((raw.astype(np.float64) - (half if raw.dtype == np.uint8 else 0)) / half).astype(np.float32)
        if samples.ndim > 1:
            samples = samples.mean(1)
        bad = np.flatnonzero(~np.isfinite(samples))
        if bad.size:
            refuse(path, f"sample {bad[0] + 1} is {samples[bad[0]]}", "each must be a finite number")
        return samples

    def _open(self, path: Path, *, is_mapped: bool) -> NDArray[Any]:
        from scipy.io import wavfile

        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", category=wavfile.WavFileWarning)  # a file that ends too early
                warnings.filterwarnings("ignore", "Chunk .* not understood", wavfile.WavFileWarning)
                rate, samples = wavfile.read(path, mmap=is_mapped)
        except (OSError, ValueError, EOFError, struct.error, wavfile.WavFileWarning) as error:
            refuse(path, f"is no WAV file that can be read ({error})", "mend it, or take it away")
        if rate != self.sample_rate:
            refuse(path, f"it has {rate} samples a second", f"sample_rate is {self.sample_rate}: convert it")
        if not len(samples):
            refuse(path, "it has no sample", "take it away")
        opened: NDArray[Any] = samples
        return opened
