"""Which nodes a sweep would want of a cluster that grows, from what a trial asks for and from an operator's groups."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cluster.backend import Node
from cluster.kuberay import Group
from service.queueing.rooms import Demand
from service.spec.sweep_spec import SweepSpec

_TINY = 1e-9
_GIB = 2**30


def node_lines(spec: SweepSpec, trials: int | None, groups: Sequence[Group]) -> tuple[str, ...]:
    """The nodes that the sweep wants when as many trials run as may, one line for each group; why there are none.

    `trials` is how many it has at most, None for no end. Without groups: what the trials ask for together.
    """
    resources, limits = spec.resources, (spec.budget.max_concurrent_trials, trials)
    wanted = Demand.of(resources.cpu, resources.gpu, float(resources.memory_bytes or 0), limits)
    if not groups:
        return (_together(wanted),)
    fitting = [(group, _per_node(wanted, group.node)) for group in groups]
    fitting = [(group, count) for group, count in fitting if count]
    if not fitting:
        largest = max((group.node for group in groups), key=lambda node: (node.gpus, node.cpus, node.memory_bytes))
        return (f"none: one trial asks for {_amounts(wanted.needs)}, and the largest node has {_of(largest)}",)
    return tuple(_lines(wanted, fitting))


def _lines(wanted: Demand, fitting: list[tuple[Group, int]]) -> list[str]:
    """Groups without GPUs first, for trials that need none; then in the order of the template."""
    left, lines = math.inf if wanted.most is None else float(wanted.most), []
    for group, count in sorted(fitting, key=lambda entry: entry[0].node.gpus > 0 and not wanted.gpu):
        nodes = min(group.most, math.ceil(left / count) if left < math.inf else group.most)
        if nodes:
            trials = min(left, nodes * count)
            lines.append(f"{nodes} of at most {group.most} {group.name} ({_of(group.node)}), for {trials:g} trials")
            left -= trials
    if left and wanted.most is not None:
        lines.append(f"{left:g} of {wanted.most} trials at a time have no node: the groups are at their most")
    return lines


def _per_node(wanted: Demand, node: Node) -> int:
    """How many trials one node can hold."""
    finite = {"cpus": node.cpus, "memory_bytes": min(node.memory_bytes, 2.0**60)}
    fits = [int(has / wanted.needs[name] + _TINY) for name, has in finite.items() if wanted.needs[name]]
    if wanted.gpu:
        parts = int(1 / wanted.gpu + _TINY) if wanted.gpu < 1 else 0
        fits.append(int(node.gpus) * parts if parts else int(node.gpus / wanted.gpu + _TINY))
    return min(fits, default=0)


def _together(wanted: Demand) -> str:
    if wanted.most is None:
        return f"as many as there are; one trial asks for {_amounts(wanted.needs)}"
    all_of_them = _amounts({name: need * wanted.most for name, need in wanted.needs.items()})
    return f"{wanted.most} trials at a time ask for {_amounts(wanted.needs)} each, {all_of_them} together"


def _of(node: Node) -> str:
    known = {"cpus": node.cpus, "gpus": node.gpus, "memory_bytes": node.memory_bytes}
    return _amounts({name: amount for name, amount in known.items() if amount < math.inf})


def _amounts(needs: dict[str, float]) -> str:
    words = {"cpus": "CPU", "gpus": "GPU"}
    known = [(words[name], round(need, 2)) for name, need in needs.items() if need and name in words]
    found = [f"{amount:g} {word}{'' if amount == 1 else 's'}" for word, amount in known]
    if needs.get("memory_bytes"):
        found.append(f"{needs['memory_bytes'] / _GIB:.3g} GiB")
    return ", ".join(found)
