"""Durations and sizes as people write them (`2h`, `4GiB`), to seconds and bytes and back."""

from __future__ import annotations

import re
from typing import Final

_SECONDS: Final = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_BYTES: Final = {
    **{f"{letter}i{end}": 1024**i for i, letter in enumerate("KMGT", 1) for end in ("B", "")},
    **{f"{letter}B": 1000**i for i, letter in enumerate("kMGT", 1)},
    "B": 1,
}
_DURATION: Final = re.compile(r"(?:\d{1,9}(?:\.\d{1,17})?[dhms]){1,4}\Z", re.ASCII)
_PART: Final = re.compile(r"([\d.]+)([dhms])")
_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s?([A-Za-z]{1,3})\Z", re.ASCII)
_SHORTEST_S: Final = 0.001


def seconds(text: object) -> float:
    """The seconds of `90s`, `30m`, `1h30m`, `2d`. ValueError for anything else, a bare number too."""
    if not isinstance(text, str) or not _DURATION.match(text.replace(" ", "")):
        msg = "a duration is a number with its unit: 90s, 30m, 1h30m, 2d"
        raise ValueError(msg)
    total = float(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text)))
    if total < _SHORTEST_S:
        msg = "a duration must be longer than nothing"
        raise ValueError(msg)
    return total


def duration(value_s: float) -> str:
    """The inverse of `seconds`, in the largest unit that leaves a whole number."""
    for unit, size in _SECONDS.items():
        if value_s % size == 0:
            return f"{int(value_s // size)}{unit}"
    return f"{value_s!r}s"


def size_bytes(text: object) -> int:
    """The bytes of `4GiB`, `4Gi`, `500MB`. ValueError for anything else, a bare number too."""
    match = _SIZE.match(text) if isinstance(text, str) else None
    if match is None or match[2] not in _BYTES:
        msg = "a size is a number with its unit: 512MiB, 4GiB, 4Gi, 500MB"
        raise ValueError(msg)
    size = int(float(match[1]) * _BYTES[match[2]])
    if size < 1:
        msg = "a size must be at least one byte"
        raise ValueError(msg)
    return size


def size(value_bytes: int) -> str:
    """The inverse of `size_bytes`, in the largest binary unit that leaves a whole number."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value_bytes % _BYTES[unit] == 0:
            return f"{value_bytes // _BYTES[unit]}{unit}"
    return f"{value_bytes}B"
