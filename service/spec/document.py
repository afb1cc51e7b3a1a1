"""Reads YAML files that may be hostile into a tree whose nodes know where they were written.

Bounded in bytes, depth, nodes and length of a text; no anchors, tags, merge keys or second documents; a key may stand
only once. Plain numbers, booleans and nulls are read as LightningCLI reads them (`1e-4` is a number, as in YAML 1.2).
"""

from __future__ import annotations

import json
import math
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import yaml

from service.errors import Fault, SpecError

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
MAX_NODES: Final = 20_000
MAX_TEXT: Final = 20_000
MAX_FAULTS: Final = 100
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Scalar: TypeAlias = str | int | float | bool | None
Steps: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where something was written: the file, the line from 1 (None for overrides), the path as it stands there."""

    file: str
    line: int | None = None
    steps: Steps = ()


@dataclass(slots=True)
class Node:
    """A value of a YAML tree: a mapping or list of nodes, or a scalar."""

    value: dict[str, Node] | list[Node] | Scalar
    place: Place

    @classmethod
    def of(cls, data: Any, place: Place) -> Node:  # noqa: ANN401  # any JSON value
        """A tree of plain data, all of it written at `place`."""
        if isinstance(data, Mapping):
            return cls({str(k): cls.of(v, _below(place, str(k))) for k, v in data.items()}, place)
        if isinstance(data, list | tuple):
            return cls([cls.of(v, _below(place, i)) for i, v in enumerate(data)], place)
        return cls(data, place)

    @property
    def mapping(self) -> dict[str, Node]:
        """The entries of a mapping; empty for anything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> list[Node]:
        """The items of a list; empty for anything else."""
        return self.value if isinstance(self.value, list) else []

    def plain(self) -> Any:  # noqa: ANN401  # any JSON value
        """The same as plain dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def locate(self, steps: Steps) -> tuple[Node, Steps]:
        """The deepest node on the way along `steps`, and the steps that lead on from there to nothing."""
        node = self
        for i, step in enumerate(steps):
            below = node.mapping.get(str(step)) if not node.items else _item(node.items, step)
            if below is None:
                return node, steps[i:]
            node = below
        return node, ()


def _item(items: list[Node], step: str | int) -> Node | None:
    return items[step] if isinstance(step, int) and 0 <= step < len(items) else None


def _below(place: Place, step: str | int) -> Place:
    return Place(place.file, place.line, (*place.steps, step))


def written(steps: Steps) -> str:
    """A path for people: `metrics[0].goal`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return shorten(text.removeprefix("."), 200)


def shorten(text: str, length: int = 80) -> str:
    """`text` on one line, cut to `length`."""
    letters = (" " if letter.isspace() else letter for letter in text[: length + 1])
    text = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in letters)
    return text if len(text) <= length else text[: length - 1] + "…"


def shown(data: Any) -> str:  # noqa: ANN401  # any JSON value
    """A value for people: short, on one line, as it could stand in a file."""
    if isinstance(data, dict | list | tuple) and len(data) > 50:  # noqa: PLR2004  # nobody reads more
        data = list(data)[:50]
    text = json.dumps(data, ensure_ascii=False, default=str)
    return {"NaN": ".nan", "Infinity": ".inf", "-Infinity": "-.inf"}.get(text, shorten(text))


def read(path: Path, *, name: str | None = None) -> Node:
    """The tree of a file, called `name` in faults. SpecError where it cannot be read or is no fit YAML."""
    file = name or str(path)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # before opening, which would wait on a pipe
            raise _refusal(file, "is not a regular file")
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refusal(file, f"cannot be read: {reason}", allowed="the path of a file that exists") from error
    return parse(content, file=file)


