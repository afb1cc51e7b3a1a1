"""A user's own videos as folders of frames: a folder for each class, in it a folder for each video."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trainables.data.class_folders import IMAGES, files_in, read_class_folders
from trainables.data.faults import refuse, some
from trainables.data.file_rows import FileDataModule
from trainables.data.images import ImageReader, size_of
from trainables.data.row_splits import split_rows
from trainables.data.splits import SplitPlan


class VideoFolder(FileDataModule):
    r"""Batches of videos (batch, frames, channels, height, width) in [0, 1] with classes (batch,).

    `path/CLASS/VIDEO/*.png` and the like: frames in the order of their names (`9.png` before `10.png`), of which
    `frames` are taken, evenly from the first to the last. Classes count from 0 in the order of their folders' names,
    `classes`.

    Args:
        path: The folder with a folder for each class.
        frames: Frames that are taken of each video, which must have as many at least.
        size: `[height, width]` that frames are brought to; not named, all must be of one size.
        channels: 1 for grey, 3 for colours.
        group: A pattern (regular expression) for videos' names: what its bracket matches is the group, which stays in
            one part, as in `^(person\d+)_`.
        test_path: A folder like `path` whose videos are the test part, in place of `test_share`.
        memory_bytes: Videos that take more than this as 32-bit floats are read anew for each batch.
        workers: Processes that read ahead, where videos are not kept in memory; 0 reads in the one that trains.
        batch_size: Videos per training batch.
        folds: Number of cross-validation folds; 1 means one stratified validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test videos (or groups) that validates, where `folds` is 1.
        test_share: Share of all videos (or groups) that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        frames: int = 8,
        size: list[int] | None = None,
        channels: int = 3,
        group: str = "",
        test_path: str = "",
        memory_bytes: int = 2**30,
        workers: int = 0,
        batch_size: int = 8,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        plan = SplitPlan(seed, folds, fold, validation_share, test_share)
        super().__init__(batch_size, plan, memory_bytes, workers)
        if frames < 1:
            msg = f"frames must be at least 1, got {frames}"
            raise ValueError(msg)
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.frames, self.reader = frames, ImageReader(channels, size_of(size))
        self.folders, self.group = (path, test_path), group

    def load(self) -> None:
        """Find, check and split the videos; DataError names the file at fault."""
        found = read_class_folders(*self.folders, (), self.group)
        shape = self.reader.common_shape([frame for video in found.paths for frame in self.frames_of(video)])
        split = split_rows(self.plan, found.keys)
        self.classes = found.classes
        self.sizes = {"frames": self.frames, "channels": shape[0], "classes": len(found.classes)}
        self.set_files(found.paths, self.read, (self.frames, *shape), found.labels, split=split)

    def frames_of(self, video: Path) -> list[Path]:
        """The files of the frames that are taken."""
        paths = files_in(video, IMAGES)
        if len(paths) < self.frames:
            refuse(video, f"it has {some(len(paths), 'frame')}", f"frames is {self.frames}: take fewer, or add some")
        return [paths[i] for i in np.linspace(0, len(paths) - 1, self.frames).round().astype(int)]

    def read(self, video: Path) -> NDArray[np.float32]:
        """A video (frames, channels, height, width)."""
        return np.stack([self.reader.read(path) for path in self.frames_of(video)])
