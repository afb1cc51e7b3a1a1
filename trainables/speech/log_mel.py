"""From sound to pictures of it: energy per band of pitch and moment, on scales like hearing's."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def hertz_to_mel(hertz: Tensor) -> Tensor:
    """Pitch in mel: 2595 log10(1 + f / 700) (O'Shaughnessy 1987); 1000 Hz is 1000 mel."""
    return 2595 * torch.log10(1 + hertz / 700)


def mel_to_hertz(mel: Tensor) -> Tensor:
    """Frequency of a pitch; undoes `hertz_to_mel`."""
    return 700 * (10 ** (mel / 2595) - 1)


def mel_filters(bands: int, window: int, sample_rate: int) -> Tensor:
    """Weights (window // 2 + 1, bands): triangles of height 1, their corners evenly spaced in mel up to half the rate.

    ValueError where the lowest triangle would fall between two frequencies of the spectrum.
    """
    frequencies = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64)
    top = hertz_to_mel(torch.tensor(sample_rate / 2, dtype=torch.float64))
    corners = mel_to_hertz(torch.linspace(0, float(top), bands + 2, dtype=torch.float64))
    rising = (frequencies[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - frequencies[:, None]) / (corners[2:] - corners[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    if (filters.sum(0) == 0).any():
        msg = f"{bands} bands are too many for windows of {window} samples at {sample_rate} Hz: some would hear nothing"
        raise ValueError(msg)
    return filters.to(torch.get_default_dtype())


class LogMel(nn.Module):
    """The logarithm of each band's power in overlapping Hann windows, none of which reaches beyond the sound.

    In single precision at least, mixed precision or not: a power has no place in half of it.

    Args:
        bands: Number of bands.
        window: Samples of a window, a power of 2 for speed.
        hop: Samples from one window's start to the next.
        sample_rate: Samples per second.
        floor: Power that counts as silence.
    """

    def __init__(self, bands: int, window: int, hop: int, sample_rate: int, floor: float = 1e-3) -> None:
        super().__init__()
        self.window, self.hop, self.floor = window, hop, floor
        self.register_buffer("shape", torch.hann_window(window), persistent=False)
        self.register_buffer("filters", mel_filters(bands, window, sample_rate), persistent=False)
        self.shape: Tensor
        self.filters: Tensor

    def forward(self, waves: Tensor) -> Tensor:
        """Sounds (batch, samples) to (batch, frames, bands)."""
        kind = waves.device.type
        if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
            with torch.autocast(kind, enabled=False):
                return self._bands(waves)
        return self._bands(waves)

    def _bands(self, waves: Tensor) -> Tensor:
        exact = torch.promote_types(waves.dtype, torch.float32)
        spectrum = torch.stft(
            waves.to(exact), self.window, self.hop, window=self.shape.to(exact), center=False, onesided=True,
            return_complex=True,
        )  # fmt: skip
        power = spectrum.real**2 + spectrum.imag**2
        return torch.log(power.transpose(1, 2) @ self.filters.to(exact) + self.floor).to(waves.dtype)

    def frames(self, samples: Tensor) -> Tensor:
        """How many frames sounds of so many samples have, at least 1."""
        return ((samples - self.window) // self.hop + 1).clamp(min=1)
