"""`--set a.b=c`: replaces or adds one value of the tree, with the longest key that matches, since keys hold dots."""

from __future__ import annotations

from collections.abc import Sequence

from service.errors import Fault, SpecError
from service.plugins import nearest
from service.spec.aliases import canonical_steps
from service.spec.document import Node, Place, parse, shorten
from service.spec.faults import Faults
from service.spec.parameters import KEYS


def apply(root: Node, overrides: Sequence[str], faults: Faults) -> None:
    """Apply each `path=value`, later ones over earlier ones; the value is YAML, empty for null."""
    for text in overrides:
        path, sign, value = text.partition("=")
        parts = path.strip().split(".")
        name = f"--set {shorten(text)}"
        if not sign or not all(parts):
            faults.take([Fault("is no override", file=name, allowed="a.b.c=value")])
            continue
        try:
            data = parse(value, file=name).plain() if value.strip() else None
        except SpecError as error:
            faults.take(error.faults)
            continue
        steps = tuple(map(str, canonical_steps(tuple(parts))))
        fault = _assign(root, steps, Node.of(data, Place(name)), ())
        faults.take([fault] if fault else [])


def _assign(holder: Node, parts: tuple[str, ...], node: Node, before: tuple[str, ...]) -> Fault | None:
    """Set the value at `parts` under `holder`, which stands at `before`; a fault where there is no such place."""
    node.place = Place(node.place.file, None, (*before, *parts))
    if isinstance(holder.value, list):
        return _assign_item(holder.value, parts, node, before)
    if not isinstance(holder.value, dict):
        return Fault("is a value, not a section that could hold one", ".".join(before), node.place.file)
    key = _longest_key(holder.value, parts)
    if key is None and before == ("parameters",):
        return _add_parameter(holder.value, parts, node)
    key = parts[0] if key is None else key
    rest, here = parts[key.count(".") + 1 :], (*before, key)
    if not rest:
        holder.value[key] = node
        return None
    below = holder.value.setdefault(key, Node({}, Place(node.place.file, None, here)))
    return _assign(below, rest, node, here)


def _longest_key(entries: dict[str, Node], parts: tuple[str, ...]) -> str | None:
    """The longest key there is that the path begins with."""
    keys = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((key for key in keys if key in entries), None)


def _assign_item(items: list[Node], parts: tuple[str, ...], node: Node, before: tuple[str, ...]) -> Fault | None:
    if not parts[0].isdecimal() or int(parts[0]) >= len(items):
        allowed = f"an index from 0 to {len(items) - 1}" if items else "nothing: the list is empty"
        return Fault("is a list", ".".join(before), node.place.file, given=parts[0], allowed=allowed)
    if len(parts) == 1:
        items[int(parts[0])] = node
        return None
    return _assign(items[int(parts[0])], parts[1:], node, (*before, parts[0]))


def _add_parameter(parameters: dict[str, Node], parts: tuple[str, ...], node: Node) -> Fault | None:
    """A new parameter; a path that ends like the inside of one means a parameter that is not there."""
    name = ".".join(parts)
    if parts[-1] in KEYS and len(parts) > 1:
        outer = ".".join(parts[:-1])
        allowed = ", ".join(list(parameters)[:40])
        near = nearest(outer, parameters)
        return Fault("there is no such parameter", f"parameters.{outer}", node.place.file, None, None, allowed, near)
    parameters[name] = node
    return None
