"""The promise, as pure checks over what a simulated sweep has left: its ledger, MLflow, the disk, and the truth."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from service.spec.objective import Objectives
from service.tuning.events import (
    AttemptEnded,
    AttemptStarted,
    HeldOutEnded,
    HeldOutStarted,
    Record,
    Reported,
    SweepEnded,
    SweepExtended,
    TrialEnded,
    TrialProposed,
)
from service.tuning.held_out import winning_fits
from service.tuning.history import History
from service.tuning.ledger import read_ledger
from service.tuning.retention import SPARE
from tests.integration.mlflow_peer import expected_points
from tests.simulation.mlflow import Server, StoredRun
from tests.simulation.training import Truth
from tests.simulation.world import Machine


def broken_promises(machine: Machine) -> list[str]:
    """What is not as it was promised, in words."""
    records = read_ledger(machine.folder)
    history = History.of(machine.spec.objectives, records)
    truth = machine.training.truth
    return [
        *machine.complaints,
        *_ledger_is_whole(records),
        *_nothing_acknowledged_is_lost(records, truth),
        *_told_once(records),
        *_attempts_follow(records),
        *_little_is_redone(machine),
        *_the_misbehaving_end_as_they_should(machine, records, history),
        *_mlflow_is_exact(records, machine.server),
        *_the_winner_is_tested_once(machine, records, history),
        *_nothing_is_left(machine, history),
    ]


def _ledger_is_whole(records: list[Record]) -> Iterator[str]:
    if [r.sequence for r in records] != list(range(len(records))):
        yield "the ledger has gaps"
    ends = "".join({SweepEnded: "e", SweepExtended: "x"}.get(type(r.event), "") for r in records)
    if not re.fullmatch("x*e", ends.replace("ex", "")):
        yield "the sweep has not ended exactly once, and once more after each time that it was extended"
    if any(a.at > b.at for a, b in pairwise(records)):
        yield "the ledger's time goes backwards"


def _nothing_acknowledged_is_lost(records: list[Record], truth: Truth) -> Iterator[str]:
    found = Counter((r.event.trial, r.event.epoch) for r in records if isinstance(r.event, Reported))
    values = {(r.event.trial, r.event.epoch): r.event.metrics["loss"] for r in records if isinstance(r.event, Reported)}
    for key, value in truth.acknowledged.items():
        if values.get(key) != value:
            yield f"trial {key[0]}, epoch {key[1]} was acknowledged with {value}, the ledger says {values.get(key)}"
    yield from (f"trial {t}, epoch {e} is on record {n} times" for (t, e), n in found.items() if n > 1)


def _told_once(records: list[Record]) -> Iterator[str]:
    proposed = [r.event for r in records if isinstance(r.event, TrialProposed)]
    if [e.trial for e in proposed] != list(range(len(proposed))):
        yield "trials are not numbered one after the other"
    counted = [e.proposal for e in proposed if e.proposal >= 0]
    if counted != list(range(len(counted))):
        yield f"the searcher's proposals are numbered {counted}"
    ended = Counter(r.event.trial for r in records if isinstance(r.event, TrialEnded))
    for event in proposed:
        if ended[event.trial] != 1:
            yield f"trial {event.trial} has ended {ended[event.trial]} times"


def _attempts_follow(records: list[Record]) -> Iterator[str]:
    """Attempts are numbered without gaps; only the newest one of a trial reports, and none after the trial's end."""
    newest: dict[int, int] = {}
    over: set[int] = set()
    for event in (r.event for r in records):
        if isinstance(event, AttemptStarted):
            if event.attempt != newest.get(event.trial, 0) + 1 or event.trial in over:
                yield f"attempt {event.attempt} of trial {event.trial} follows {newest.get(event.trial, 0)}"
            newest[event.trial] = event.attempt
        elif isinstance(event, TrialEnded):
            over.add(event.trial)
        elif isinstance(event, Reported) and (event.attempt != newest.get(event.trial) or event.trial in over):
            yield f"attempt {event.attempt} of trial {event.trial} reports, but it is not the one that runs"


