"""Everything the HTTP interface works with, put together by whoever starts it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from cluster.backend import Backend
from service.api.auth import Authenticator
from service.api.last_seen import LastSeen
from service.api.remembered import Remembered
from service.api.sweep_views import Views
from service.control.notify_send import Network
from service.records import SUBMITTERS_PRIORITY, CodePackage, Quota
from service.shipping.kept import size_of
from service.store import Store
from service.tuning.storage_objects import ObjectStorage
from service.tuning.storage_place import Place

DEFAULT_PROJECT: Final = "default"


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may ask for. Rates refill continuously; a burst is how many requests may come at once.

    `failures_*` are requests without a valid identity, and `public_*` those that need none, by address. Bodies are
    read for `body_timeout_s` at most.
    """

    body_bytes: int = 1_000_000
    package_bytes: int = 64 * 2**20
    body_timeout_s: float = 30.0
    package_timeout_s: float = 600.0
    requests_per_s: float = 400.0
    requests_burst: float = 1200.0
    failures_per_s: float = 5.0
    failures_burst: float = 60.0
    public_per_s: float = 10.0
    public_burst: float = 60.0
    streams: int = 200
    streams_of_a_user: int = 30


@dataclass(frozen=True)
class Service:
    """The store, the data folder, and what the operator has decided.

    `wake` tells the controller that there is something to do. `checks` gives, for each part that has to work, an empty
    text or what is wrong with it. `figures` are those of the controller for `/metrics`. `hosts` are the names under
    which a service without auth may be asked, in addition to those of this machine. `submitters_priority` is the
    highest that a submitter may give; admins give any. `public_url` is how people reach the service, where that is
    known. `storage` is where sweeps live, if not in the data folder. `webhook_networks` may be told of events though
    they are not public. `mlflow_url` is where people find MLflow's pages.
    """

    store: Store
    home: Path
    authenticator: Authenticator
    limits: Limits = field(default_factory=Limits)
    backend: Backend | None = None
    storage: ObjectStorage | None = None
    mlflow_url: str | None = None
    hosts: tuple[str, ...] = ()
    public_url: str = ""
    allows_pip: bool = False
    submitters_priority: int = SUBMITTERS_PRIORITY
    driver_cpus: float = 0.0  # that each sweep's driver takes from the cluster
    webhook_networks: tuple[Network, ...] = ()
    wake: Callable[[], None] = lambda: None
    checks: Callable[[], Mapping[str, str]] = dict
    figures: Callable[[], Mapping[str, float]] = dict
    draining: threading.Event = field(default_factory=threading.Event)

    @cached_property
    def views(self) -> Views:
        """What sweeps' folders tell."""
        return Views(self.root, self.backend)

    @property
    def root(self) -> Place:
        """Where sweeps and packages are."""
        return self.storage or self.home

    @cached_property
    def capacity(self) -> LastSeen | None:
        """What the cluster has, as it was a moment ago; None where there is no cluster."""
        return None if self.backend is None else LastSeen(self.backend.capacity)

    @cached_property
    def _projects(self) -> Remembered[None, frozenset[str]]:
        return Remembered(lambda _: frozenset(self.store.projects()))

    @cached_property
    def _quotas(self) -> Remembered[None, Mapping[tuple[str, str], Quota]]:
        return Remembered(lambda _: self.store.quotas())

    def projects(self) -> frozenset[str]:
        """All projects, as they were a moment ago."""
        return self._projects(None)

    def quotas(self) -> Mapping[tuple[str, str], Quota]:
        """All quotas, as they were a moment ago."""
        return self._quotas(None)

    def package(self, digest: str, project: str) -> CodePackage | None:
        """The project's code package of this digest; None where it has to be sent, if only because its zip is lost."""
        found = self.store.package(digest, frozenset((project,)))
        if found is None:
            return None
        with self.views.reading():
            return found if size_of(self.root, digest) == found.size_bytes else None

    def changed(self) -> None:
        """Tokens, projects or quotas are not what they were."""
        self.authenticator.forget()
        self._projects.forget()
        self._quotas.forget()

    def close(self) -> None:
        """End what the interface has started; the store and the backend belong to whoever gave them."""
        self.draining.set()
        self.views.close()


@cache
def own_version() -> str:
    """Tuneyard's version, as installed when it was first asked for: no request opens files to answer this."""
    try:
        return version("tuneyard")
    except PackageNotFoundError:
        return "unknown"
