"""A server as people meet it: the real interface over the real store, in a thread, on a free port of this machine."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from cluster.backend import Backend, JobState
from cluster.local import build
from service.api.app import create_app
from service.api.auth import Authenticator, AuthSettings, Mode, issue
from service.api.service import Service
from service.queueing.lifecycle import Event, JobSeen, Placed
from service.records import Role, SweepRecord
from service.store import Store
from service.sweeps.folders import create, sweeps_folder
from service.tuning.sweep_folder import Job
from tests.integration.synthetic_sweep import Synthetic, records, write_ledger


@dataclass(frozen=True)
class Served:
    """A running server with its insides at hand."""

    url: str
    home: Path
    store: Store

    def token(self, user: str, roles: dict[str, Role]) -> str:
        """A token for `user`."""
        return issue(self.store, user, "test", roles)[0]

    def acts(self, sweep_id: str, *events: Event) -> SweepRecord:
        """What the controller would see."""
        for event in events:
            record = self.store.act(sweep_id, None, event, by="controller")
        return record

    def runs(self, sweep_id: str, progress: dict[str, object] | None = None) -> SweepRecord:
        """Let a queued sweep run."""
        attempt = self.store.sweep(sweep_id, None).attempt + 1
        return self.acts(sweep_id, Placed(2), JobSeen(attempt, JobState.RUNNING, progress))

    def finishes(self, sweep_id: str, trials: int) -> None:
        """Let a sweep have run: with a ledger of as many trials, a log, and its driver's last word."""
        record = self.runs(sweep_id)
        spec = dict(record.spec)
        sweep = create(self.home, Job(sweep_id, spec), {})
        items = records(spec, sweep_id, Synthetic(trials=trials))
        write_ledger(sweep.folder, items)
        (sweep.folder / "logs").mkdir(exist_ok=True)
        (sweep.folder / "logs" / "driver.log").write_text("driver: begun\ndriver: è tutto\n")
        best = {"trial": 1, "epoch": 27, "value": 0.97, "params": {"optimizer.init_args.lr": 0.01}}
        counts = {"total": spec["budget"]["max_trials"], "completed": trials}
        progress = {
            "sweep_id": sweep_id, "state": "completed", "reason": "all trials are over", "is_final": True,
            "trials": counts, "epochs": 99, "elapsed_s": 12.0, "best": best,
            "metric": {"name": "val_acc", "goal": "maximize"},
        }  # fmt: skip
        sweep.write_progress(progress)
        self.acts(sweep_id, JobSeen(record.attempt, JobState.SUCCEEDED, progress))


@contextmanager
def served(home: Path, mode: Mode = "none", port: int = 0, backend: Backend | None = None) -> Iterator[Served]:
    """A server over the data folder `home`, until the block ends; without a `backend` it has this machine."""
    store = Store.open(f"sqlite:///{home / 'service.db'}")
    place = backend or build(str(sweeps_folder(home)))  # says what there is; nothing is started on it
    service = Service(store, home, Authenticator(AuthSettings(mode), store), backend=place)
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(create_app(service), log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield Served(f"http://127.0.0.1:{listener.getsockname()[1]}", home, store)
    finally:
        service.draining.set()
        server.should_exit = True
        thread.join()
        listener.close()
        store.close()
