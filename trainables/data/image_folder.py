"""A user's own images: a folder for each class."""

from __future__ import annotations

from trainables.data.class_folders import IMAGES, read_class_folders
from trainables.data.file_rows import FileDataModule
from trainables.data.images import ImageReader, size_of
from trainables.data.row_splits import split_rows
from trainables.data.splits import SplitPlan


class ImageFolder(FileDataModule):
    r"""Batches of images (batch, channels, height, width) in [0, 1] with classes (batch,).

    `path/CLASS/*.png` and the like; classes count from 0 in the order of their folders' names, `classes`. Every file's
    size is looked at before training; a file that is damaged behind its first bytes is found when it is read.

    Args:
        path: The folder with a folder for each class.
        size: `[height, width]` that images are brought to; not named, all must be of one size.
        channels: 1 for grey, 3 for colours.
        group: A pattern (regular expression) for files' names: what its bracket matches is the group, which stays in
            one part, as in `^(patient\d+)_`.
        test_path: A folder like `path` whose images are the test part, in place of `test_share`.
        memory_bytes: Images that take more than this as 32-bit floats are read anew for each batch.
        workers: Processes that read ahead, where images are not kept in memory; 0 reads in the one that trains.
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
        size: list[int] | None = None,
        channels: int = 3,
        group: str = "",
        test_path: str = "",
        memory_bytes: int = 2**30,
        workers: int = 0,
        batch_size: int = 32,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        plan = SplitPlan(seed, folds, fold, validation_share, test_share)
        super().__init__(batch_size, plan, memory_bytes, workers)
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.reader = ImageReader(channels, size_of(size))
        self.folders, self.group = (path, test_path), group

    def load(self) -> None:
        """Find, check and split the images; DataError names the file at fault."""
        found = read_class_folders(*self.folders, IMAGES, self.group)
        shape = self.reader.common_shape(found.paths)
        split = split_rows(self.plan, found.keys)
        self.classes = found.classes
        self.sizes = {"channels": shape[0], "height": shape[1], "width": shape[2], "classes": len(found.classes)}
        self.set_files(found.paths, self.reader.read, shape, found.labels, split=split)