def _little_is_redone(machine: Machine) -> Iterator[str]:
    """Each start goes back by at most one checkpoint interval; by one more where a checkpoint was damaged.

    A live trial keeps two, so that a trial begins anew where more of its checkpoints were damaged.
    """
    saves = sorted(machine.saves)
    reached: dict[int, int] = {}
    for kind, trial, epoch in machine.training.truth.history:
        if kind == "trained":
            reached[trial] = max(reached.get(trial, 0), epoch)
        elif trial not in machine.exploiting:
            damaged = sum(path.startswith(f"checkpoints/{trial}/") for path in machine.damaged)
            before = [s for s in [0, *saves] if s < reached.get(trial, 0)][-1 - damaged :]
            if before and damaged < SPARE and epoch < before[0]:
                yield f"trial {trial} starts at {epoch} after {reached[trial]}, saves at {saves}, {damaged} damaged"


def _the_misbehaving_end_as_they_should(machine: Machine, records: list[Record], history: History) -> Iterator[str]:
    """Not finite: diverged at that report, never best. Memory or a wrong fit: failed at once. What passes: retried."""
    kinds = {(r.event.trial, r.event.kind) for r in records if isinstance(r.event, AttemptEnded)}
    best = history.ranking()[:1]
    for trial in history.trials:
        wrong = machine.training.misbehaving.get(trial.number)
        if wrong is None or ("trained", trial.number, wrong.epoch) not in machine.training.truth.history:
            continue
        wanted = {"nan": "diverged", "inf": "diverged"}.get(wrong.kind)
        if wanted is not None and (str(trial.status) != wanted or trial.epoch != wrong.epoch):
            yield f"trial {trial.number} was not finite at epoch {wrong.epoch}; it has {trial.status} at {trial.epoch}"
        if best and best[0][0] == trial.number and wanted is not None:
            yield f"trial {trial.number} diverged, and is the best"
    for number, kind in kinds:
        if kind in ("memory", "fatal") and str(history.trials[number].status) != "failed":
            yield f"trial {number} has {history.trials[number].status} after {kind}"
        if kind in ("user", "hung") and str(history.trials[number].status) == "failed":
            yield f"trial {number} has failed for good, though a retry would have mended it"
    for number, wrong in machine.training.misbehaving.items():
        if wrong.kind in ("memory", "fatal") and number in machine.training.done and (number, wrong.kind) not in kinds:
            yield f"trial {number} broke ({wrong.kind}), and nobody knows"


def _mlflow_is_exact(records: list[Record], server: Server) -> Iterator[str]:
    living = [run for run in server.runs.values() if not run.is_deleted]
    proposed = [r.event for r in records if isinstance(r.event, TrialProposed)]
    is_raced = any("tuneyard.fit" in run.tags for run in living)
    fits = sorted(number for run in living if (number := _fit_of(run.tags, is_raced=is_raced)) is not None)
    trials = sorted(int(run.tags["tuneyard.trial"]) for run in living if run.tags["tuneyard.kind"] == "trial")
    if fits != [e.trial for e in proposed]:
        yield f"MLflow has runs of {fits}, proposed were {[e.trial for e in proposed]}"
    if trials != [e.trial for e in proposed if e.repeats is None]:
        yield f"MLflow has runs of trials {trials}, proposed were {[e.trial for e in proposed if e.repeats is None]}"
    if len(living) != len(proposed) + 1 + (len(trials) if is_raced else 0):
        yield f"MLflow has {len(living)} runs for {len(proposed)} fits of {len(trials)} trials"
    yield from _means_are_exact(records, living) if is_raced else ()
    yield from (f"a run is {r.status}: {r.tags}" for r in living if r.status not in ("FINISHED", "FAILED"))
    stored: Counter[tuple[int, str, int, int]] = Counter()
    for run in living:
        for point in run.points:
            number = _fit_of(run.tags, is_raced=is_raced)
            if number is not None and not point.key.startswith(("best_", "param/", "held_out_")):
                stored[number, point.key, point.step, point.timestamp_ms] += 1
    expected = Counter((t, key, step, at) for t, key, step, at, _ in expected_points(records))
    if stored != expected:
        yield f"MLflow lacks {list(expected - stored)[:3]} and has {list(stored - expected)[:3]} too many"


def _fit_of(tags: dict[str, str], *, is_raced: bool) -> int | None:
    """Which trial of the ledger a run shows the curve of."""
    name = "tuneyard.fit" if is_raced else "tuneyard.trial"
    return int(tags[name]) if name in tags else None


