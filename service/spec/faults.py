"""Gathers everything that is wrong with a sweep file, each with the line and the path that its author wrote."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from service.errors import Fault, SpecError
from service.plugins import nearest
from service.spec.document import MAX_FAULTS, Node, Steps, shorten, shown, written

ModelT = TypeVar("ModelT", bound=BaseModel)
_KINDS: Final = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text: put it in quotes",
    "string_too_short": "must not be empty",
    "string_too_long": "is too long",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "string_pattern_mismatch": "is not of the form that is allowed",
    "literal_error": "is none of the words known here",
}
_LIMITS: Final = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
_LISTED: Final = 40


class Faults:
    """Collects faults about one tree; `raise_any` ends the reading when there are some."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._found: list[Fault] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, steps: Steps, message: str, *, allowed: str | None = None, near: str | None = None) -> None:
        """Note a fault at `steps` of the tree; the value there, if any, is shown as the one given."""
        node, rest = self._root.locate(steps)
        given = shown(node.plain()) if steps and not rest else None
        place = node.place
        path = written((*place.steps, *rest))
        self.take([Fault(message, path, place.file, place.line, given, allowed, near)])

    def at(self, node: Node, message: str, *, allowed: str | None = None, near: str | None = None) -> None:
        """Note a fault of `node`, wherever in the tree it stands by now."""
        place = node.place
        given = shown(node.plain())
        self.take([Fault(message, written(place.steps), place.file, place.line, given, allowed, near)])

    def take(self, faults: Iterable[Fault]) -> None:
        """Note faults that know their own place; a hundred are enough, and end the reading."""
        self._found += faults
        if len(self._found) >= MAX_FAULTS:
            self.raise_any()

    def unknown_key(self, steps: Steps, known: Iterable[str]) -> None:
        """Note a key that is not known at its place, with those that are and the nearest."""
        names = list(known)
        near = nearest(str(steps[-1]), names)
        listed = ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
        self.add(steps, "unknown key", allowed=listed, near=near)

    def unknown_word(self, steps: Steps, known: Iterable[str]) -> None:
        """Note a value that is none of the words `known`."""
        names, given = list(known), self.value_at(steps)
        near = nearest(given, names) if isinstance(given, str) else None
        self.add(steps, "is none of the words known here", allowed=", ".join(names), near=near)

    def value_at(self, steps: Steps) -> Any:  # noqa: ANN401  # any JSON value
        """The plain value at `steps`; None where there is none."""
        node, rest = self._root.locate(steps)
        return None if rest else node.plain()

    def raise_any(self) -> None:
        """Raise SpecError with all faults in the order of files and lines, if there are any."""
        if not self._found:
            return
        names = dict.fromkeys([self._root.place.file, *(fault.file for fault in self._found)])
        files = {name: i for i, name in enumerate(names)}
        unique = dict.fromkeys(sorted(self._found, key=lambda f: (files[f.file], f.line or 0)))
        raise SpecError(list(unique)[:MAX_FAULTS])


def validated(
    model: type[ModelT], data: object, steps: Steps, faults: Faults, also: Iterable[str] = ()
) -> ModelT | None:
    """`data`, which stands at `steps`, as a `model`; None after noting what is wrong with it.

    `also` are keys that may stand at `steps` beside the model's own.
    """
    known = list(dict.fromkeys([*also, *keys_of(model)]))
    if not isinstance(data, dict):
        faults.add(steps, "must be a mapping", allowed=", ".join(known))
        return None
    try:
        # Strict JSON mode takes no "3" for 3, yet lists for tuples.
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        for detail in error.errors(include_url=False, include_input=False):
            _note(known, dict(detail), steps, faults)
        return None


def keys_of(model: type[BaseModel]) -> list[str]:
    """The keys that `model` takes in a file."""
    return [field.alias or name for name, field in model.model_fields.items()]


def _note(known: list[str], detail: dict[str, Any], steps: Steps, faults: Faults) -> None:
    kind, place, context = detail["type"], tuple(detail["loc"]), detail.get("ctx", {})
    if kind == "extra_forbidden":
        faults.unknown_key((*steps, *place), known if len(place) == 1 else ())
    elif kind == "missing":
        faults.add((*steps, *place), "is required and missing")
    else:
        near = _near(context, faults.value_at((*steps, *place)))
        faults.add((*steps, *place), _message(detail), allowed=_allowed(context), near=near)


def _message(detail: dict[str, Any]) -> str:
    cause = detail.get("ctx", {}).get("error")
    if cause is not None and not isinstance(cause, str | dict):
        return shorten(str(cause), 300)
    if any(limit in detail.get("ctx", {}) for limit in _LIMITS):
        return "is out of bounds"
    return _KINDS.get(detail["type"], shorten(detail["msg"], 300))


def _allowed(context: dict[str, Any]) -> str | None:
    limits = [f"{words} {context[key]}" for key, words in _LIMITS.items() if key in context]
    if limits:
        return ", ".join(limits)
    if "expected" in context:
        return str(context["expected"])
    return f"text that matches {context['pattern']}" if "pattern" in context else None


def _near(context: dict[str, Any], given: object) -> str | None:
    if "expected" not in context or not isinstance(given, str):
        return None
    words = str(context["expected"]).replace(" or ", ", ").split(", ")
    return nearest(given, [word.strip("'") for word in words])
