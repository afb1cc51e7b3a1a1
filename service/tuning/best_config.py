"""Writes best.yaml: the best trial as a plain LightningCLI config that needs nothing of Tuneyard; imports no torch.

`python main.py fit --config best.yaml`, where main.py calls `LightningCLI()` (or the class that `cli:` named).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import yaml

from service.tuning.config_merge import Config, merge_config
from service.tuning.events import Params

_NOT_LIGHTNINGS: Final = ("cli", "weights_only")


def best_yaml(
    fit: Config,
    params: Params,
    *,
    seed: int,
    max_epochs: int,
    header: Sequence[str] = (),
    resolved: Mapping[str, Any] | None = None,
) -> str:
    """The text of a LightningCLI config for `params` trained to `max_epochs` (the best epoch) with `seed`.

    Each line of `header` becomes a comment. `resolved`, the trial's own `configs/trial-<n>.yaml`, says which arguments
    the class in use accepts; without it, arguments of a class that `params` replaced stay where they are.
    """
    config = merge_config(fit, params, accepts=lambda owner, _: _accepted(resolved, owner))
    body = {name: value for name, value in config.items() if name not in _NOT_LIGHTNINGS}
    trainer = {**(body.pop("trainer", None) or {}), "max_epochs": max_epochs}
    text = yaml.safe_dump({"seed_everything": seed, **body, "trainer": trainer}, sort_keys=False, allow_unicode=True)
    notes = [*header, *([f"Parse it with {fit['cli']} in place of LightningCLI."] if fit.get("cli") else [])]
    comments = "".join(f"# {line}".rstrip() + "\n" for note in notes for line in note.splitlines() or [""])
    return comments + text


def _accepted(resolved: Mapping[str, Any] | None, owner: str) -> Collection[str] | None:
    node: Any = resolved
    for key in owner.split("."):
        if isinstance(node, list) and key.isdigit() and int(key) < len(node):
            node = node[int(key)]
        else:
            node = node.get(key) if isinstance(node, Mapping) else None
    return node.get("init_args") or {} if isinstance(node, Mapping) else None
