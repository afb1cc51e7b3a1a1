"""Checks what parameters say about each other: names, conditions, sections inside sections, points to start from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from service.plugins import nearest
from service.spec.document import Node, shown
from service.spec.faults import Faults
from service.spec.parameters import parse_parameter
from service.spec.space import JSON, Choice, Constant, Parameter, Params, Real, Space, describe, find_cycle

MAX_PARAMETERS: Final = 200
_NAME: Final = re.compile(r"[A-Za-z_][\w-]*(?:\.[\w-]+)*\Z", re.ASCII)
_LONGEST_NAME: Final = 200
_OURS: Final = {"trainer.max_epochs": "the scheduler decides how long a trial trains: set `scheduler.max_epochs`"}


def read_parameters(root: Node, faults: Faults) -> dict[str, Parameter] | None:
    """The parameters of the tree, or None after noting what is wrong with them."""
    before = len(faults)
    node = root.mapping.get("parameters")
    if node is None or not node.mapping:
        hint = "Katib's list of parameters is not read; " if node is not None and node.items else ""
        message = f"{hint}at least one parameter is needed" if node is not None else "is required and missing"
        faults.add(
            ("parameters",), message, allowed="a mapping from dotted names to {min: ..., max: ...} or {values: [...]}"
        )
        return None
    if len(node.mapping) > MAX_PARAMETERS:
        faults.at(Node(len(node.mapping), node.place), "too many parameters", allowed=f"at most {MAX_PARAMETERS}")
        return None
    found: dict[str, Parameter] = {}
    for name, below in node.mapping.items():
        _check_name(name, faults)
        parameter = parse_parameter(below, ("parameters", name), faults)
        if parameter is not None:
            found[name] = parameter
    for name, below in node.mapping.items():
        _check_conditions(name, below, found, list(node.mapping), faults)
        _check_prefixes(name, found, faults)
    cycle = find_cycle(found)
    if cycle:
        faults.add(("parameters", cycle[0], "when"), "goes round in a circle: " + " -> ".join(cycle))
    return found if len(faults) == before else None


def _check_name(name: str, faults: Faults) -> None:
    steps = ("parameters", name)
    if len(name) > _LONGEST_NAME or not _NAME.match(name):
        allowed = f"a dotted path into the LightningCLI config, at most {_LONGEST_NAME} characters"
        faults.add(steps, "is no name for a parameter", allowed=allowed)
    elif name in _OURS:
        faults.add(steps, _OURS[name])


def _check_conditions(name: str, node: Node, found: Mapping[str, Parameter], names: list[str], faults: Faults) -> None:
    """Looks at what is written, so that a parameter with other faults has its conditions checked too."""
    conditions = node.mapping.get("when")
    for parent, value in conditions.mapping.items() if conditions is not None else ():
        steps = ("parameters", name, "when", parent)
        if parent not in names:
            others = [other for other in names if other != name]
            faults.add(steps, "is no parameter", allowed=", ".join(others), near=nearest(parent, others))
        elif isinstance(found.get(parent), Real):
            faults.add(steps, "is a real number, which no condition can name", allowed="a parent with countable values")
        elif parent in found and parent != name:
            values = value.plain() if value.items else [value.plain()]
            impossible = [value for value in values if not found[parent].contains(value)]
            if impossible:
                faults.add(steps, f"can never be {shown(impossible[0])}", allowed=describe(found[parent]))


def _check_prefixes(name: str, found: Mapping[str, Parameter], faults: Faults) -> None:
    for i in (i for i, letter in enumerate(name) if letter == "."):
        outer = found.get(name[:i])
        values: tuple[JSON, ...] = ()
        if isinstance(outer, Choice | Constant):
            values = outer.values if isinstance(outer, Choice) else (outer.value,)
        if outer is not None and not (values and all(isinstance(value, dict | list) for value in values)):
            message = f"is inside {name[:i]}, a parameter that is no section: every value of it must be a mapping"
            faults.add(("parameters", name), message)


def read_start_points(
    points: tuple[Params, ...], space: Space, fit: Mapping[str, Any], faults: Faults
) -> tuple[Params, ...]:
    """The points with what they leave out taken from `fit` (constants from the space), each checked."""
    complete = []
    for i, point in enumerate(points):
        params = {name: point[name] for name in point if name not in space}
        for name, parameter in space.items():
            if name in point:
                params[name] = point[name]
            elif space.is_active(name, params):
                value = parameter.value if isinstance(parameter, Constant) else lookup(fit, name)
                params |= {} if value is None and not parameter.contains(None) else {name: value}
        for problem in space.problems(params):
            message = problem + _whose(problem, point, space)
            faults.add(("search", "start_points", i), message, near=_near_name(problem, space))
        complete.append(params)
    return tuple(complete)


def _whose(problem: str, point: Params, space: Space) -> str:
    """Where the value of a problem comes from, or should have, if the point does not give it."""
    name, _, rest = problem.partition(" ")
    if name in point or name not in space:
        return ""
    return f"; the point leaves it out, and {'so does' if rest == 'is missing' else 'this is the value of'} the config"


def _near_name(problem: str, space: Space) -> str | None:
    name, _, rest = problem.partition(" ")
    return nearest(name, space.names) if rest == "is not a parameter" else None


def lookup(config: Mapping[str, Any], path: str) -> JSON:
    """The value at a dotted path, where numbers count list items; None where there is none."""
    node: Any = config
    for part in path.split("."):
        if isinstance(node, list) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, Mapping) and part in node:
            node = node[part]
        else:
            return None
    return node
