"""What is left of all that limits a sweep's place: the cluster itself, and the quotas of its owner and project."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from cluster.backend import Capacity as Seen
from cluster.backend import Node
from service.records import Quota, SweepRecord
from service.spec import quantities

_TINY: Final = 1e-9
SETTLED_S: Final = 60.0  # a cluster that has become smaller has to look the same for so long
Quotas = Mapping[tuple[str, str], Quota]  # by ("user" or "project", name); "*" stands for each without one of its own


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the cluster has in all, busy or not. `sweeps` is the most drivers at once; None is no limit.

    A trial has to fit on one of the `nodes`, which are empty where they are not known.
    `driver_cpus` is what each sweep's driver takes from the cluster beside its trials. One that is not `is_settled` has
    just become smaller, perhaps only for as long as its nodes take to come back.
    """

    cpus: float
    gpus: float = 0.0
    sweeps: int | None = None
    nodes: tuple[Node, ...] = ()
    driver_cpus: float = 0.0
    is_settled: bool = True

    @classmethod
    def of(cls, seen: Seen, driver_cpus: float = 0.0) -> Capacity:
        """What a backend says that it has."""
        return cls(seen.cpus, seen.gpus, nodes=seen.of_nodes, driver_cpus=driver_cpus)

    @property
    def memory_bytes(self) -> float | None:
        """What all nodes have together, where they are known."""
        return sum(node.memory_bytes for node in self.nodes) if self.nodes else None

    @property
    def may_cost_places(self) -> bool:
        """Whether a sweep may lose its place because this is too small for all of them: not where there is nothing."""
        return self.is_settled and (self.cpus > 0 or self.gpus > 0)

    def lack_of_a_node(self, wanted: Demand) -> str | None:
        """Why no node can ever hold a trial, although the cluster has enough in all; None where one can."""
        if not self.nodes or any(wanted.fits(node) for node in self.nodes):
            return None
        needs = {name: need for name, need in wanted.needs.items() if need}
        scarce = [name for name in needs if max(getattr(node, name) for node in self.nodes) + _TINY < needs[name]]
        order = [*scarce, *(["gpus"] if wanted.gpu else []), "cpus"]
        largest = max(self.nodes, key=lambda node: [getattr(node, name) for name in order])
        asked = " and ".join(_amount(name, need) for name, need in needs.items())
        has = " and ".join(_amount(name, getattr(largest, name)) for name in needs)
        return f"one of its trials needs {asked} on one node, and the largest node of the cluster has {has}"


class Settling:
    """Tells a cluster that is smaller for good from one that has lost its nodes for a moment, as at a restart.

    It remembers what one controller has seen, and no more depends on that than how soon places are taken away.
    """

    def __init__(self) -> None:
        self._settled: Capacity | None = None  # what there was when it had last settled
        self._last: Capacity | None = None
        self._since = 0.0

    def judge(self, seen: Capacity, now: float) -> Capacity:
        """`seen`, and whether it is settled: not smaller than before, or the same for SETTLED_S."""
        if self._last is None or (seen.cpus, seen.gpus) != (self._last.cpus, self._last.gpus):
            self._last, self._since = seen, now
        self._since = min(self._since, now)  # the clock may have been set back
        before = self._settled or seen
        has_shrunk = seen.cpus < before.cpus or seen.gpus < before.gpus
        if has_shrunk and now - self._since < SETTLED_S:
            return replace(seen, is_settled=False)
        self._settled = seen
        return seen


@dataclass(frozen=True, slots=True)
class Demand:
    """What one trial of a sweep occupies, and how many at once it can use; None for as many as fit."""

    cpu: float
    gpu: float
    most: int | None
    memory_bytes: float = 0.0

    @classmethod
    def of(cls, cpu: float, gpu: float, memory_bytes: float, limits: Iterable[int | None]) -> Demand:
        """Of a sweep whose trials ask for so much, and which `limits` keep from running more at once; None is none.

        Whole GPUs are cut into equal parts, so that 0.3 of one takes a third. A trial that asks for nothing counts as
        one CPU.
        """
        if 0 < gpu < 1:
            gpu = 1 / int(1 / gpu + _TINY)
        known = [limit for limit in limits if limit is not None]
        return cls(cpu if cpu or gpu else 1.0, gpu, max(1, min(known)) if known else None, memory_bytes)

    @property
    def needs(self) -> dict[str, float]:
        """What one trial takes, by the names that nodes and quotas have for it."""
        return {"cpus": self.cpu, "gpus": self.gpu, "memory_bytes": self.memory_bytes}

    def fits(self, node: Node) -> bool:
        """Whether a node that does nothing else can hold one trial."""
        return all(getattr(node, name) + _TINY >= need for name, need in self.needs.items())


def demand(sweep: SweepRecord) -> Demand:
    """What a sweep can use, by its resources, its own `max_concurrent_trials`, and the trials that it has left."""
    resources, budget = sweep.spec.get("resources", {}), sweep.spec.get("budget", {})
    cpu, gpu = float(resources.get("cpu", 1)), float(resources.get("gpu", 0))
    memory = quantities.size_bytes(resources["memory"]) if resources.get("memory") else 0
    return Demand.of(cpu, gpu, float(memory), (budget.get("max_concurrent_trials"), _left(sweep)))


def _left(sweep: SweepRecord) -> int | None:
    """How many fits the sweep may still need, as far as its budget of trials tells."""
    total = sweep.spec.get("budget", {}).get("max_trials")
    if total is None:
        return None
    trials, evaluation = sweep.progress.get("trials") or {}, sweep.spec.get("evaluation", {})
    ended = sum(int(trials.get(status, 0)) for status in ("completed", "stopped", "diverged", "failed"))
    fits = int(evaluation.get("folds", 1)) * int(evaluation.get("seeds", 1))
    finals = int(evaluation.get("final_seeds", 0)) * int(evaluation.get("finalists", 3)) * fits
    return max(0, int(total) - ended) * fits + finals


