"""Folders with a folder for each class: which samples there are, of which class and group."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import refuse
from trainables.data.given_paths import given_paths
from trainables.data.row_splits import RowKeys

IMAGES: Final = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm")
"""Files that count as images, by the end of their name."""


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Samples in order of their names, with class numbers; those of the test folder come last."""

    paths: list[Path]
    labels: NDArray[np.int64]
    classes: list[str]
    keys: RowKeys


def natural(path: Path) -> list[tuple[bool, int, str]]:
    """A key that sorts `frame10` behind `frame9`."""
    return [(not part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", path.name)]


def files_in(folder: Path, kinds: Sequence[str]) -> list[Path]:
    """The files of a folder in natural order; hidden ones do not count. DataError for one of another kind."""
    paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural)
    for path in paths:
        if path.is_dir() or path.suffix.lower() not in kinds:
            refuse(path, "does not belong here", f"the folder may hold files that end in {', '.join(kinds)}")
    return paths


def folders_in(folder: Path) -> list[Path]:
    """The folders of a folder in natural order; hidden ones do not count. DataError where it has none, or a file."""
    if not folder.is_dir():
        refuse(folder, "is no folder", "name one that is on the machine that trains")
    paths = sorted((path for path in folder.iterdir() if not path.name.startswith(".")), key=natural)
    for path in paths:
        if not path.is_dir():
            refuse(path, "is no folder", f"{folder} may hold folders alone")
    if not paths:
        refuse(folder, "is empty", "it must have a folder for each class")
    return paths


def read_class_folders(path: str, test_path: str, kinds: Sequence[str], group: str) -> ClassFolders:
    """The samples of a folder and of one for the test part: files of some `kinds`, or folders where there are none.

    `group` is a pattern for the names of samples; what its first bracket matches is the sample's group.
    """
    found = [_samples(one, kinds) for one in given_paths(path, test_path)]
    classes = list(found[0])
    for name in found[-1]:
        if name not in classes:
            refuse(Path(test_path) / name, f"the class '{name}' is not in {path}", f"there are {', '.join(classes)}")
    paths = [sample for part in found for samples in part.values() for sample in samples]
    labels = [classes.index(name) for part in found for name, samples in part.items() for _ in samples]
    codes = np.array(labels, dtype=np.int64)
    keys = RowKeys(
        len(paths), lambda row: str(paths[row]), path, codes, classes, _groups(paths, group) if group else None,
        given_test=sum(len(samples) for samples in found[1].values()) if test_path else 0,
    )  # fmt: skip
    return ClassFolders(paths, codes, classes, keys)


def _samples(folder: Path, kinds: Sequence[str]) -> dict[str, list[Path]]:
    found = {one.name: files_in(one, kinds) if kinds else folders_in(one) for one in folders_in(folder)}
    for name, samples in found.items():
        if not samples:
            refuse(folder / name, "is empty", "each class needs samples: remove the folder, or fill it")
    return found


def _groups(paths: list[Path], pattern: str) -> NDArray[np.int64]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        refuse(f"group '{pattern}'", f"is no regular expression ({error})", r"as in '^(\w+)_'")
    if compiled.groups < 1:
        refuse(f"group '{pattern}'", "has no bracket", r"put one around what names the group, as in '^(\w+)_'")
    names = []
    for path in paths:
        match = compiled.search(path.name)
        if match is None:
            refuse(path, f"its name has no group by '{pattern}'", "each sample needs one")
        names.append(match[1] or "")
    return np.unique(names, return_inverse=True)[1].astype(np.int64)
