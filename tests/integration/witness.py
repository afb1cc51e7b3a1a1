"""Somebody who looks on while a service works: what its interface says again and again, what records say afterwards."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Self

from service.api.models import SweepSummary
from service.errors import ServerError
from service.records import Quota
from service.sweeps.folders import sweeps_folder
from service.tuning.events import AttemptEnded, AttemptStarted, HeldOutEnded, HeldOutStarted, SweepPaused, TrialProposed
from service.tuning.ledger import read_ledger
from tests.integration.mlflow_peer import check_exactly_once, rows

LOOK_S = 0.2
Span = tuple[float, float]


class Witness:
    """Asks for all sweeps again and again; `breaches` are the moments at which more was given out than is allowed."""

    def __init__(self, look: Callable[[], Sequence[SweepSummary]], quotas: Mapping[str, Quota], cpus: int) -> None:
        self._look, self._quotas, self._cpus = look, quotas, cpus
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.looks, self.blind = 0, 0
        self.breaches: list[str] = []
        self.most: Counter[str] = Counter()
        self._placed: list[tuple[frozenset[str], frozenset[str]]] = []  # by look: who is known, and who has a place

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            try:
                sweeps = self._look()
            except ServerError:  # it was killed just now
                self.blind += 1
                continue
            self.looks += 1
            self.judge(sweeps)

    def judge(self, sweeps: Sequence[SweepSummary]) -> None:
        """Hold one look against the quotas and the cluster."""
        placed = [sweep for sweep in sweeps if sweep.state.is_placed]
        self._placed.append((frozenset(s.name for s in sweeps), frozenset(s.name for s in placed)))
        for user, quota in self._quotas.items():
            his = [sweep for sweep in placed if sweep.owner == user]
            self._compare(f"sweeps of {user}", len(his), quota.running_sweeps)
            self._compare(f"trials of {user}", sum(sweep.concurrency for sweep in his), quota.concurrent_trials)
        self._compare("trials", sum(sweep.concurrency for sweep in placed), self._cpus)

    def placed_before(self, name: str) -> set[str]:
        """Who got a place while the sweep `name` waited for its first one."""
        found: set[str] = set()
        for (_, before), (known, after) in itertools.pairwise(self._placed):
            if name in after:
                break
            if name in known:
                found |= after - before
        return found

    def _compare(self, what: str, count: int, limit: int | None) -> None:
        self.most[what] = max(self.most[what], count)
        if limit is not None and count > limit:
            self.breaches.append(f"{time.time():.1f}: {count} {what}")


def spans(home: Path, sweep_id: str) -> list[Span]:
    """When each attempt of the sweep began and ended, by its ledger."""
    begun: dict[tuple[str, int, int], float] = {}
    found: list[Span] = []
    for record in read_ledger(sweeps_folder(home) / sweep_id):
        match record.event:
            case AttemptStarted(trial=trial, attempt=attempt):
                begun["attempt", trial, attempt] = record.at
            case HeldOutStarted(trial=trial, attempt=attempt):
                begun["test", trial, attempt] = record.at
            case AttemptEnded(trial=trial, attempt=attempt):
                found.append((begun.pop(("attempt", trial, attempt)), record.at))
            case HeldOutEnded(trial=trial, attempt=attempt):
                found.append((begun.pop(("test", trial, attempt)), record.at))
            case _:
                pass
    assert not begun, f"{sweep_id}: attempts without an end: {sorted(begun)}"
    return found


def overlap(found: Iterable[Span], limit: int) -> tuple[int, float]:
    """How many of them there were at once at most, and for how many seconds more than `limit`."""
    steps = sorted(step for began, ended in found for step in ((began, 1), (ended, -1)))
    count, most, seconds, before = 0, 0, 0.0, 0.0
    for at, change in steps:
        seconds += at - before if count > limit else 0.0
        count, before = count + change, at
        most = max(most, count)
    return most, seconds


def pauses(home: Path, sweep_id: str) -> int:
    """How often the sweep was taken off the cluster, by its ledger."""
    return sum(isinstance(record.event, SweepPaused) for record in read_ledger(sweeps_folder(home) / sweep_id))


def check_mlflow(home: Path, sweeps: Sequence[str]) -> None:
    """The store has every trial and every point of it exactly once, all runs have ended, and there are no others."""
    runs = 0
    for sweep_id in sweeps:
        ledger = read_ledger(sweeps_folder(home) / sweep_id)
        check_exactly_once(home, ledger, sweep_id)
        runs += 1 + sum(isinstance(record.event, TrialProposed) for record in ledger)
    statuses = rows(home, "SELECT status, lifecycle_stage FROM runs")
    assert len(statuses) == runs, f"{len(statuses)} runs in all, {runs} of them known"
    assert {status for status, _ in statuses} <= {"FINISHED", "FAILED"}
