"""A service over a real store for tests of its HTTP interface: people with tokens, and sweeps to look at."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from starlette.testclient import TestClient

from cluster.backend import Backend
from service.api.app import create_app
from service.api.auth import Authenticator, AuthSettings, issue
from service.api.service import Limits, Service
from service.records import Role
from service.spec.sweep_spec import SweepSpec, load_sweep
from service.store import Store
from service.sweeps.folders import create
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    DriverStarted,
    Event,
    Reported,
    SweepEnded,
    SweepStarted,
    TrialEnded,
    TrialProposed,
)
from service.tuning.ledger import Ledger
from service.tuning.storage import FolderStorage
from service.tuning.sweep_folder import Job

URL: Final = "http://127.0.0.1:8700"
ROOT: Final = Path(__file__).resolve().parent.parent
PEOPLE: Final[Mapping[str, Mapping[str, Role]]] = {
    "viewer": {"default": Role.VIEWER},
    "submitter": {"default": Role.SUBMITTER},
    "colleague": {"default": Role.SUBMITTER},
    "stranger": {"other": Role.ADMIN},
    "admin": {"default": Role.ADMIN},
    "operator": {"*": Role.ADMIN},
}


@dataclass
class Served:
    """An application, its service, and a token for each of `PEOPLE`."""

    app: FastAPI
    service: Service
    client: TestClient
    tokens: dict[str, str] = field(default_factory=dict)

    def as_(self, who: str) -> dict[str, str]:
        """The headers of somebody's requests."""
        return {"Authorization": f"Bearer {self.tokens[who]}"}

    def ask(self, who: str, method: str, path: str, **given: Any) -> Any:  # noqa: ANN401  # the client's own
        """The answer to somebody's request under /api/v1."""
        headers = {**self.as_(who), **given.pop("headers", {})}
        return self.client.request(method, f"/api/v1{path}", headers=headers, **given)

    def submit(self, who: str = "submitter", **changes: Any) -> dict[str, Any]:  # noqa: ANN401  # any JSON value
        """A sweep that somebody has submitted."""
        answer = self.ask(who, "POST", "/sweeps", json={"spec": spec(), **changes})
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found


@contextmanager
def serving(
    home: Path,
    *,
    auth: AuthSettings | None = None,
    limits: Limits | None = None,
    backend: Backend | None = None,
    **given: Any,  # noqa: ANN401  # the other fields of Service
) -> Iterator[Served]:
    """A service whose store and folder are under `home`."""
    store = Store.open(f"sqlite:///{home / 'service.db'}")
    store.add_project("other")
    authenticator = Authenticator(auth or AuthSettings(), store)
    service = Service(store, home, authenticator, limits=limits or Limits(), backend=backend, **given)
    app = create_app(service)
    tokens = {user: issue(store, user, "test", roles)[0] for user, roles in PEOPLE.items()}
    try:
        with TestClient(app, base_url=URL, raise_server_exceptions=False) as client:
            yield Served(app, service, client, tokens)
    finally:
        service.close()
        store.close()


def spec(name: str = "minimal") -> dict[str, Any]:
    """A sweep file of `tests/cases/valid` as it travels."""
    loaded: SweepSpec = load_sweep(ROOT / "tests" / "cases" / "valid" / f"{name}.yaml")
    found: dict[str, Any] = json.loads(json.dumps(loaded.to_dict()))
    return found


def write_sweep(home: Path, record: Mapping[str, Any], losses: Sequence[float], *, is_over: bool = False) -> Path:
    """The folder of a submitted sweep with a real ledger: one trial of one epoch for each of `losses`, and logs."""
    job = Job(record["id"], dict(record["spec"]), facts={})
    folder = create(home, job, {"folder": "."}).folder
    ledger = Ledger(FolderStorage(folder), lambda: 0.0)
    ledger.open()
    ledger.append([SweepStarted(record["id"], dict(record["spec"])), DriverStarted(1, "here", 1)], at=100.0)
    for trial, loss in enumerate(losses):
        for i, event in enumerate(life_of(trial, loss, record["spec"])):
            ledger.append([event], at=110.0 + 10 * trial + i)
    if is_over:
        ledger.append([SweepEnded("completed", "all done")], at=500.0)
    (folder / "logs").mkdir(exist_ok=True)
    return folder


def life_of(trial: int, loss: float, spec: Mapping[str, Any]) -> list[Event]:
    """All that happens to a trial of one epoch, in a sweep of one parameter."""
    (name,) = spec["parameters"]
    params = {name: 10.0 ** -(trial + 1)}
    return [
        TrialProposed(trial, params, "searcher", trial),
        AttemptStarted(trial, 1, params, None, ""),
        Reported(trial, 1, 1, {spec["metric"]["name"]: loss}, 2.0, None, "stop", ""),
        AttemptEnded(trial, 1, "finished"),
        TrialEnded(trial, "completed"),
    ]


def once(served: Served, path: str, content: str, key: str = "once", who: str = "submitter") -> tuple[int, str]:
    """The status of a request with an Idempotency-Key, and the id of what it made or the kind of its problem."""
    headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
    answer = served.ask(who, "POST", path, content=content, headers=headers)
    return answer.status_code, answer.json()["id" if answer.is_success else "type"]