def parse(content: bytes | str, *, file: str) -> Node:
    """The tree of one YAML document. SpecError with all faults; a syntax error or a cap ends the search for more."""
    text = _decode(content, file)
    reader = _Reader(file)
    try:
        return reader.read(yaml.parse(text, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        reader.faults.append(_syntax_fault(error, file, mark.line + 1 if mark else None, text))
    except yaml.YAMLError as error:
        message = f"is not YAML: {shorten(str(getattr(error, 'reason', error)))}"
        line = text.count("\n", 0, getattr(error, "position", 0)) + 1
        reader.faults.append(Fault(message, file=file, line=line))
    except _StopReadingError:
        pass
    raise SpecError(reader.faults)


def _refusal(file: str, message: str, *, line: int | None = None, allowed: str | None = None) -> SpecError:
    return SpecError([Fault(message, file=file, line=line, allowed=allowed)])


def _decode(content: bytes | str, file: str) -> str:
    if isinstance(content, str):
        content = content.encode("utf-8", "surrogateescape")
    if len(content) > MAX_BYTES:
        raise _refusal(file, "is too large", allowed=f"at most {MAX_BYTES // 1024} KiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refusal(file, "is not UTF-8 text", line=line, allowed="a file saved as UTF-8") from error


def _syntax_fault(error: yaml.MarkedYAMLError, file: str, line: int | None, text: str) -> Fault:
    context = f" {error.context}" if error.context else ""
    lines = text.splitlines()
    given = lines[line - 1] if line is not None and line <= len(lines) else ""
    tab = "\t" in given[: len(given) - len(given.lstrip())] or "'\\t'" in str(error.problem)
    return Fault(
        f"is not YAML: {shorten(str(error.problem) + context, 200)}",
        file=file,
        line=line,
        given=shorten(given) or None,
        allowed="spaces for indentation, not tabs" if tab else None,
    )


class _StopReadingError(Exception):
    """The file is over a cap; the fault is noted."""


class _Reader:
    """Builds the tree from parser events, so that nothing is built before it is checked."""

    def __init__(self, file: str) -> None:
        self.faults: list[Fault] = []
        self._file = file
        self._nodes = 0

    def read(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._stop("holds more than one document", event, (), allowed="one; remove the `---`")
                root = self._node(next(events), events, (), None)
        if root is None or (root.value is None and not self.faults):
            self._stop("is empty", None, ())
        if self.faults:
            raise _StopReadingError
        return root

    def _node(self, event: Any, events: Iterator[Any], steps: Steps, line: int | None) -> Node:  # noqa: ANN401  # PyYAML events have no types
        line = line or event.start_mark.line + 1
        self._check(event, steps, line)
        place = Place(self._file, line, steps)
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._mapping(events, steps), place)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._list(events, steps), place)
        if isinstance(event, yaml.AliasEvent):
            return Node(None, place)
        return Node(self._scalar(event, steps, line), place)

    def _check(self, event: Any, steps: Steps, line: int) -> None:  # noqa: ANN401  # PyYAML events have no types
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop("holds too many values", event, (), allowed=f"at most {MAX_NODES:,}")
        if len(steps) > MAX_DEPTH:
            self._stop("is nested too deeply", event, steps[:4], allowed=f"at most {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            self._fault("YAML anchors and aliases are not read: write the value out", steps, line, sign + event.anchor)
        if getattr(event, "tag", None) is not None:
            self._fault("YAML tags are not read: remove it", steps, line, str(event.tag))

    def _mapping(self, events: Iterator[Any], steps: Steps) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            line = event.start_mark.line + 1
            key = self._key(event, events, steps, line)
            if key in entries:
                allowed = f"one; the first is in line {entries[key].place.line}"
                self._fault("stands twice in its mapping", (*steps, key), line, None, allowed)
            node = self._node(next(events), events, (*steps, key), line)
            entries.setdefault(key, node)
        return entries

    def _key(self, event: Any, events: Iterator[Any], steps: Steps, line: int) -> str:  # noqa: ANN401  # PyYAML events have no types
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, events, (*steps, "?"), line)
            self._fault("a key must be text", steps, line, "a list, a mapping or an alias")
            return f"?{line}"
        key = self._node(event, events, (*steps, shorten(event.value)), line).value
        if not event.style and event.value == "<<":
            self._fault("merge keys are not read: write the entries out", steps, line, "<<")
        elif not isinstance(key, str):
            self._fault("a key must be text: put it in quotes", steps, line, event.value)
        return str(event.value)

    def _list(self, events: Iterator[Any], steps: Steps) -> list[Node]:
        items: list[Node] = []
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, events, (*steps, len(items)), None))
        return items

    def _scalar(self, event: Any, steps: Steps, line: int) -> Scalar:  # noqa: ANN401  # PyYAML events have no types
        text: str = event.value
        if len(text) > MAX_TEXT:
            self._fault("is too long a text", steps, line, text, f"at most {MAX_TEXT:,} characters")
            return ""
        if "\0" in text:
            self._fault("holds a NUL character, which no name or path can", steps, line, text)
            return ""
        if event.style:  # in quotes, or a block
            return text
        try:
            return resolve(text)
        except ValueError as error:
            self._fault(str(error), steps, line, text)
            return None

    def _fault(self, message: str, steps: Steps, line: int, given: str | None, allowed: str | None = None) -> None:
        given = None if given is None else shorten(given)
        self.faults.append(Fault(message, written(steps), self._file, line, given, allowed))
        if len(self.faults) >= MAX_FAULTS:
            raise _StopReadingError

    def _stop(self, message: str, event: Any, steps: Steps, allowed: str | None = None) -> NoReturn:  # noqa: ANN401  # PyYAML events have no types
        line = event.start_mark.line + 1 if event is not None else None
        self.faults.append(Fault(message, written(steps), self._file, line, None, allowed))
        raise _StopReadingError


_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **{form: True for word in ("true", "yes", "on") for form in (word, word.title(), word.upper())},
    **{form: False for word in ("false", "no", "off") for form in (word, word.title(), word.upper())},
}
_INTEGER: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*)\Z")
_ODD_INTEGER: Final = re.compile(r"[-+]?(?:0x[0-9a-fA-F]+|0b[01]+|0o[0-7]+)\Z")
_AMBIGUOUS: Final = re.compile(r"[-+]?0[0-9_]+\Z")
FLOAT: Final = re.compile(
    r"(?:[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
)
_LONGEST_NUMBER: Final = 100


def resolve(text: str) -> Scalar:
    """What a plain scalar means. ValueError for a number that readers of YAML disagree on or that no float holds."""
    if text in _WORDS:
        return _WORDS[text]
    if not text[0].isdigit() and text[0] not in "+-.":
        return text
    if len(text) > _LONGEST_NUMBER:
        if not text.strip("+-0123456789_.eE") and text.strip("+-_.eE"):
            msg = "is too long for a number"
            raise ValueError(msg)
        return text
    if _INTEGER.match(text):
        return int(text.replace("_", ""))
    if _ODD_INTEGER.match(text):
        return int(text, 0)
    if _AMBIGUOUS.match(text):
        msg = "readers of YAML disagree on a number that begins with 0: drop the 0, or put it in quotes"
        raise ValueError(msg)
    return _float(text) if FLOAT.match(text) else text


def _float(text: str) -> float:
    word = text.lower().lstrip("+-").lstrip(".")
    if word in ("inf", "nan"):
        return float(text.replace(".", ""))
    number = float(text.replace("_", ""))
    if not math.isfinite(number):
        msg = "is too large for a number"
        raise ValueError(msg)
    return number
