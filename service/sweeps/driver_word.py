"""A driver's word on how its sweep stands, made safe at the edge: `progress.json` is written by a job, and by its user.

What comes through has the shape that `tuning.progress.snapshot` and the driver give it, whoever wrote it: known fields
of their own types, finite numbers within bounds, texts that every database takes. All else is left out. Whoever reads
a word, from the file or from the store, may rely on that.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

from service.errors import Fault

MOST_HOURS: Final = 1e6  # of training that one sweep may claim
_MOST_COUNT: Final = 10**12
_MOST_NUMBER: Final = 1e300
_MOST_ITEMS: Final = 2000
_MOST_TEXT: Final = 4000
_MOST_DEPTH: Final = 6
_STATUSES: Final = ("total", "pending", "running", "paused", "completed", "stopped", "diverged", "failed")
_NULLABLE: Final = frozenset(
    {"total", "best", "value", "error", "eta_s", "expected_improvement", "min_expected_improvement", "delivered", "lag",
     "repeats", "line", "given", "allowed", "nearest"}
)  # fmt: skip

Reader = Callable[[Any], Any]  # the value, or None where it is not of that kind


def tidied(said: Mapping[str, Any]) -> dict[str, Any]:
    """What of `said` is a driver's word. A field that is of another type is left out, or None where it may be."""
    word = _fields(said, _WORD)
    best = word.get("best")
    if best is not None:
        word.setdefault("metric", {"name": "metric", "goal": ""})
        if best.get("error") is not None:
            best.setdefault("fits", 1)
    return word


def _text(value: Any) -> str | None:  # noqa: ANN401  # whatever stands in the file
    if not isinstance(value, str):
        return None
    return value[:_MOST_TEXT].replace("\0", "\ufffd").encode("utf-8", "replace").decode()


def _number(value: Any) -> float | None:  # noqa: ANN401  # whatever stands in the file
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number and -_MOST_NUMBER <= value <= _MOST_NUMBER else None  # no NaN is


def _hours(value: Any) -> float | None:  # noqa: ANN401  # whatever stands in the file
    number = _number(value)
    return None if number is None or number < 0 else min(float(number), MOST_HOURS)


def _count(value: Any) -> int | None:  # noqa: ANN401  # whatever stands in the file
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return value if is_count and 0 <= value <= _MOST_COUNT else None


def _flag(value: Any) -> bool | None:  # noqa: ANN401  # whatever stands in the file
    return value if isinstance(value, bool) else None


def _some(read: Reader) -> Reader:
    """Lists of what `read` makes of the items; without those of which it makes nothing."""

    def read_list(value: Any) -> list[Any] | None:  # noqa: ANN401  # whatever stands in the file
        if not isinstance(value, list):
            return None
        return [item for item in map(read, value[:_MOST_ITEMS]) if item is not None]

    return read_list


def _object(readers: Mapping[str, Reader], needed: Mapping[str, Any] | None = None) -> Reader:
    """Objects with some fields; those of `needed` are always there, and where their default is `...` it takes them."""
    defaults = dict(needed or {})

    def read_object(value: Any) -> dict[str, Any] | None:  # noqa: ANN401  # whatever stands in the file
        if not isinstance(value, Mapping):
            return None
        found = {**defaults, **_fields(value, readers)}
        return None if ... in found.values() else found

    return read_object


def _fields(value: Mapping[str, Any], readers: Mapping[str, Reader]) -> dict[str, Any]:
    read = {name: reader(value[name]) for name, reader in readers.items() if name in value}
    return {name: found for name, found in read.items() if found is not None or name in _NULLABLE}


def _numbers(value: Any) -> dict[str, float | None] | None:  # noqa: ANN401  # whatever stands in the file
    if not isinstance(value, Mapping):
        return None
    return {str(_text(name)): _number(number) for name, number in list(value.items())[:_MOST_ITEMS]}


def _parameters(value: Any) -> dict[str, Any] | None:  # noqa: ANN401  # whatever stands in the file
    return _json(value, 0) if isinstance(value, Mapping) else None


def _json(value: Any, depth: int) -> Any:  # noqa: ANN401  # any JSON value
    """A parameter's value: any JSON, not too deep; None for what is not."""
    if depth > _MOST_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {str(_text(name)): _json(item, depth + 1) for name, item in list(value.items())[:_MOST_ITEMS]}
    if isinstance(value, list):
        return [_json(item, depth + 1) for item in value[:_MOST_ITEMS]]
    return value if isinstance(value, bool) else _text(value) if isinstance(value, str) else _number(value)


_TRIAL: Final = {
    "trial": _count, "epoch": _count, "value": _number, "params": _parameters, "repeats": _count, "fold": _count,
    "seed": _count,
}  # fmt: skip
_BEST: Final = {**_TRIAL, "values": _numbers, "front": _count, "error": _number, "fits": _count}
_STANDING: Final[Mapping[str, Any]] = {"trial": ..., "epoch": None, "value": None, "params": {}}
_TRACKING: Final = {"delivered": _flag, "lag": _count, "experiment_id": _text, "run_id": _text}
_FAULT: Final = {field.name: _count if field.name == "line" else _text for field in fields(Fault)}
_WORD: Final[Mapping[str, Reader]] = {
    "sweep_id": _text, "name": _text, "state": _text, "reason": _text, "pid": _count, "is_final": _flag,
    "at": _number, "elapsed_s": _number, "eta_s": _number, "epochs": _count, "trial_hours": _hours,
    "expected_improvement": _number, "min_expected_improvement": _number,
    "metric": _object({"name": _text, "goal": _text}, {"name": ..., "goal": ""}),
    "trials": _object(dict.fromkeys(_STATUSES, _count)),
    "fits": _object({"over": _count, "running": _count}, {"over": 0, "running": 0}),
    "best": _object(_BEST, _STANDING),
    "rungs": _some(_object({"epoch": _count, "reached": _count}, {"epoch": ..., "reached": 0})),
    "running": _some(_object(_TRIAL, _STANDING)),
    "tracking": _object(_TRACKING),
    "warnings": _some(_text),
    "faults": _some(_object(_FAULT, {"message": ...})),
}  # fmt: skip
