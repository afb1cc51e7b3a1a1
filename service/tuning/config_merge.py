"""Puts a trial's parameters into a LightningCLI config; pure, so that best.yaml can be written without torch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection
from typing import Any, TypeAlias

from service.errors import TrialError
from service.tuning.events import Params

Config: TypeAlias = dict[str, Any]
Accepts: TypeAlias = Callable[[str, str], Collection[str] | None]


def merge_config(fit: Config, params: Params, accepts: Accepts) -> Config:
    """A copy of `fit` with every dotted path of `params` set, owners before what they own.

    `accepts(owner_path, class_path)` names the arguments of a class, or None where they are unknown. Where a parameter
    changes a class, those `init_args` of the old class that the new one does not accept are dropped, unless a
    parameter sets them. TrialError names a path that leads through something that is neither a section nor a list.
    """
    config = copy.deepcopy(fit)
    for path in sorted(params, key=_rank):
        keys = path.split(".")
        if keys[-1] == "class_path" and len(keys) > 1:
            _set_class(_section(config, keys[:-1], path), ".".join(keys[:-1]), params[path], accepts)
        else:
            owner = _section(config, keys[:-1], path)
            _assign(owner, keys[-1], copy.deepcopy(params[path]), path)
    return config


def _rank(path: str) -> tuple[float, str]:
    depth = path.count(".") + 1
    return (depth - 0.5 if path.endswith(".class_path") else depth, path)


def _set_class(section: Config, owner: str, class_path: str, accepts: Accepts) -> None:
    changed = section.get("class_path") not in (None, class_path)
    section["class_path"] = class_path
    if not changed:
        return
    section.pop("dict_kwargs", None)
    stale = section.get("init_args") or {}
    accepted = accepts(owner, class_path) if stale else None
    if accepted is not None:
        section["init_args"] = {name: value for name, value in stale.items() if name in accepted}


def _section(config: Config, keys: list[str], path: str) -> Config:
    node: Any = config
    for i, key in enumerate(keys):
        child = _child(node, key, path)
        if child is None:
            child = {}
        elif isinstance(child, str) and ([*keys, path.rpartition(".")[2]])[i + 1] in ("class_path", "init_args"):
            child = {"class_path": child}  # jsonargparse reads a bare string as a class, too
        _assign(node, key, child, path)
        node = child
    return node  # type: ignore[no-any-return]  # only a section or a list can be assigned to


def _child(node: object, key: str, path: str) -> Any:  # noqa: ANN401  # a config node may be anything
    if isinstance(node, dict):
        return node.get(key)
    return node[_index(node, key, path)] if isinstance(node, list) else _refuse(path, key, node)


def _assign(node: object, key: str, value: object, path: str) -> None:
    if isinstance(node, dict):
        node[key] = value
    elif isinstance(node, list):
        node[_index(node, key, path)] = value
    else:
        _refuse(path, key, node)


def _index(node: list[Any], key: str, path: str) -> int:
    if key.isdigit() and int(key) < len(node):
        return int(key)
    msg = f"parameters.{path}: {key!r} is no place in a list of {len(node)}; give a number from 0 to {len(node) - 1}"
    raise TrialError(msg)


def _refuse(path: str, key: str, node: object) -> None:
    msg = (
        f"parameters.{path}: there is nothing to set under {key!r}, because what holds it is {node!r}; a path leads "
        "through sections, as in model.init_args.width"
    )
    raise TrialError(msg)
