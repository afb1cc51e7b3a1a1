"""A sweep's storage on an object store: S3, Google Cloud Storage, Azure Blob Storage, and whatever speaks as they do.

There a write is whole and durable once it is answered, and a name is created once where the store honours conditional
writes (`check_store` asks it). Credentials, region and endpoint come from the variables that the stores' own tools
read, or from the machine's identity; never from the location.
"""

from __future__ import annotations

import contextlib
import errno
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.errors import StorageError
from service.tuning.storage import Stat, Written, digested
from service.tuning.storage_growing import growing_copy

if TYPE_CHECKING:
    from obstore.store import ObjectStore

KINDS: Final = ("s3", "gs", "az", "abfs", "abfss")
LARGEST_BYTES: Final = 64 * 2**20  # that `read` takes into memory
_PROBE: Final = "probe/space"  # beside those of `check_store`: some stores have no object where another has a folder
_CHUNK: Final = 16 * 2**20  # of a large file, in one request
_PART: Final = 5 * 2**20  # of a file that is sent in parts, where they come to no more than _MOST_PARTS
_MOST_PARTS: Final = 10_000  # of one object, on S3
_AT_ONCE: Final = 16  # requests, where many files are read
_CLIENT: Final[Any] = {"timeout": timedelta(seconds=30), "connect_timeout": timedelta(seconds=5), "allow_http": True}
_PATIENT: Final[Any] = {"max_retries": 4, "retry_timeout": timedelta(seconds=15)}
# A create that is sent again may find what it has made itself: who asks for it has to know of the first answer.
_ONCE: Final[Any] = {"max_retries": 0, "retry_timeout": timedelta(seconds=1)}
_CODE: Final = re.compile(r"<Code>(\w+)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_NO_BUCKET: Final = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_LONGEST: Final = 300


@dataclass(frozen=True, slots=True)
class ObjectStorage:
    """The objects under `prefix` (empty, or without `/` at its ends) of the bucket `bucket` (as in `s3://name`).

    Errors are those of a folder: FileNotFoundError, FileExistsError, PermissionError; OSError for all that may pass.
    """

    bucket: str
    prefix: str = ""

    @property
    def pace_s(self) -> float:
        """Requests are paid for."""
        return 5.0

    @property
    def name(self) -> str:
        """The last part of the location."""
        return self.prefix.rpartition("/")[2]

    def __str__(self) -> str:
        return f"{self.bucket}/{self.prefix}" if self.prefix else self.bucket

    def __truediv__(self, name: str) -> ObjectStorage:
        """The objects under `name` here."""
        return ObjectStorage(self.bucket, self._key(name))

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must not exist yet; the store decides who is first."""
        from obstore import put
        from obstore.exceptions import AlreadyExistsError

        with _plainly(name):
            try:
                put(_store(self.bucket, is_patient=False), self._key(name), data, mode="create", use_multipart=False)
            except AlreadyExistsError as error:
                if not self._is_there(name):  # some stores say so of two who are at it just now
                    raise OSError(errno.EAGAIN, "the store had to do with two writers at once", name) from error
                raise FileExistsError(errno.EEXIST, "there is such an object", name) from error

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, in place of any older one."""
        from obstore import put

        with _plainly(name):
            put(self._store, self._key(name), data)

    def read(self, name: str, limit: int = LARGEST_BYTES) -> bytes:
        """The content of an object. OSError where it is more than `limit` bytes."""
        from obstore import get

        with _plainly(name):
            found = get(self._store, self._key(name))
            if found.meta["size"] > limit:
                raise OSError(errno.EFBIG, f"it is larger than {limit:,} bytes", name)
            return bytes(found.bytes())

    def part(self, name: str, offset: int, limit: int) -> tuple[bytes, int, int]:
        """(up to `limit` bytes from `offset`, where they begin, size of all); a negative `offset` is from the end."""
        from obstore import get_range

        size = self.stat(name).size_bytes
        start = max(0, size + offset) if offset < 0 else min(offset, size)
        end = min(size, start + limit)
        with _plainly(name):
            data = bytes(get_range(self._store, self._key(name), start=start, end=end)) if end > start else b""
        return data, start, size

    def names(self, folder: str) -> list[str]:
        """The names of the objects right in `folder`, and of what holds some."""
        from obstore import list_with_delimiter

        with _plainly(folder):
            found = list_with_delimiter(self._store, self._key(folder) or None)
        paths = [*(entry["path"] for entry in found["objects"]), *found["common_prefixes"]]
        return sorted(name for path in paths if not (name := path.rpartition("/")[2]).startswith("."))

    def delete(self, name: str) -> None:
        """Remove an object; no error if it is gone already."""
        self.delete_each([name])

    def tidy(self, folder: str) -> None:
        """Nothing is ever half-written."""

    def settle(self, folder: str) -> None:
        """What is seen is durable."""

    def read_each(self, names: Sequence[str]) -> list[bytes]:
        """The contents of several objects, some at a time."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(self.read, names))

    def delete_each(self, names: Sequence[str]) -> None:
        """Remove several objects, with few requests where the store can do that."""
        self._delete([self._key(name) for name in names])

    def clear(self) -> None:
        """Remove all objects below this location."""
        from obstore import list as listed

        if not self.prefix:
            msg = "a whole bucket is not ours to remove"
            raise ValueError(msg)
        with _plainly(str(self)):
            for batch in listed(self._store, self.prefix, chunk_size=1000):
                self._delete([entry["path"] for entry in batch])

    def stat(self, name: str) -> Stat:
        """An object's size and age."""
        from obstore import head

        with _plainly(name):
            found = head(self._store, self._key(name))
        return Stat(found["size"], found["last_modified"].timestamp())

    def takes(self, size_bytes: int) -> bool:  # noqa: ARG002  # there is no end to an object store
        """Whether it can be written to now."""
        try:
            self.replace(_PROBE, b"?")
            self.delete(_PROBE)
        except OSError:
            return False
        return True

    def write_file(self, name: str, save: Callable[[Path], None]) -> Written:
        """Have `save` write a local file, and put that."""
        from obstore import put

        with tempfile.TemporaryDirectory(prefix="tuneyard-") as scratch:
            path = Path(scratch) / name.rpartition("/")[2]
            save(path)
            written = digested(path)
            with _plainly(name):
                put(self._store, self._key(name), path, chunk_size=part_bytes(written.size_bytes))
        return written

    def leave(self, name: str, save: Callable[[Path], None]) -> None:
        """As `write_file`: there is no cheaper way."""
        self.write_file(name, save)

    def fetch(self, name: str, scratch: Path) -> Path:
        """A copy in `scratch`, read in pieces: each has a request of its own, with a time limit of its own."""
        from obstore import get_range

        path, size = scratch / name.rpartition("/")[2], self.stat(name).size_bytes
        with path.open("wb") as file:
            for start in range(0, size, _CHUNK):
                with _plainly(name):
                    end = min(size, start + _CHUNK)
                    piece = get_range(self._store, self._key(name), start=start, end=end)
                file.write(piece)
        return path

    @contextlib.contextmanager
    def growing(self, name: str) -> Iterator[Path]:
        """A local copy that is put again and again while it grows."""
        with growing_copy(self, name) as path:
            yield path

    @property
    def _store(self) -> ObjectStore:
        return _store(self.bucket, is_patient=True)

    def _key(self, name: str) -> str:
        return "/".join(part for part in (self.prefix, name) if part)

    def _is_there(self, name: str) -> bool:
        try:
            self.stat(name)
        except FileNotFoundError:
            return False
        return True

    def _delete(self, keys: list[str]) -> None:
        from obstore import delete

        if not keys:
            return
        try:
            with _plainly(keys[0]):
                delete(self._store, keys if len(keys) > 1 else keys[0])
        except FileNotFoundError:
            if len(keys) > 1:  # stores other than S3 stop at one that is gone already
                for key in keys:
                    self._delete([key])


def part_bytes(size_bytes: int) -> int:
    """How much of a file of this size to send with one request: twelve parts are in memory at once."""
    return max(_PART, -(-size_bytes // _MOST_PARTS))


def object_storage(url: str) -> ObjectStorage:
    """The objects under `url`, as in `s3://bucket/prefix`. StorageError where it is no such URL; nothing is asked."""
    kind, _, rest = url.partition("://")
    bucket, _, prefix = rest.partition("/")
    if find_spec("obstore") is None:
        msg = f"{url} needs the extra `objects`: install tuneyard[objects]"
        raise StorageError(msg)
    if kind not in KINDS or not bucket:
        kinds = ", ".join(f"{each}://" for each in KINDS)
        msg = f"{url!r} is no location of an object store: it begins with one of {kinds}, then BUCKET/PREFIX"
        raise StorageError(msg)
    parts = prefix.strip("/").split("/")
    if any(mark in rest for mark in "?#\\") or ":" in bucket or (prefix.strip("/") and not all(map(_is_plain, parts))):
        msg = f"{url!r} holds what is no part of a plain location, BUCKET/PREFIX; credentials come from variables"
        raise StorageError(msg)
    return ObjectStorage(f"{kind}://{bucket}", prefix.strip("/"))


def _is_plain(part: str) -> bool:
    return part not in ("", ".", "..") and part.isprintable()


@cache
def _store(bucket: str, *, is_patient: bool) -> ObjectStore:
    """The client of a bucket; it may be used by several threads."""
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    try:
        return from_url(bucket, client_options=_CLIENT, retry_config=_PATIENT if is_patient else _ONCE)
    except (BaseError, ValueError) as error:
        msg = f"{bucket} cannot be used with the variables that are set: {_first_words(error)}"
        raise StorageError(msg) from error


@contextlib.contextmanager
def _plainly(name: str) -> Iterator[None]:
    """Errors as a folder has them."""
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError as error:  # what obstore itself raises for a 404, of the bucket, too
        if any(word in str(error) for word in _NO_BUCKET):
            raise OSError(errno.EIO, "the bucket does not exist (NoSuchBucket)", name) from error
        raise FileNotFoundError(errno.ENOENT, "there is no such object", name) from error
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as error:
        raise PermissionError(errno.EACCES, f"the store denies it: {_first_words(error)}", name) from error
    except exceptions.BaseError as error:
        raise OSError(errno.EIO, _first_words(error), name) from error


def _first_words(error: Exception) -> str:
    """What the store said, without the pages that come with it."""
    text = str(error)
    code = _CODE.search(text)
    said = f"{code[1]}: {code[2] or ''}".strip(": ") if code else text.partition("\n")[0]
    return said[:_LONGEST]
