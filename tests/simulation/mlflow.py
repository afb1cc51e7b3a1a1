"""An MLflow in memory with the calls that the tracker makes, each of which may fail before or after it did its work."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from service.errors import TrackingError
from service.tuning.tracking_points import Point
from service.tuning.tracking_runs import RunKey, key_of
from service.tuning.tracking_store import Run, UnavailableError

T = TypeVar("T")


@dataclass
class StoredRun:
    """A run as the server has it. Two equal points are one, as in MLflow."""

    tags: dict[str, str]
    params: dict[str, str] = field(default_factory=dict)
    points: set[Point] = field(default_factory=set)
    status: str = "RUNNING"
    is_deleted: bool = False


@dataclass
class Server:
    """The server and its database; it outlives every tracker. `trouble` is what share of calls go wrong, and how."""

    rng: random.Random
    trouble: dict[str, float] = field(default_factory=dict)  # refuse, lose or late -> probability
    runs: dict[str, StoredRun] = field(default_factory=dict)
    later: Callable[[Callable[[], object]], None] = lambda _: None  # does what its client no longer waits for

    def fate(self) -> str:
        """What becomes of the next call."""
        chance = self.rng.random()
        for kind, share in self.trouble.items():
            if chance < share:
                return kind
            chance -= share
        return "pass"

    def recover(self) -> None:
        """All is well again."""
        self.trouble = {}


class Client:
    """What a tracker holds: the interface of `MlflowStore` over a `Server`. `before_call` may kill the tracker."""

    is_embedded = False
    experiment_id = "1"

    def __init__(self, server: Server, before_call: Callable[[], None], after_call: Callable[[], None]) -> None:
        self._server, self._before, self._after = server, before_call, after_call
        self.calls = self.answered = 0

    def open(self, experiment: str) -> None:  # the store's signature
        """Connect."""
        self._call("open", lambda: None)

    def runs(self, sweep_id: str, key: RunKey = None, *, is_all: bool = False) -> dict[RunKey, list[Run]]:
        """The runs that are not deleted."""

        def search() -> dict[RunKey, list[Run]]:
            found: dict[RunKey, list[Run]] = {}
            for run_id, run in self._server.runs.items():
                owner = key_of(run.tags)
                if run.tags["tuneyard.sweep_id"] == sweep_id and not run.is_deleted and (is_all or owner == key):
                    keys = len({point.key for point in run.points})
                    found.setdefault(owner, []).append(Run(run_id, "", run.status, keys))
            return found

        return self._call("search", search)

    def create(self, start_ms: int, tags: dict[str, str]) -> Run:  # the store's signature
        """Make a run."""

        def make() -> Run:
            run_id = f"run-{len(self._server.runs)}"
            self._server.runs[run_id] = StoredRun(dict(tags))
            return Run(run_id, "", "RUNNING", 0)

        return self._call("create", make)

    def log(self, run_id: str, points: Sequence[Point], params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Write a batch. A parameter can be set once."""
        points, params, tags = list(points), dict(params), dict(tags)

        def write() -> None:
            run = self._living(run_id)
            if any(run.params.get(name, value) != value for name, value in params.items()):
                msg = "INVALID_PARAMETER_VALUE: a parameter cannot be changed"
                raise TrackingError(msg)
            run.points.update(points)
            run.params.update(params)
            run.tags.update(tags)

        self._call("log", write)

    def set_status(self, run_id: str, status: str, end_ms: int | None) -> None:  # ditto
        """Set how a run stands."""

        def change() -> None:
            self._living(run_id).status = status

        self._call("update", change)

    def upload(self, run: Run, file: Path, place: str) -> None:
        """Artifacts are taken and not kept."""
        self._call("upload", lambda: None)

    def write(self, run: Run, text: str, place: str) -> None:
        """As `upload`."""
        self._call("upload", lambda: None)

    def delete(self, run_id: str) -> None:
        """Take a run out of sight."""

        def hide() -> None:
            self._server.runs[run_id].is_deleted = True

        self._call("delete", hide)

    def _living(self, run_id: str) -> StoredRun:
        run = self._server.runs[run_id]
        if run.is_deleted:
            msg = "INVALID_STATE: the run is deleted"
            raise TrackingError(msg)
        return run

    def _call(self, name: str, act: Callable[[], T]) -> T:
        self.calls += 1
        self._before()
        fate = self._server.fate()
        if fate == "late":
            self._server.later(act)
        if fate in ("refuse", "late"):
            msg = f"the server did not answer ({fate})"
            raise UnavailableError(msg)
        result = act()
        self._after()
        if fate == "lose":
            msg = "the reply was lost"
            raise UnavailableError(msg)
        self.answered += 1
        return result
