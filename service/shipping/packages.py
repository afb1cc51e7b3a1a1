"""Makes the code package of a sweep: a zip of the user's modules whose bytes depend only on the files.

Unchanged code gives the same SHA-256, so a server that has it is not sent it again.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from service.errors import Fault, PackageError
from service.shipping.unpacking import MAX_MEMBERS, MAX_PACKAGE_BYTES, MAX_RATIO, MAX_TOTAL_BYTES, examine, name_fault
from service.spec.document import shorten
from service.sweeps.submission import OURS, refuse_our_names

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

IGNORE_FILE: Final = ".gitignore"
ALWAYS_BEHIND: Final = (".git", ".hg/", ".svn/", "__pycache__/", "*.py[co]", ".DS_Store")
_LARGEST_SHOWN: Final = 5
_FIXED_TIME: Final = (1980, 1, 1, 0, 0, 0)  # the first that a zip file can hold
_UNIX: Final = 3
_LEVEL: Final = 6


@dataclass(frozen=True, slots=True)
class Package:
    """A zip of code, and what is known of it. `left_behind` names links that cannot travel, for a note."""

    digest: str
    content: bytes
    files: int
    left_behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    name: str
    path: Path
    size_bytes: int
    is_executable: bool


def build(root: Path, exclude: Sequence[str] = (), *, file: str = "") -> Package:
    """The package of the files under `root` that neither a .gitignore nor a pattern of `exclude` leaves behind.

    A pattern reads as in .gitignore; one that begins with `!` takes along what a .gitignore leaves out. `file` is the
    sweep file, for messages. PackageError names what is too large, or cannot be unpacked everywhere; SpecError a
    top-level package with a name of ours.
    """
    root = root.resolve()
    if not root.is_dir():
        raise PackageError([Fault("is no folder", "code.root", file, given=str(root), allowed="a folder that exists")])
    refuse_our_names(root, file)
    walk = _Walk(root, exclude)
    entries = sorted(walk.entries(), key=lambda entry: entry.name.encode())
    _check(entries, file)
    content = _zip(entries, file)
    if len(content) > MAX_PACKAGE_BYTES:
        raise _too_large(entries, file, f"{len(content):,} bytes packed", f"at most {MAX_PACKAGE_BYTES:,} bytes")
    examine(content)  # what is sent is what a server takes
    return Package(hashlib.sha256(content).hexdigest(), content, len(entries), tuple(walk.left_behind))


class _Walk:
    """Finds the files that travel. Links to files inside the folder travel as what they point to, others stay."""

    def __init__(self, root: Path, exclude: Sequence[str]) -> None:
        from pathspec import GitIgnoreSpec

        self.left_behind: list[str] = []
        self._root = root
        self._always = GitIgnoreSpec.from_lines(ALWAYS_BEHIND)
        self._exclude = GitIgnoreSpec.from_lines(exclude)
        self._takes_back = any(pattern.startswith("!") for pattern in exclude)

    def entries(self) -> Iterator[_Entry]:
        """Every file that travels."""
        yield from self._below(self._root, _outer_ignores(self._root))

    def _below(self, folder: Path, ignores: list[tuple[Path, GitIgnoreSpec]]) -> Iterator[_Entry]:
        ignores = [*_ignores_of(folder), *ignores]
        for path in sorted(folder.iterdir()):
            is_folder = path.is_dir() and not path.is_symlink()
            if self._stays(path, ignores, is_folder=is_folder):
                continue
            if is_folder:
                yield from self._below(path, ignores)
            elif self._can_travel(path):
                found = path.stat()
                name = unicodedata.normalize("NFC", path.relative_to(self._root).as_posix())
                yield _Entry(name, path, found.st_size, bool(found.st_mode & stat.S_IXUSR))

    def _stays(self, path: Path, ignores: list[tuple[Path, GitIgnoreSpec]], *, is_folder: bool) -> bool:
        end = "/" if is_folder else ""
        name = path.relative_to(self._root).as_posix() + end
        if self._always.match_file(name) or _is_environment(path) or self._is_ours(path):
            return True
        said = self._exclude.check_file(name).include
        if said is None:
            said = _first_word(path, end, ignores)
            return bool(said) and not (is_folder and self._takes_back)  # something below may be taken along
        return said

    def _is_ours(self, path: Path) -> bool:
        """Tuneyard's own packages, where its repository is the folder: the cluster has its own."""
        return path.parent == self._root and path.stem in OURS and path == Path(__file__).parents[2] / path.name

    def _can_travel(self, path: Path) -> bool:
        target = path.resolve()
        if path.is_file() and target.is_relative_to(self._root):
            return True
        if path.is_symlink():
            self.left_behind.append(path.relative_to(self._root).as_posix())
        return False


