"""Turns what LightningCLI's parser says about a config into one reason, where it lies, and the nearest right name."""

from __future__ import annotations

import copy
import difflib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from service.tuning.config_merge import Config

_OPTION: Final = re.compile(r"(?:Option|does not accept option) '([^']+)'")
_CLASS: Final = re.compile(r"Problem with given class_path '([^']+)'")
_GROUP: Final = re.compile(r"^Group '([^']+)'")
_KEY: Final = re.compile(r'Parser key "([^"]+)"')
_REQUIRED: Final = re.compile(r"the following arguments are required: (.+)")
_EXPECTED: Final = re.compile(r"Expected an? (?:typing\.)?(.+?)\. Got value: ")
_ALTERNATIVE: Final = re.compile(r"^(?:Expected a <class '([\w.]+)'>)$")
_NO_MODULE: Final = re.compile(r"No module named '([\w.]+)'")
_NO_ATTRIBUTE: Final = re.compile(r"module '([\w.]+)' has no attribute '(\w+)'")
_LISTED: Final = 12
_NOISE: Final = ("Subtypes:", "Given value", "Does not validate", "Errors:", "Parser key", "Problem with given")


@dataclass(frozen=True, slots=True)
class Explanation:
    """One reason of the parser. `owner`: the class whose argument is meant; `key`: the argument or section."""

    reason: str
    key: str | None = None
    owner: str | None = None
    allowed: str | None = None
    is_unknown_name: bool = False


def explain(message: str) -> Explanation:
    """The first real reason in the parser's nested report."""
    lines = [line.strip().removeprefix("- ") for line in message.splitlines()]
    owners = [match[1] for line in lines if (match := _CLASS.search(line))]
    for i, line in enumerate(lines):
        if option := _OPTION.search(line):
            group = _GROUP.match(line)
            owner = group[1] if group else _last_class(lines[: i + 1])
            return Explanation(f"{option[1]!r} is not accepted", option[1], owner, is_unknown_name=True)
        if required := _REQUIRED.search(line):
            return Explanation(f"required and not given: {required[1]}", None, _last_class(lines[: i + 1]))
    reason, at = _leaf(lines)
    keys = [match[1] for line in lines[: at + 1] if (match := _KEY.search(line))]
    allowed = _allowed(lines, reason)
    if _EXPECTED.search(reason):
        reason = f"must be {allowed}" if "," not in str(allowed) else "is none of the values allowed"
    return Explanation(reason, keys[-1] if keys else None, owners[-1] if owners else None, allowed)


def _last_class(lines: list[str]) -> str | None:
    found = [match[1] for line in lines if (match := _CLASS.search(line))]
    return found[-1] if found else None


def _leaf(lines: list[str]) -> tuple[str, int]:
    for i, line in enumerate(lines):
        if line and not line.startswith(_NOISE) and "NoneType" not in line:
            return line, i
    return (lines[0] if lines else "refused without a word"), 0


def _allowed(lines: list[str], reason: str) -> str | None:
    if expected := _EXPECTED.search(reason):
        return _readable(expected[1])
    kinds = [match[1] for line in lines if (match := _ALTERNATIVE.match(line))]
    return " or ".join("null" if kind == "NoneType" else kind for kind in kinds) if len(kinds) > 1 else None


def _readable(kind: str) -> str:
    literal = re.fullmatch(r"Literal\[(.*)\]", kind)
    return literal[1].replace("'", "") if literal else re.sub(r"<class '([\w.]+)'>", r"\1", kind)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name most like `name`, if any is like it at all."""
    return next(iter(difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)), None)


def importable(reason: str) -> tuple[str | None, str | None]:
    """What a class path may name instead where `reason` says that it names nothing, and the nearest such name."""
    if _NO_MODULE.search(reason):
        return "modules in the sweep file's folder (or that of `code.root`), and installed ones", None
    match = _NO_ATTRIBUTE.search(reason)
    module = sys.modules.get(match[1]) if match else None
    if match is None or module is None:
        return None, None
    names = [name for name, value in vars(module).items() if isinstance(value, type) and value.__module__ == match[1]]
    return ", ".join(sorted(names)[:_LISTED]) or None, nearest(match[2], names)


def locate(config: Config, explanation: Explanation) -> str | None:
    """The dotted path in `config` of what an explanation is about; None where it cannot be told."""
    key, owner = explanation.key, explanation.owner
    if key is None:
        return None
    if owner is None or owner in config:
        path = key if owner is None else f"{owner}.{key}"
        return path if _has(config, path) else None
    for path, section in sections(config):
        arguments = section.get("init_args")
        if _is_class(section.get("class_path"), owner) and isinstance(arguments, dict) and key in arguments:
            return f"{path}.init_args.{key}"
        if path == key:
            return path
    return None


def _is_class(given: object, full: str) -> bool:
    return isinstance(given, str) and (given == full or full.endswith(f".{given}"))  # Lightning's own go by short names


def sections(node: object, path: str = "") -> Iterator[tuple[str, Config]]:
    """Every mapping below `node` with its dotted path, outer ones first."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(node, dict):
        if path:
            yield path, node
        items = node.items()
    elif isinstance(node, list):
        items = enumerate(node)
    for key, child in items:
        yield from sections(child, f"{path}.{key}" if path else str(key))


def _has(config: Config, path: str) -> bool:
    node: Any = config
    for key in path.split("."):
        if not isinstance(node, dict) or key not in node:
            return False
        node = node[key]
    return True


def without(config: Config, path: str) -> Config:
    """A copy of `config` that lacks `path`."""
    changed = copy.deepcopy(config)
    *owners, last = path.split(".")
    node: Any = changed
    for key in owners:
        node = node[int(key) if isinstance(node, list) else key]
    del node[int(last) if isinstance(node, list) else last]
    return changed