def _means_are_exact(records: list[Record], living: list[StoredRun]) -> Iterator[str]:
    """Each trial's run has one mean for each of its fits that were complete, and the last one is that of all."""
    first = {
        e.trial: e.trial if e.repeats is None else e.repeats for r in records if isinstance(e := r.event, TrialProposed)
    }
    best: dict[int, float] = {}
    means: dict[int, list[float]] = {}
    for event in (r.event for r in records):
        if isinstance(event, Reported):
            best[event.trial] = min(best.get(event.trial, math.inf), event.metrics["loss"])
        if isinstance(event, TrialEnded) and event.ending == "completed":
            means.setdefault(first[event.trial], []).append(best[event.trial])
    for run in living:
        if run.tags["tuneyard.kind"] == "trial":
            losses = means.get(int(run.tags["tuneyard.trial"]), [])
            expected = {(i + 1, round(math.fsum(losses[: i + 1]) / (i + 1), 9)) for i in range(len(losses))}
            stored = [(p.step, round(p.value, 9)) for p in run.points if p.key == "mean_loss"]
            if sorted(stored) != sorted(expected):
                yield f"MLflow has the means {sorted(stored)} of {run.tags['mlflow.runName']}, not {sorted(expected)}"


def _the_winner_is_tested_once(machine: Machine, records: list[Record], history: History) -> Iterator[str]:
    """After the search and by it alone: one result for each of the winner's fits, in the ledger and in MLflow."""
    begun = [r for r in records if isinstance(r.event, HeldOutStarted)]
    over = [r.event for r in records if isinstance(r.event, HeldOutEnded) and r.event.kind in ("finished", "failed")]
    is_asked = (
        machine.spec.evaluation.test is True and history.ended is not None and history.ended.ending == "completed"
    )
    wanted = [number for number, _ in winning_fits(history)] if is_asked else []
    if any(isinstance(r.event, SweepExtended) for r in records):  # who won before was tested, too
        again = [trial for trial, times in Counter(e.trial for e in over).items() if times > 1]
        if again or not set(wanted) <= {e.trial for e in over}:
            yield f"tested are {[e.trial for e in over]}, among them not each of {wanted} once"
        return
    if sorted(e.trial for e in over) != sorted(wanted):
        yield f"tested are {[e.trial for e in over]}, and not {wanted}"
    late = [r for r in records if isinstance(r.event, TrialProposed | AttemptStarted | Reported)]
    if begun and late and begun[0].sequence < late[-1].sequence:
        yield f"the search goes on after a test: {late[-1].event}"
    scored = {e.trial: e.metrics["test_loss"] for e in over if e.kind == "finished"}
    living = [run for run in machine.server.runs.values() if not run.is_deleted]
    is_raced = any("tuneyard.fit" in run.tags for run in living)
    found: Counter[tuple[int | None, float]] = Counter()
    for run in living:
        number = _fit_of(run.tags, is_raced=is_raced)
        if number is not None or run.tags["tuneyard.kind"] == "sweep":
            found.update((number, round(p.value, 9)) for p in run.points if p.key == "held_out_loss")
    expected: Counter[tuple[int | None, float]] = Counter((number, round(v, 9)) for number, v in scored.items())
    if scored:
        expected[None, round(math.fsum(scored.values()) / len(scored), 9)] += 1
    if found != expected:
        yield f"MLflow has the test scores {dict(found)}, not {dict(expected)}"


def _nothing_is_left(machine: Machine, history: History) -> Iterator[str]:
    files = [path for path in machine.folder.rglob("*") if path.is_file()]
    yield from (f"{path.relative_to(machine.folder)} is left behind" for path in files if path.name.endswith(".tmp"))
    known = {c.path for t in history.trials for c in (*t.checkpoints, *t.superseded)}
    there = {str(path.relative_to(machine.folder)) for path in files if path.suffix == ".ckpt"}
    yield from (f"{path} is left behind" for path in sorted(there - known))
    yield from (f"{path} is on record, but gone" for path in sorted(known - there - machine.damaged))


Story = list[tuple[str, object]]


def differences(ours: Story, theirs: Story) -> list[str]:
    """Where a sweep with faults has come to something else than the same sweep without."""
    return [f"{name}: {a!r} instead of {b!r}" for (name, a), (_, b) in zip(ours, theirs, strict=True) if a != b]


def story(folder: Path, objectives: Objectives) -> Story:
    """What a sweep has come to, whatever happened on the way."""
    records = read_ledger(folder)
    history = History.of(objectives, records)
    return [
        ("configurations", [t.params for t in history.trials]),
        ("endings", [str(t.status) for t in history.trials]),
        ("results", [sorted((e, m["loss"]) for e, m in t.metrics.items()) for t in history.trials]),
        ("best", history.ranking()[:1]),
    ]
