"""A service's store, a pretended cluster and a controller, for fast tests of what becomes of sweeps."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from service.control.controller import Controller
from service.control.hands import Hands, Kind
from service.control.leadership import Leadership
from service.control.placement import Ground, Placement
from service.queueing import lifecycle
from service.records import NewSweep, SweepRecord
from service.store import Store
from service.store.schema import sweeps
from service.sweeps.folders import new_id
from tests.pretend_cluster import PretendCluster

log = logging.getLogger(__name__)
SPEC: dict[str, Any] = {
    "kind": "sweep",
    "name": "digits",
    "fit": {},
    "metric": {"name": "val_acc", "goal": "maximize"},
    "budget": {"max_trials": 4},
    "resources": {"cpu": 1},
}


class OwnHands(Hands):
    """Does everything at once, where it is asked for; what goes wrong is tried again with a later pass."""

    def start(self, key: str, work: Callable[[], None], kind: Kind = Kind.ENDING) -> None:  # noqa: ARG002  # as in Hands
        """Do `work` now."""
        self._done(key, work)


class World:
    """A store, a pretended cluster, and a controller that does everything in its passes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = Store.open(f"sqlite:///{home / 'service.db'}")
        self.cluster = PretendCluster(home)
        self.controller = self.another()

    def another(self, holder: str = "one", **ground: Any) -> Controller:  # noqa: ANN401  # fields of Ground
        """A controller as the process after this one would have it."""
        placement = Placement(Ground(self.home, **ground), self.cluster, "auto")
        return Controller(self.store, placement, Leadership(self.store, holder), hands=OwnHands())

    def submit(self, owner: str = "ada", *, priority: int = 0, sent: str | None = None, **spec: Any) -> str:  # noqa: ANN401  # parts of a sweep file
        """A sweep whose code is the package `sent`."""
        new = NewSweep(new_id("digits"), "default", owner, "digits", {**SPEC, **spec}, priority, sent)
        return self.store.create_sweep(new, key=None, body_digest="")[0].id

    def passes(self, count: int = 1) -> None:
        for _ in range(count):
            self.controller.reconcile()

    def act(self, sweep_id: str, event: lifecycle.Event) -> None:
        self.store.act(sweep_id, None, event, by="ada")

    def __getitem__(self, sweep_id: str) -> SweepRecord:
        return self.store.sweep(sweep_id, None)

    def folder(self, sweep_id: str) -> Path:
        return self.home / "sweeps" / sweep_id

    def told(self, sweep_id: str) -> list[str]:
        return [event.kind for event in self.store.events(None, sweep_id=sweep_id)]

    def hurry(self, sweep_id: str) -> None:
        """Let the wait for the next driver be over, but not by much."""
        change = (
            sa.update(sweeps)
            .where(sweeps.c.id == sweep_id)
            .values(not_before=self.store.now(), version=sweeps.c.version + 1)
        )
        self.store._database.write(lambda connection: connection.execute(change))
