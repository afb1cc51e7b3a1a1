"""Finds the lines of faults that came up after reading: those of the signature check know paths only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from service.errors import Fault, SpecError
from service.spec.document import Node, Steps, read
from service.spec.faults import Faults
from service.spec.reader import embed_base
from service.spec.sweep_spec import canonical_tree


def placed(faults: Iterable[Fault], path: Path) -> list[Fault]:
    """`faults` with file and line of the sweep file `path`, or of its base; as they are where the file has changed."""
    found = list(faults)
    try:
        root = read(path)
        notes = Faults(root)
        canonical_tree(root, notes)
        embed_base(root, path.parent, notes)
    except SpecError:
        return [replace(fault, file=fault.file or str(path)) for fault in found]
    return [_placed(fault, root, str(path)) for fault in found]


def _placed(fault: Fault, root: Node, file: str) -> Fault:
    if fault.file:
        return fault
    steps = _steps(fault.path)
    node, rest = root.locate(steps)
    if not steps or len(rest) == len(steps) or (rest and steps[0] == "parameters"):
        return replace(fault, file=file)  # an override's, or of the whole file
    return replace(fault, file=node.place.file, line=node.place.line)


def _steps(path: str) -> Steps:
    section, _, rest = path.partition(".")
    if section == "parameters":
        return (section, rest)
    return tuple(int(step) if step.isdecimal() else step for step in path.split(".") if step)
