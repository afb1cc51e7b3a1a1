"""What a trial costs that does nothing, with ledger, searcher, scheduler and MLflow at work; and whether it stays so.

The marginal cost is the difference between a long and a short sweep, each timed from its 50th trial until its process
is gone, all in MLflow: start-up and closing drop out. Growth is read from the ledger of one sweep of 2,000 trials, and
from the driver's memory while it runs.
"""

from __future__ import annotations

import time
from pathlib import Path

import psutil

from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.sweeps.folders import Sweep, new_id
from service.sweeps.launch import is_running, start
from service.tuning.events import Reported, TrialEnded
from service.tuning.ledger import read_ledger
from service.tuning.sweep_folder import Job
from tests.benchmarks.measure import ROOT, Measure

SWEEP = """
kind: sweep
name: noop
fit: {{model: {{class_path: none, init_args: {{x: 0.5}}}}, trainer: {{max_epochs: {epochs}}}}}
metric: {{name: loss, goal: minimize}}
parameters: {{model.init_args.x: {{min: 0.0, max: 1.0}}}}
search: {{name: {searcher}}}
scheduler: {{name: {scheduler}, max_epochs: {epochs}}}
budget: {{max_trials: {trials}, max_concurrent_trials: 2}}
"""
SHORT, LONG = 50, 350
MANY, WINDOW, WARM = 2000, 500, 200


def measure_cost(folder: Path) -> list[Measure]:
    """Milliseconds a trial, between a sweep of 50 and one of 350 trials that report once."""
    short_s = _seconds_after_short(folder / "short", SHORT)
    long_s = _seconds_after_short(folder / "long", LONG)
    marginal_ms = (long_s - short_s) / (LONG - SHORT) * 1000
    note = f"{LONG - SHORT} trials {long_s:.1f} s, closing {short_s:.1f} s; TPE, ASHA, MLflow on SQLite"
    return [Measure("marginal cost of a trial that does nothing", marginal_ms, "ms", 50, note)]


def _seconds_after_short(home: Path, trials: int) -> float:
    _, sweep = run(home, trials=trials, epochs=1, strategy="tpe+asha")
    ends = [record.at for record in read_ledger(sweep.folder) if isinstance(record.event, TrialEnded)]
    return time.time() - ends[SHORT - 1]


def measure_growth(folder: Path) -> list[Measure]:
    """Time per trial late against early, and the driver's memory, over 2,000 trials of three results each."""
    wall, sweep = run(folder / "growth", trials=MANY, epochs=3, strategy="random+fifo", sample=folder / "memory.txt")
    records = read_ledger(sweep.folder)
    ends = [record.at for record in records if isinstance(record.event, TrialEnded)]
    results = sum(isinstance(record.event, Reported) for record in records)
    first = (ends[WINDOW] - ends[0]) / WINDOW
    last = (ends[-1] - ends[-1 - WINDOW]) / WINDOW
    samples = [tuple(map(int, line.split())) for line in (folder / "memory.txt").read_text().splitlines()]
    early = next(sample for sample in samples if sample[0] >= WARM)
    late = next(sample for sample in reversed(samples) if sample[0] < MANY)  # the last one is taken in the report
    growth_kb, with_report_kb = ((end[1] - early[1]) / (end[0] - early[0]) / 1000 for end in (late, samples[-1]))
    note = f"{len(ends)} trials, {results} results, {wall:.0f} s"
    return [
        Measure("time per trial, last 500 / first 500", last / first, "x", 1.2, note),
        Measure("driver's memory growth per trial", growth_kb, "kB", 20, f"{late[1] / 2**20:.0f} MiB at the end"),
        Measure("the same with the report at the end", with_report_kb, "kB", None, f"{samples[-1][1] / 2**20:.0f} MiB"),
    ]


def run(home: Path, *, trials: int, epochs: int, strategy: str, sample: Path | None = None) -> tuple[float, Sweep]:
    """Run a sweep of trials that do nothing; (wall seconds until the driver is gone, the sweep)."""
    searcher, scheduler = strategy.split("+")
    text = SWEEP.format(trials=trials, epochs=epochs, searcher=searcher, scheduler=scheduler)
    spec: SweepSpec = parse_sweep(text, file="noop.yaml", root=ROOT)
    runner = "tests.benchmarks.noop:run"
    job = Job(new_id(spec.name), spec.to_dict(), str(ROOT), checks_signatures=False, runner=runner)
    began = time.monotonic()
    sweep = start(home, job)
    while is_running(home, sweep):
        time.sleep(0.1)
        if sample is not None:
            _sample(sweep, sample)
    wall = time.monotonic() - began
    progress = sweep.progress() or {}
    if progress.get("state") != "completed":
        msg = f"the sweep of {trials} trials {progress.get('state')}: {progress.get('reason')}; see {sweep.folder}"
        raise RuntimeError(msg)
    return wall, sweep


def _sample(sweep: Sweep, path: Path) -> None:
    """Note (trials ended, resident bytes of the driver), at most twice a second."""
    progress = sweep.progress()
    if progress is None or progress.get("state") != "running":
        return
    counts = progress["trials"]
    ended = sum(counts[name] for name in ("completed", "stopped", "diverged", "failed"))
    try:
        resident = psutil.Process(progress["pid"]).memory_info().rss
    except psutil.NoSuchProcess:
        return
    with path.open("a") as stream:
        stream.write(f"{ended} {resident}\n")
    time.sleep(0.4)