@dataclass(frozen=True, slots=True)
class _Whole(Quota):
    """The cluster as a limit; nobody's quota is about memory."""

    memory_bytes: float | None = None


@dataclass(slots=True)
class Room:
    """One limit: `quota` is what there is in all, the rest what has been given out. `who` may have it, if anyone."""

    who: str
    quota: Quota
    used: dict[str, float] = field(default_factory=dict)

    def take(self, wanted: Demand, trials: int, sweeps: int) -> None:
        """Give out so many trials, to so many further sweeps; also where there is no room left."""
        given = {name: need * trials for name, need in wanted.needs.items()}
        for name, amount in {**given, "concurrent_trials": trials, "running_sweeps": sweeps}.items():
            self.used[name] = self.used.get(name, 0.0) + amount

    def lack(self, wanted: Demand, sweeps: int) -> str | None:
        """Why one trial more, of so many further sweeps, does not fit; None where it does."""
        needs = {"running_sweeps": sweeps, "concurrent_trials": 1, **wanted.needs}
        for name, need in needs.items():
            has = getattr(self.quota, name, None)
            if has is not None and need and self.used.get(name, 0.0) + need > has + _TINY:
                return self._say(name, need, has)
        return None

    def _say(self, name: str, need: float, has: float) -> str:
        left = max(0.0, has - self.used.get(name, 0.0))
        if name == "running_sweeps":
            return f"{self.who or 'the cluster'} may run {_count(int(has), 'sweep')} at once, and does"
        if name == "concurrent_trials":
            return f"{self.who} may run {_count(int(has), 'trial')} at once, and does"
        if need > has + _TINY:
            whole = f"{self.who} may use {_number(name, has)}" if self.who else f"the cluster has {_number(name, has)}"
            return f"one of its trials needs {_amount(name, need)}, and {whole} in all"
        whole = f"that {self.who} may use" if self.who else "of the cluster"
        rest = f"of the {_number(name, has)} {whole} {_number(name, left)} are left"
        return f"one of its trials needs {_amount(name, need)}, and {rest}"


class Rooms:
    """All limits at once. `cluster`, `users` and `projects` are filled as places are given out."""

    def __init__(self, capacity: Capacity, quotas: Quotas, sweeps: Sequence[SweepRecord]) -> None:
        whole = _Whole(capacity.sweeps, None, capacity.cpus, capacity.gpus, None, memory_bytes=capacity.memory_bytes)
        self.capacity, self.cluster = capacity, Room("", whole)
        self.users = {s.owner: Room(s.owner, quota_of(quotas, "user", s.owner)) for s in sweeps}
        self.projects = {
            s.project: Room(f"project {s.project}", quota_of(quotas, "project", s.project)) for s in sweeps
        }

    def of(self, sweep: SweepRecord) -> tuple[Room, Room, Room]:
        """The limits of one sweep, what it can change least first."""
        return self.projects[sweep.project], self.users[sweep.owner], self.cluster

    def lack(self, sweep: SweepRecord, wanted: Demand, sweeps: int) -> str | None:
        """Why the sweep gets no trial more; None where it may."""
        driver = self.capacity.driver_cpus * sweeps
        with_driver = replace(wanted, cpu=wanted.cpu + driver)
        return self.lack_of_quota(sweep, wanted, sweeps) or self.cluster.lack(with_driver, sweeps)

    def lack_of_quota(self, sweep: SweepRecord, wanted: Demand, sweeps: int) -> str | None:
        """As `lack`, as if the cluster were endless."""
        return next((why for room in self.of(sweep)[:2] if (why := room.lack(wanted, sweeps))), None)

    def take(self, sweep: SweepRecord, wanted: Demand, trials: int, sweeps: int) -> None:
        """Give the sweep so many trials more; `sweeps` is 1 with its first ones."""
        for room in self.of(sweep):
            room.take(wanted, trials, sweeps)
        self.cluster.used["cpus"] += self.capacity.driver_cpus * sweeps

    def hold(self, sweeps: Iterable[SweepRecord]) -> None:
        """Take what sweeps have that are about to give it back."""
        for sweep in sweeps:
            self.take(sweep, demand(sweep), max(1, sweep.concurrency), 1)

    def share(self, user: str) -> float:
        """The part of the cluster that a user has been given, by what is scarcest of it: from 0 to 1."""
        used = self.users[user].used
        return self._part(used.get("cpus", 0.0), used.get("gpus", 0.0))

    def part(self, wanted: Demand) -> float:
        """The part of the cluster that one trial takes, as in `share`."""
        return self._part(wanted.cpu, wanted.gpu)

    def _part(self, cpus: float, gpus: float) -> float:
        parts = [cpus / self.capacity.cpus] if self.capacity.cpus else []
        parts += [gpus / self.capacity.gpus] if self.capacity.gpus else []
        return max(parts, default=math.inf)


def quota_of(quotas: Quotas, kind: str, name: str) -> Quota:
    """The quota of a user or project: its own, else the one of `*`, else none."""
    return quotas.get((kind, name)) or quotas.get((kind, "*")) or Quota()


def _amount(name: str, number: float) -> str:
    """So much of what is called `name` in `Demand.needs`, for people."""
    return f"{_number(name, number)} of memory" if name == "memory_bytes" else _count(number, name[:-1].upper())


def _number(name: str, number: float) -> str:
    return f"{round(number / 2**30, 2):g} GiB" if name == "memory_bytes" else f"{number:g}"


def _count(number: float, word: str) -> str:
    return f"{number:g} {word}" + ("" if number == 1 else "s")
