"""Who gets which place on the cluster, as one pure function: `allot(sweeps, capacity, quotas, usage, now) -> Plan`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from service.records import Quota, SweepRecord


@dataclass(frozen=True, slots=True)
class Capacity:
    """What the cluster has in all, busy or not; `sweeps` is the most drivers at once, None for no limit."""

    cpus: float
    gpus: float = 0.0
    sweeps: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Trial-hours used up: in all by users and by projects, and by users of late, where older ones count less."""

    users: Mapping[str, float] = field(default_factory=dict)
    projects: Mapping[str, float] = field(default_factory=dict)
    recent: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """What one trial of a sweep occupies, and how many at once it can use; None for as many as fit."""

    cpu: float
    gpu: float
    most: int | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Where a sweep stands in the queue, from 1, and why it waits, as a sentence for people."""

    position: int
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do: `grants` holds the trials at once of every sweep that keeps or gets a place."""

    grants: Mapping[str, int]
    place: tuple[str, ...]
    preempt: tuple[str, ...]
    waits: Mapping[str, Wait]


Quotas = Mapping[tuple[str, str], Quota]  # by ("user" or "project", name); the name "*" is for all without one


def allot(sweeps: Sequence[SweepRecord], capacity: Capacity, quotas: Quotas, usage: Usage, now: float) -> Plan:
    """Share the cluster out."""
    raise NotImplementedError
