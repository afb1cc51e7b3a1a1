"""Asks an object store, before anything depends on it, whether it does what a sweep needs: one object tells."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Final

from service.errors import StorageError
from service.tuning.storage_objects import ObjectStorage

_FOLDER: Final = "probe"
_RIGHTS: Final = "it needs to list, read, create, replace and delete objects there"
_REGION: Final = ("region", "redirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraint")


def check_store(storage: ObjectStorage) -> None:
    """Create, read, list and delete one object of its own, and try to create it twice.

    StorageError says what the store refuses, or that it would let two drivers take the same sweep.
    """
    name = f"{_FOLDER}/{secrets.token_hex(8)}"
    _ask(storage, "creating an object", lambda: storage.create(name, b"?"))
    try:
        if _ask(storage, "reading an object", lambda: storage.read(name)) != b"?":
            msg = f"{storage} does not give back what was written to it; it is no object store for sweeps"
            raise StorageError(msg)
        _ask(storage, "listing objects", lambda: storage.names(_FOLDER))
        _refuses_a_second(storage, name)
    finally:
        _ask(storage, "deleting an object", lambda: storage.delete(name))


def _refuses_a_second(storage: ObjectStorage, name: str) -> None:
    try:
        storage.create(name, b"second")
    except FileExistsError:
        return
    except OSError as error:
        msg = f"{storage} does not take conditional writes (If-None-Match: *): {error.strerror}"
        raise StorageError(msg) from error
    msg = (
        f"{storage} ignores conditional writes (If-None-Match: *): two drivers could take the same sweep. Use a store, "
        "or a version of it, that honours them"
    )
    raise StorageError(msg)


def _ask(storage: ObjectStorage, what: str, action: Callable[[], object]) -> object:
    try:
        return action()
    except PermissionError as error:
        msg = f"{storage}: {what} is denied ({error.strerror}). Look at the credentials and their rights: {_RIGHTS}"
    except FileNotFoundError:
        msg = f"{storage}: {what} did not last: it is gone again"
    except OSError as error:
        said = str(error.strerror)
        msg = f"{storage}: {what} failed: {said}. {_advice(said)}"
    raise StorageError(msg)


def _advice(said: str) -> str:
    if "NoSuchBucket" in said:
        return "Make the bucket first, or name another one"
    if any(word in said for word in _REGION):
        return "Set AWS_REGION to the bucket's region"
    return "Look at the endpoint (AWS_ENDPOINT_URL), the region (AWS_REGION) and the network"
