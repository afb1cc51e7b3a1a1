"""The parts of a training state that Lightning leaves out of a checkpoint, or restores where a sweep must not.

Random states: without them a resumed trial sees other dropout masks and another order of its data. Optimizer and
schedule: Lightning restores the saved ones over the ones just configured, so a mutated learning rate would be lost
without a word; `carry_over` lets what the new configuration changed win, and keeps the rest of the saved state.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch

State: TypeAlias = dict[str, Any]
_SCHEDULE_MEMORY: Final = frozenset({"last_epoch", "_step_count", "_last_lr", "best", "num_bad_epochs"})


def random_state() -> State:
    """The global random states of python, numpy and torch, in types that `torch.load(weights_only=True)` accepts."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  # the global state is meant
    state = {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), int(position), int(has_gauss), cached],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]  # torch leaves it bare
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: State) -> None:
    """The inverse of `random_state`; the states of accelerators that this machine lacks are left out."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002  # as above
    torch.set_rng_state(state["torch"].cpu())
    if "cuda" in state and torch.cuda.device_count() >= len(state["cuda"]):
        torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])


def is_same_random_state(one: State, other: State) -> bool:
    """Whether nothing was drawn between two calls of `random_state`."""
    return (
        bool(torch.equal(one["torch"], other["torch"]))
        and one["python"] == other["python"]
        and one["numpy"][2:] == other["numpy"][2:]
        and bool(torch.equal(one["numpy"][1], other["numpy"][1]))
    )


def fresh_state(optimizers: Sequence[Any], schedulers: Sequence[Any]) -> State:
    """What the configuration alone gives: param-group values and schedule attributes before the first step."""
    return {
        "optimizers": [{"kind": _kind(o), "groups": [_plain(group) for group in o.param_groups]} for o in optimizers],
        "schedulers": [{"kind": _kind(s), "values": _plain(s.state_dict())} for s in schedulers],
    }


def carry_over(
    checkpoint: State, donor: State, new: State, optimizers: Sequence[Any], schedulers: Sequence[Any]
) -> None:
    """Edit `checkpoint` in place so that values in which `new` differs from `donor` (two fresh states) win.

    A learning rate keeps its place in its schedule: it is scaled by new / old. An optimizer or schedule of another
    class than the donor's starts afresh.
    """
    lists = (checkpoint["optimizer_states"], donor["optimizers"], new["optimizers"], optimizers)
    for i, (saved, old, fresh, optimizer) in enumerate(zip(*lists, strict=False)):
        if old["kind"] != fresh["kind"] or len(old["groups"]) != len(fresh["groups"]):
            checkpoint["optimizer_states"][i] = copy.deepcopy(optimizer.state_dict())
            continue
        for group, before, after in zip(saved["param_groups"], old["groups"], fresh["groups"], strict=True):
            group.update(_changed_group(group, before, after))
    _carry_schedules(checkpoint, donor, new, schedulers)
    _align_last_rates(checkpoint, optimizers, schedulers)


def _carry_schedules(checkpoint: State, donor: State, new: State, schedulers: Sequence[Any]) -> None:
    saved_schedules = checkpoint["lr_schedulers"]
    del saved_schedules[len(schedulers) :]
    for i, scheduler in enumerate(schedulers):
        known = i < len(saved_schedules) and i < len(donor["schedulers"])
        old: State = donor["schedulers"][i] if known else {"kind": None}
        fresh: State = new["schedulers"][i]
        if old["kind"] != fresh["kind"]:
            saved_schedules[i : i + 1] = [copy.deepcopy(scheduler.state_dict())]
            continue
        changed = {
            name: value
            for name, value in fresh["values"].items()
            if name not in _SCHEDULE_MEMORY and not _same(value, old["values"].get(name))
        }
        saved_schedules[i].update(changed)


def _align_last_rates(checkpoint: State, optimizers: Sequence[Any], schedulers: Sequence[Any]) -> None:
    for saved, scheduler in zip(checkpoint["lr_schedulers"], schedulers, strict=True):
        owner = next((i for i, o in enumerate(optimizers) if o is getattr(scheduler, "optimizer", None)), None)
        if owner is not None and "_last_lr" in saved:
            saved["_last_lr"] = [group["lr"] for group in checkpoint["optimizer_states"][owner]["param_groups"]]


def _changed_group(saved: State, before: State, after: State) -> State:
    changed = {name: value for name, value in after.items() if not _same(value, before.get(name))}
    if "lr" in changed:
        is_untouched = _same(saved["lr"], before["lr"]) or not float(before["lr"])
        changed["lr"] = after["lr"] if is_untouched else saved["lr"] * (float(after["lr"]) / float(before["lr"]))
    return changed


def _kind(thing: object) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"


def _plain(values: State) -> State:
    return {name: copy.deepcopy(value) for name, value in values.items() if name != "params" and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | torch.Tensor)


def _same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        return isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and torch.equal(one.cpu(), other.cpu())
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return one == other
