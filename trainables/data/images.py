"""Reads image files as arrays of numbers from 0 to 1."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import refuse

_MODES: Final = {1: "L", 3: "RGB"}
_BYTE_MODES: Final = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
_LARGEST_BYTE: Final = 255


@dataclass(frozen=True, slots=True)
class ImageReader:
    """Reads images as (channels, height, width) in [0, 1]; to `size`, (height, width), where one is given.

    1 channel is grey, 3 are red, green and blue, whatever the file has.
    """

    channels: int
    size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.channels not in _MODES or (self.size and min(self.size) < 1):
            msg = f"channels {self.channels} must be 1 or 3, and size {self.size} two whole numbers from 1"
            raise ValueError(msg)

    def shape(self, path: Path) -> tuple[int, int, int]:
        """What `read` gives, by the file's first bytes alone; DataError where it is no image."""
        from PIL import Image

        try:
            with Image.open(path) as image:
                if image.mode not in _BYTE_MODES:
                    refuse(path, f"its pixels are of mode {image.mode}", "save it with 8 bits for each colour")
                height, width = self.size or (image.height, image.width)
        except OSError as error:
            refuse(path, f"is no image that can be read ({error})", "mend it, or take it away")
        return self.channels, height, width

    def read(self, path: Path) -> NDArray[np.float32]:
        """The image; DataError where it cannot be read to its end."""
        from PIL import Image

        try:
            with Image.open(path) as image:
                changed = image.convert(_MODES[self.channels])
                if self.size and changed.size != self.size[::-1]:
                    changed = changed.resize(self.size[::-1], Image.Resampling.BILINEAR)
                pixels: NDArray[np.float32] = np.asarray(changed, dtype=np.float32) / np.float32(_LARGEST_BYTE)
        except (OSError, SyntaxError, ValueError) as error:
            refuse(path, f"is no image that can be read ({error})", "mend it, or take it away")
        return pixels[None] if self.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def common_shape(self, paths: list[Path]) -> tuple[int, int, int]:
        """The shape of all; DataError for the first file of another one."""
        first = self.shape(paths[0])
        for path in paths[1:]:
            shape = self.shape(path)
            if shape != first:
                fault = f"{shape[1]} x {shape[2]} pixels (height, width), where {paths[0]} has {first[1]} x {first[2]}"
                refuse(path, fault, "all must be alike, or name the size that they are brought to")
        return first


def size_of(size: list[int] | None) -> tuple[int, int] | None:
    """(height, width) of a knob; ValueError where it has not two numbers."""
    if size is None:
        return None
    if len(size) != 2:  # noqa: PLR2004  # height and width
        msg = f"size {size} must be [height, width]"
        raise ValueError(msg)
    return size[0], size[1]
