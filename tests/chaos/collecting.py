"""Gathers what is left of an arena's sweep: ledger, MLflow's database, processes and files, as an Outcome."""

from __future__ import annotations

import math
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from service.spec.sweep_spec import SweepSpec
from service.tuning.events import (
    Record,
    Reported,
    SweepEnded,
    SweepPaused,
    TrialEnded,
    TrialProposed,
)
from service.tuning.history import History
from service.tuning.ledger import read_ledger
from service.tuning.sweep_folder import DRAIN_FILE, read_job
from tests.chaos.arena import Arena
from tests.chaos.outcome import Ended, Outcome, RunRow
from tests.chaos.truth import TruthLine
from tests.integration.mlflow_peer import active_runs, rows

LEFTOVER_S: Final = 30.0
OF_OTHERS: Final = ("torchinductor_",)  # torch keeps one such cache per user, as it does without us


def collect(arena: Arena) -> Outcome:
    """The outcome of an arena whose sweep is over; waits up to 30 s for processes and files to go."""
    leftovers = _leftovers(arena)
    records = read_ledger(arena.folder)
    events = [record.event for record in records]
    spec = SweepSpec.from_dict(read_job(arena.folder).spec)
    endings: dict[int, list[str]] = {}
    results: dict[tuple[int, int], list[float]] = {}
    for event in events:
        if isinstance(event, TrialEnded):
            endings.setdefault(event.trial, []).append(event.ending)
        elif isinstance(event, Reported):
            results.setdefault((event.trial, event.epoch), []).append(event.metrics["loss"])
    ranking = History.of(spec.objectives, records).ranking()
    lines = arena.truth()
    return Outcome(
        truth=lines,
        proposals={e.trial: e.params for e in events if isinstance(e, TrialProposed)},
        endings=endings,
        results=results,
        runs=run_rows(arena.tracking_home or arena.home, arena.folder.name),
        best=ranking[0] if ranking else None,
        ended=_ended(records),
        checkpoint_interval=arena.interval,
        recovery_s=recovery(arena.struck, lines),
        leftovers=leftovers,
        broken=list(arena.broken),
    )


def _ended(records: list[Record]) -> Ended:
    for record in reversed(records):
        if isinstance(record.event, SweepEnded):
            return record.event.ending
        if isinstance(record.event, SweepPaused):
            return "paused"
    return "lost"


def recovery(struck: list[float], lines: list[TruthLine]) -> float:
    """The longest time from a fault to the next acknowledged epoch; faults that came after the last one cost none."""
    acknowledged = [line.at for line in lines if line.kind == "acknowledged"]
    waits = []
    for moment, following in pairwise([*sorted(struck), math.inf]):
        after = min((at for at in acknowledged if at > moment), default=None)
        if after is not None and after < following:  # else another fault struck before anything could recover
            waits.append(after - moment)
    return max(waits, default=0.0)


def run_rows(home: Path, sweep_id: str) -> list[RunRow]:
    """All runs of the sweep that are not deleted, straight from the database."""
    if not (home / "mlflow.db").exists():
        return []
    points: dict[str, Counter[tuple[str, int]]] = {}
    for run, key, step in rows(home, "SELECT run_uuid, key, step FROM metrics"):
        points.setdefault(str(run), Counter())[str(key), int(str(step))] += 1
    found: list[RunRow] = []
    for run, tags in active_runs(home, sweep_id).items():
        trial: Any = tags.get("tuneyard.trial")
        found.append(RunRow(None if trial is None else int(trial), tags["status"], points.get(run, Counter())))
    return found


def _leftovers(arena: Arena) -> list[str]:
    deadline = time.monotonic() + LEFTOVER_S
    while (found := _present(arena)) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def _present(arena: Arena) -> list[str]:
    processes = [f"process {' '.join([p.name(), *p.cmdline()[:4]])}" for p in arena.processes()]
    files = [
        f"temporary {path.relative_to(arena.temporary)}"
        for path in [*arena.temporary.glob("*"), *arena.temporary.glob("*/*")]
        if not path.relative_to(arena.temporary).parts[0].startswith(OF_OTHERS)
    ]
    storage = [f"{path.relative_to(arena.folder)} in storage" for path in arena.folder.rglob("*.tmp")]
    drain = [f"{DRAIN_FILE} in storage"] if (arena.folder / DRAIN_FILE).exists() else []
    return processes + files + storage + drain
