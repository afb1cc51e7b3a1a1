"""How bad data is refused: the file, the row, what stands there, what may, and the nearest name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import NoReturn


class DataError(ValueError):
    """A user's file cannot be used as it is; the message names the file and, where there is one, the row."""


def refuse(place: object, fault: str, remedy: str) -> NoReturn:
    """Raise a DataError: where, what is wrong there, and what is allowed or to be done."""
    msg = f"{place}: {fault}; {remedy}"
    raise DataError(msg)


def refuse_name(place: object, kind: str, name: str, names: Iterable[str]) -> NoReturn:
    """Raise a DataError for a name that is not among those that there are, with the nearest one."""
    known = list(names)
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    refuse(place, f"no {kind} '{name}'", f"{hint}there are {', '.join(known[:20]) or 'none'}")


def some(count: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
