"""What the service keeps, as plain values: the one vocabulary of its store, its controller and its HTTP interface."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

EVERY_PROJECT: Final = "*"
SUBMITTERS_PRIORITY: Final = 100  # the highest that a project's submitters may give
EVENT_KINDS: Final = (
    "submitted", "queued", "started", "improved", "extended", "prioritised", "pausing", "paused", "preempted",
    "resumed", "lost", "cancelling", "cancelled", "finished", "failed", "deleting", "deleted",
)  # fmt: skip


class State(StrEnum):
    """Where a sweep of the service stands; the last three are its endings.

    Only `extend` leads back from them, and `resume` from a failure that was the drivers' and not the sweep's.
    """

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do."""
        return self in (State.COMPLETED, State.FAILED, State.CANCELLED)

    @property
    def is_placed(self) -> bool:
        """Whether it has, or is about to give back, a place on the cluster."""
        return self in (State.STARTING, State.RUNNING, State.STOPPING)


class Wish(StrEnum):
    """What is wanted of a sweep, whatever it does at the moment."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"
    DELETE = "delete"


class Role(StrEnum):
    """What a person may do in a project; each may do what those before it may."""

    VIEWER = "viewer"
    SUBMITTER = "submitter"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks, and with which role in which project; `EVERY_PROJECT` stands for all of them."""

    user: str
    roles: Mapping[str, Role]
    token_id: str | None = None

    def role(self, project: str) -> Role | None:
        """The role in `project`; None for a stranger to it."""
        return self.roles.get(project) or self.roles.get(EVERY_PROJECT)

    def may(self, needed: Role, project: str) -> bool:
        """Whether the role in `project` is at least `needed`."""
        role = self.role(project)
        return role is not None and role.covers(needed)

    @property
    def projects(self) -> frozenset[str] | None:
        """The projects that it may look into; None for all."""
        return None if EVERY_PROJECT in self.roles else frozenset(self.roles)


@dataclass(frozen=True, slots=True)
class SweepRecord:
    """One submitted sweep. Times are seconds since the epoch on the database's clock, None while they lie ahead.

    `version` grows with each change. `is_preempted` says that it waits only because another one was more urgent.
    `concurrency` is how many trials at once it has been granted, 0 while it has no place. `trial_hours` is used up.
    """

    id: str
    project: str
    owner: str
    name: str
    spec: Mapping[str, Any]
    state: State = State.QUEUED
    wish: Wish = Wish.RUN
    reason: str = ""
    priority: int = 0
    code: str | None = None  # digest of the code package
    facts: Mapping[str, str] = field(default_factory=dict)  # what only the submitting machine knew, e.g. the commit
    forked_from: str | None = None
    attempt: int = 0  # of the driver; 0 before the first
    failures: int = 0  # drivers lost one after the other without progress
    not_before: float | None = None  # a lost driver is not started again before
    is_preempted: bool = False
    concurrency: int = 0
    trial_hours: float = 0.0
    progress: Mapping[str, Any] = field(default_factory=dict)  # the driver's newest word, as `progress.json` has it
    created_at: float = 0.0
    updated_at: float = 0.0
    queued_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    version: int = 1

    @property
    def tag(self) -> str:
        """Another text once people's wishes or the state have changed; `version` grows with each progress, too."""
        decided = [self.id, self.state, self.wish, self.priority, self.spec.get("budget"), self.ended_at]
        return "s" + hashlib.sha256(json.dumps(decided, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class NewSweep:
    """What a submission brings; the store adds the rest."""

    id: str
    project: str
    owner: str
    name: str
    spec: Mapping[str, Any]
    priority: int = 0
    code: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)
    forked_from: str | None = None


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token as the store knows it: never the token itself."""

    id: str
    user: str
    name: str
    roles: Mapping[str, Role]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True)
class Quota:
    """What a user or a project may have at once, and use up in all (`trial_hours`); None is no limit.

    `package_bytes` is for a project: of all the code packages that are kept for it.
    """

    running_sweeps: int | None = None
    concurrent_trials: int | None = None
    cpus: float | None = None
    gpus: float | None = None
    trial_hours: float | None = None
    package_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CodePackage:
    """A zip of a user's modules, known by the SHA-256 of its bytes, in the projects that have sent it."""

    digest: str
    size_bytes: int
    created_at: float


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened to a sweep, in an order that never changes. `data` is small and free of secrets."""

    number: int
    sweep_id: str
    project: str
    at: float
    kind: str  # one of EVENT_KINDS
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """Who did what to what, and with which outcome; only ever added."""

    number: int
    at: float
    user: str
    project: str | None
    action: str
    subject: str
    outcome: str
    address: str = ""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where a project wants to be told of events. `secret` signs; it is never shown again."""

    id: str
    project: str
    url: str
    kinds: tuple[str, ...]
    secret: str
    created_at: float


@dataclass(frozen=True, slots=True)
class Lease:
    """A replica's right to act, which a later `epoch` takes from it."""

    name: str
    holder: str
    epoch: int
    expires_at: float