def _ignores_of(folder: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    from pathspec import GitIgnoreSpec

    path = folder / IGNORE_FILE
    if not path.is_file():
        return []
    return [(folder, GitIgnoreSpec.from_lines(path.read_text(encoding="utf-8", errors="replace").splitlines()))]


def _outer_ignores(root: Path) -> list[tuple[Path, GitIgnoreSpec]]:
    """Those above `root`, the nearest first, up to the top of the working tree that holds it; none outside of one."""
    found: list[tuple[Path, GitIgnoreSpec]] = []
    if (root / ".git").exists():
        return found
    for folder in root.parents:
        found += _ignores_of(folder)
        if (folder / ".git").exists():
            return found
    return []


def _first_word(path: Path, end: str, ignores: list[tuple[Path, GitIgnoreSpec]]) -> bool | None:
    """What the nearest .gitignore that knows the path says of it."""
    for folder, spec in ignores:
        said = spec.check_file(path.relative_to(folder).as_posix() + end).include
        if said is not None:
            return bool(said)
    return None


def _is_environment(path: Path) -> bool:
    """A virtual environment: it fits this machine only."""
    return (path / "pyvenv.cfg").is_file()


def _check(entries: Sequence[_Entry], file: str) -> None:
    """PackageError for names that another system would not take, and for what is too much before it is packed."""
    bad = [Fault(message, entry.name, file) for entry in entries if (message := name_fault(entry.name))]
    if bad:
        raise PackageError(bad)
    if len(entries) > MAX_MEMBERS:
        raise PackageError([_too_many(entries, file)])
    total = sum(entry.size_bytes for entry in entries)
    if total > MAX_TOTAL_BYTES:
        raise _too_large(entries, file, f"{total:,} bytes", f"at most {MAX_TOTAL_BYTES:,} bytes")


def _too_many(entries: Sequence[_Entry], file: str) -> Fault:
    counts: dict[str, int] = {}
    for entry in entries:
        top = entry.name.partition("/")[0]
        counts[top] = counts.get(top, 0) + 1
    most = sorted(counts, key=lambda top: -counts[top])[:_LARGEST_SHOWN]
    shown = ", ".join(f"{shorten(top)} ({counts[top]:,})" for top in most)
    advice = f"at most {MAX_MEMBERS:,}; leave folders behind with code.exclude. The most are in: {shown}"
    return Fault("holds too many files", "code.root", file, given=f"{len(entries):,}", allowed=advice)


def _too_large(entries: Sequence[_Entry], file: str, given: str, allowed: str) -> PackageError:
    largest = sorted(entries, key=lambda entry: -entry.size_bytes)[:_LARGEST_SHOWN]
    shown = ", ".join(f"{shorten(entry.name)} ({entry.size_bytes / 1e6:,.1f} MB)" for entry in largest)
    advice = f"{allowed}; leave files behind with code.exclude or .gitignore. The largest: {shown}"
    return PackageError([Fault("is too large to be sent", "code.root", file, given=given, allowed=advice)])


def _zip(entries: Sequence[_Entry], file: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", allowZip64=False) as archive:
        for entry in entries:
            try:
                content = entry.path.read_bytes()
            except OSError as error:
                reason = os.strerror(error.errno or 0)
                fault = Fault(f"cannot be read: {reason}", entry.name, file, allowed="a readable file, or code.exclude")
                raise PackageError([fault]) from error
            archive.writestr(_member(entry, content), content, compresslevel=_LEVEL)
    return packed.getvalue()


def _member(entry: _Entry, content: bytes) -> zipfile.ZipInfo:
    """The head of a file in the zip, without its time, owner and all of its mode but whether it can be executed."""
    member = zipfile.ZipInfo(entry.name, _FIXED_TIME)
    member.create_system = _UNIX
    member.external_attr = (stat.S_IFREG | (0o755 if entry.is_executable else 0o644)) << 16
    is_dense = len(zlib.compress(content, 1)) * MAX_RATIO // 2 < len(content)  # a server takes that for a zip bomb
    member.compress_type = zipfile.ZIP_STORED if is_dense else zipfile.ZIP_DEFLATED
    return member
