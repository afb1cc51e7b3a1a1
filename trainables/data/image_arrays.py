"""A user's own images that are arrays of one .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import DataError, refuse, refuse_name
from trainables.data.given_paths import given_paths
from trainables.data.row_splits import RowKeys, split_rows
from trainables.data.splits import ArrayDataModule, SplitPlan

Channels = Literal["none", "first", "last"]
_LARGEST_BYTE: Final = 255.0


class ImageArrays(ArrayDataModule):
    """Batches of images (batch, channels, height, width) with classes (batch,), from an .npz file.

    Bytes (uint8) become numbers in [0, 1]; other numbers stay as they are. Classes count from 0 in the order of the
    labels, `classes`.

    Args:
        path: An .npz file, as `numpy.savez` writes it.
        images: The array of images in it.
        labels: The array of their classes: whole numbers or strings.
        channels: Where an image's channels are: `none` (grey), `first`, or `last`.
        groups: An array of groups, each of which stays in one part; not named, there are none.
        test_path: A file with the same arrays that are the test part, in place of `test_share`.
        batch_size: Images per training batch.
        folds: Number of cross-validation folds; 1 means one stratified validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test images (or groups) that validates, where `folds` is 1.
        test_share: Share of all images (or groups) that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        images: str = "images",
        labels: str = "labels",
        channels: Channels = "none",
        groups: str = "",
        test_path: str = "",
        batch_size: int = 32,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.files, self.names = given_paths(path, test_path), (images, labels, groups)
        self.channels: Channels = channels

    def load(self) -> None:
        """Read, check and split the images; DataError names the file and the image at fault, from 1."""
        files = [self._read(path) for path in self.files]
        for path, arrays in zip(self.files[1:], files[1:], strict=True):
            if arrays[0].shape[1:] != files[0][0].shape[1:]:
                refuse(
                    path, f"images are {arrays[0].shape[1:]}", f"those of {self.files[0]} are {files[0][0].shape[1:]}"
                )
        images, labels, *groups = (np.concatenate(parts) for parts in zip(*files, strict=True))
        names, codes = np.unique(labels, return_inverse=True)
        self.classes = [str(name) for name in names]
        count = len(files[0][0])
        keys = RowKeys(
            len(images), lambda row: f"{self.files[row >= count]}, image {row - (row >= count) * count + 1}",
            str(self.files[0]), codes, self.classes, np.unique(groups[0], return_inverse=True)[1] if groups else None,
            given_test=len(images) - count,
        )  # fmt: skip
        split = split_rows(self.plan, keys)
        height, width = images.shape[2:]
        self.sizes = {"channels": images.shape[1], "height": height, "width": width, "classes": len(names)}
        self.set_parts(images, codes, split=split)

    def _read(self, path: Path) -> list[NDArray[Any]]:
        try:
            with np.load(path, allow_pickle=False) as file:
                wanted = [name for name in self.names if name]
                for name in wanted:
                    if name not in file.files:
                        refuse_name(path, "array", name, file.files)
                images, *others = (file[name] for name in wanted)
        except (OSError, ValueError, zipfile.BadZipFile, AttributeError) as error:
            if isinstance(error, DataError):
                raise
            refuse(path, f"is no .npz file of plain arrays ({error})", "write it with numpy.savez")
        for name, array in zip(wanted[1:], others, strict=True):
            if array.shape != images.shape[:1]:
                refuse(path, f"'{name}' is {array.shape}", f"it needs one for each of {len(images)} images")
            if array.dtype.kind == "f":
                refuse(path, f"'{name}' holds {array.dtype}", "it must be whole numbers or strings")
        return [self._as_images(images, path), *others]

    def _as_images(self, images: NDArray[Any], path: Path) -> NDArray[np.float32]:
        wanted = 3 if self.channels == "none" else 4
        if images.ndim != wanted or not images.size or images.dtype.kind not in "uifb":
            fault = f"'{self.names[0]}' is {images.shape} of {images.dtype}"
            refuse(path, fault, f"with channels: {self.channels} it must be {wanted} axes of numbers, images first")
        pixels = images.astype(np.float32) / (_LARGEST_BYTE if images.dtype == np.uint8 else 1.0)
        bad = np.flatnonzero(~np.isfinite(pixels).reshape(len(pixels), -1).all(1))
        if bad.size:
            refuse(f"{path}, image {bad[0] + 1}", "a pixel is NaN or infinite", "each must be a finite number")
        if self.channels == "none":
            return pixels[:, None]
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)) if self.channels == "last" else pixels
