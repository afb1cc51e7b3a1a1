"""Takes in a zip of code that may be hostile: examines all of it before a byte is written, unpacks it whole or not.

Only plain files and folders with ordinary names come through. Nothing here imports or runs what is inside.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
import shutil
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from service.errors import Fault, PackageError
from service.spec.document import shorten

MAX_MEMBERS: Final = 10_000
MAX_RATIO: Final = 100
MAX_TOTAL_BYTES: Final = 512_000_000
MAX_PACKAGE_BYTES: Final = 64 * 2**20  # of the zip itself
MAX_NAME_BYTES: Final = 1000
MAX_FAULTS: Final = 20
TOP_LEVEL_OF_OURS: Final = ("service", "trainables", "cluster")
_END: Final = struct.Struct("<4s4H2LH")  # the record that ends a zip file
_HEADER: Final = struct.Struct("<4s6H3L5H2L")  # what the central directory says of one member
_LOCATOR_BYTES: Final = 20  # of ZIP64
_LONGEST_PART_BYTES: Final = 255  # of a file name, on any file system
_CHUNK: Final = 2**20
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
_NO_NAMES: Final = {".", "..", ""}


@dataclass(frozen=True, slots=True)
class Contents:
    """What an examined package holds."""

    files: int
    total_bytes: int


class DamagedPackageError(PackageError):
    """A kept zip is not what was sent: it has another SHA-256."""


def package_name(digest: str) -> str:
    """The name of the zip with this SHA-256, beside the sweeps. PackageError where `digest` is none."""
    return f"packages/{_checked(digest)}.zip"


def package_file(home: Path, digest: str) -> Path:
    """Where a service without an object store keeps that zip."""
    return home / package_name(digest)


def digest_of(package: Path) -> str:
    """SHA-256 of a file, in hex."""
    with package.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def examine(package: Path | bytes) -> Contents:
    """Look through a whole zip without unpacking it. PackageError with what is wrong, at most 20 faults.

    What the directory of the zip says is checked here; that the data keeps to it, while it is unpacked.
    """
    with _opened(package) as stream:
        members = _members(stream)
        faults = list(_some(_faults(members, _size(stream))))
    if faults:
        raise PackageError(faults)
    files = [member for member in members if not member.orig_filename.endswith("/")]
    return Contents(len(files), sum(member.file_size for member in files))


def unpack(package: Path, folder: Path, *, digest: str | None = None) -> Path:
    """Unpack a zip into `folder`, which appears whole or not at all; where it is there already, nothing is done.

    With `digest`, the SHA-256 that the zip must have. PackageError where the zip is refused, DamagedPackageError where
    it has another one.
    """
    if folder.is_dir():
        return folder
    if digest is not None and digest_of(package) != digest:
        raise DamagedPackageError([_fault("the code package is damaged: its SHA-256 is another one", given=digest)])
    examine(package)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    partial.mkdir(parents=True)
    try:
        _extract(package, partial)
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():  # another process may have been first with the same content
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def name_fault(name: str) -> str | None:
    """What is wrong with the path of a file in a package; None if nothing is."""
    parts = name.split("/")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        return "is an absolute path"
    if ".." in parts:
        return "leads out of the package"
    if "\\" in name or not name.isprintable() or (not name.isascii() and unicodedata.normalize("NFC", name) != name):
        return "holds a character that not every file system takes"
    if _NO_NAMES & set(parts) or any(part != part.rstrip(" .") or part != part.lstrip(" ") for part in parts):
        return "has an empty part, or one that begins with a blank or ends with a blank or dot"
    if len(name.encode()) > MAX_NAME_BYTES or any(len(part.encode()) > _LONGEST_PART_BYTES for part in parts):
        return "is too long a path"
    return None


def _checked(digest: str) -> str:
    if not _DIGEST.match(digest):
        raise PackageError(
            [_fault("is no SHA-256", given=shorten(digest), allowed="64 hexadecimal digits in lower case")]
        )
    return digest


def _opened(package: Path | bytes) -> IO[bytes]:
    return io.BytesIO(package) if isinstance(package, bytes) else package.open("rb")


def _size(stream: IO[bytes]) -> int:
    return stream.seek(0, io.SEEK_END)


def _members(stream: IO[bytes]) -> list[zipfile.ZipInfo]:
    """What the central directory lists, once it is known to be a sane one."""
    size = _size(stream)
    if size > MAX_PACKAGE_BYTES:
        raise PackageError(
            [_fault("is too large", given=f"{size:,} bytes", allowed=f"at most {MAX_PACKAGE_BYTES:,} bytes")]
        )
    _check_directory(stream, size)
    try:
        with zipfile.ZipFile(stream) as archive:
            return archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:  # for a newer version, a name not UTF-8
        raise PackageError([_fault(f"is not a zip file: {shorten(str(error))}")]) from error


def _check_directory(stream: IO[bytes], size: int) -> None:
    """Count the members before objects are made of them; refuse what hides before, between or behind its parts."""
    stream.seek(max(size - _END.size, 0))
    end = stream.read(_END.size)
    if len(end) < _END.size or not end.startswith(b"PK\5\6"):
        raise PackageError([_fault("is not a zip file, or has a comment behind it", allowed="a plain zip file")])
    _, disk, first_disk, here, entries, length, offset, comment = _END.unpack(end)
    if disk or first_disk or here != entries or comment or offset + length + _END.size != size:
        raise PackageError([_fault("is not one whole zip file", allowed="a zip file of one part, without ZIP64")])
    stream.seek(offset)
    listing = stream.read(length)
    count, position = 0, 0
    while position + _HEADER.size <= length and count <= MAX_MEMBERS:
        fields = _HEADER.unpack_from(listing, position)
        position += _HEADER.size + sum(fields[10:13])  # name, extra, comment
        count += 1
    if count > MAX_MEMBERS:
        raise PackageError(
            [_fault("holds too many files", given=f"{entries:,} or more", allowed=f"at most {MAX_MEMBERS:,}")]
        )
    hides_another = listing[-_LOCATOR_BYTES:].startswith(b"PK\6\7")  # zipfile would follow it to a second directory
    if count != entries or position != length or hides_another:
        raise PackageError([_fault("is not a zip file: its directory contradicts itself")])


def _faults(members: list[zipfile.ZipInfo], size: int) -> Iterator[Fault]:
    total = sum(member.file_size for member in members)
    if total > MAX_TOTAL_BYTES:
        yield Fault("unpacks to too much", given=f"{total:,} bytes", allowed=f"at most {MAX_TOTAL_BYTES:,} bytes")
    if total > MAX_RATIO * size:
        yield Fault("is packed too densely", given=f"{total / size:.0f} to 1", allowed=f"at most {MAX_RATIO} to 1")
    for member in members:
        yield from _member_faults(member)
    yield from _clashes(members)
    yield from _names_of_ours(members)


def _member_faults(member: zipfile.ZipInfo) -> Iterator[Fault]:
    name, mode = member.orig_filename, member.external_attr >> 16
    message = name_fault(name.removesuffix("/"))
    kind = stat.S_IFMT(mode)
    wanted = (0, stat.S_IFDIR) if name.endswith("/") else (0, stat.S_IFREG)
    if message is not None:
        yield _about(name, message)
    elif kind not in wanted:
        yield _about(name, "is a link" if kind == stat.S_IFLNK else "is no plain file", allowed="files and folders")
    elif member.flag_bits & 0x41:
        yield _about(name, "is encrypted")
    elif member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        yield _about(name, "is packed in an unknown way", allowed="stored or deflated")
    elif name.endswith("/") and member.file_size:
        yield _about(name, "is a folder with data")
    elif member.file_size > MAX_RATIO * max(member.compress_size, 1):
        yield _about(name, "is packed too densely", allowed=f"at most {MAX_RATIO} to 1; store it instead")


def _clashes(members: list[zipfile.ZipInfo]) -> Iterator[Fault]:
    """Names that stand twice, differ in case only, or name a file where another one needs a folder."""
    seen: dict[str, str] = {}
    folders: dict[str, str] = {}
    for member in members:
        name = member.orig_filename
        bare = name.removesuffix("/")
        parts = bare.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        for folder in [*above, *([bare] if name.endswith("/") else [])]:
            if folders.setdefault(folder.casefold(), folder) != folder:
                yield _about(name, f"differs from {shorten(folders[folder.casefold()])!r} in case only")
        other = seen.get(bare.casefold())
        seen.setdefault(bare.casefold(), name)
        if other is not None:
            yield _about(name, "stands twice" if other == name else f"clashes with {shorten(other)!r}")
    for key in folders.keys() & {bare for bare, name in seen.items() if not name.endswith("/")}:
        yield _about(seen[key], "is a file and a folder")


def _names_of_ours(members: list[zipfile.ZipInfo]) -> Iterator[Fault]:
    names = {member.orig_filename for member in members}
    for ours in TOP_LEVEL_OF_OURS:
        for taken in {f"{ours}.py", f"{ours}/__init__.py"} & names:
            message = "has the name of one of Tuneyard's packages, and only one of the two could be imported"
            yield _about(taken, message, allowed=f"any names but {', '.join(TOP_LEVEL_OF_OURS)}")


def _about(name: str, message: str, *, allowed: str | None = None) -> Fault:
    return Fault(message, shorten(name), allowed=allowed)


def _fault(message: str, *, given: str | None = None, allowed: str | None = None) -> Fault:
    return Fault(message, "code package", given=given, allowed=allowed)


def _some(faults: Iterator[Fault]) -> Iterator[Fault]:
    for i, fault in enumerate(faults):
        if i == MAX_FAULTS:
            return
        yield fault


def _extract(package: Path, folder: Path) -> None:
    """Write every file with modes of our own; zipfile keeps each to the size that the directory tells, and its CRC."""
    try:
        with zipfile.ZipFile(package) as archive:
            for member in archive.infolist():
                target = folder / member.orig_filename
                if member.orig_filename.endswith("/"):
                    target.mkdir(parents=True, exist_ok=True)
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, _CHUNK)
                target.chmod(0o755 if member.external_attr >> 16 & stat.S_IXUSR else 0o644)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted, or packed oddly
        raise PackageError([_fault(f"is damaged: {shorten(str(error))}")]) from error
