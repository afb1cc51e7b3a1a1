"""Finds plugin files: one folder per kind, one file per thing, and the file's name is its name in the sweep file."""

from __future__ import annotations

import difflib
import functools
import importlib
import pkgutil
from collections.abc import Iterable
from functools import cache
from types import ModuleType

from service.errors import Fault, SpecError

_SHORTEST_START = 3
_LONGEST_NAME = 100  # longer words are never a typing mistake, and comparing them costs quadratic time


@cache
def names(folder: str) -> tuple[str, ...]:
    """The plugins of `folder` ("searchers", "schedulers"), sorted; files that start with an underscore are none.

    The folder is read once in a process.
    """
    package = importlib.import_module(f"service.tuning.{folder}")
    return _names(tuple(package.__path__))


@functools.cache  # a service reads many sweep files, and a process keeps the plugins that it began with
def _names(paths: tuple[str, ...]) -> tuple[str, ...]:
    found = {info.name for info in pkgutil.iter_modules(paths) if not info.name.startswith("_")}
    return tuple(sorted(found))


def find(folder: str, name: str) -> ModuleType:
    """The plugin's module. SpecError with the valid names and the nearest one where there is no such file."""
    known = names(folder)
    if name not in known:
        fault = Fault(
            message=f"there is no {folder.removesuffix('s')} of that name",
            given=repr(name[:_LONGEST_NAME]),
            allowed=", ".join(known),
            nearest=nearest(name, known),
        )
        raise SpecError([fault])
    return _imported(folder, name)


@cache
def _imported(folder: str, name: str) -> ModuleType:
    """As `importlib.import_module`, without its lock, for which the threads of a service would wait."""
    return importlib.import_module(f"service.tuning.{folder}.{name}")


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that `word` was probably meant to be, if any is near."""
    if len(word) > _LONGEST_NAME:
        return None
    by_lower = {name.lower(): name for name in known if len(name) <= _LONGEST_NAME}
    begun = [
        name for lower, name in by_lower.items() if len(word) >= _SHORTEST_START and lower.startswith(word.lower())
    ]
    if len(begun) == 1:
        return begun[0]
    match = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[match[0]] if match else None
