"""What one unit of each thing costs that a large installation has thousands of: the figures behind `k8s/README.md`.

Reports, at the driver, by CPU time; what a report asks of storage; what an actor costs Ray's GCS; what a request costs
MLflow's server; how large a pod is that the API server keeps. CPU times are those of the process in question, so that
a busy machine changes them little.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import yaml

from service.spec.objective import Objective, Objectives
from service.sweeps.folders import sweeps_folder
from service.tuning.conductor import Conductor
from service.tuning.decisions import Arrival, Decider
from service.tuning.history import History
from service.tuning.lease import take
from service.tuning.ledger import Ledger
from service.tuning.limits import Limits
from service.tuning.retention import RetentionPolicy
from service.tuning.storage import FolderStorage
from tests.benchmarks import noop_trials
from tests.benchmarks.measure import ROOT, Measure
from tests.conducted import Counting, Patient
from tests.integration.mlflow_peer import mlflow_server

TRIALS, EPOCHS = 200, 10
FEW, MANY = 5, 55  # epochs of the short and the long sweep, of 20 trials
ACTORS = 100
REQUESTS, BATCH = 200, 20
CALLS = ("create", "replace", "read", "names", "delete")


def measure(folder: Path) -> list[Measure]:
    """The costs, one after the other."""
    return [*_record(folder / "record"), _driver(folder), *_mlflow(folder / "mlflow"), *_pods(), _actor()]


def _record(folder: Path) -> list[Measure]:
    """Decisions and the ledger, without Ray: CPU time and storage calls of a report."""
    calls: Counter[str] = Counter()

    def counted(name: str) -> Callable[..., Any]:
        method = getattr(FolderStorage, name)

        def call(self: FolderStorage, *arguments: Any) -> Any:  # noqa: ANN401  # hands on what it is given
            calls[name] += 1
            return method(self, *arguments)

        return call

    folder.mkdir(parents=True)
    storage = type("Counted", (FolderStorage,), {name: counted(name) for name in CALLS})(folder)
    lease = take(storage)
    ledger = Ledger(storage, time.monotonic, lease.check)
    history = History.of(Objectives((Objective("loss", "minimize"),)), ledger.open())
    decider = Decider(Counting(), Patient(), Limits(EPOCHS, max_trials=TRIALS), history)
    conductor = Conductor(decider, ledger, storage, RetentionPolicy(), time.monotonic)
    started = [begun for _ in range(TRIALS) if (begun := conductor.start()) is not None]
    calls.clear()
    began = time.process_time()
    for epoch in range(1, EPOCHS + 1):
        for trial in started:
            conductor.report(Arrival(trial.trial, trial.attempt, epoch, {"loss": 1 / epoch}, float(epoch), None))
    reports = len(started) * EPOCHS
    spent_ms = 1000 * (time.process_time() - began) / reports
    note = ", ".join(f"{count / reports:.2f} {name}" for name, count in calls.most_common())
    lease.release()
    return [
        Measure("sizing: a report, decisions and ledger", spent_ms, "ms CPU", None, f"{reports} reports, without Ray"),
        Measure("sizing: a report, calls of storage", sum(calls.values()) / reports, "calls", None, note),
    ]


def _driver(folder: Path) -> Measure:
    """The driver's CPU time for a report, Ray Tune and all: between sweeps of many and of few reports."""
    few_s, many_s = (_cpu_of_driver(folder / f"noop-{epochs}", epochs) for epochs in (FEW, MANY))
    spent_ms = 1000 * (many_s - few_s) / (20 * (MANY - FEW))
    note = f"20 trials of {FEW} and of {MANY} reports: {few_s:.1f} s, {many_s:.1f} s of CPU; two workers"
    return Measure("sizing: a report, the whole driver", spent_ms, "ms CPU", None, note)


def _cpu_of_driver(home: Path, epochs: int) -> float:
    spent, over = [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for path in sweeps_folder(home).glob("*/progress.json"):
                try:
                    times = psutil.Process(json.loads(path.read_text())["pid"]).cpu_times()
                except (OSError, ValueError, KeyError, psutil.NoSuchProcess):
                    continue
                spent[0] = max(spent[0], times.user + times.system)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        noop_trials.run(home, trials=20, epochs=epochs, strategy="random+fifo")
    finally:
        over.set()
        watcher.join()
    return spent[0]


def _mlflow(home: Path) -> list[Measure]:
    """A request to MLflow's server, with one point and with twenty."""
    with mlflow_server(home) as url, httpx2.Client(base_url=f"{url}/api/2.0/mlflow", timeout=60) as client:
        run = client.post("/runs/create", json={"experiment_id": "0"}).json()["run"]["info"]["run_id"]
        found = []
        for points in (1, BATCH):
            before, began = _spent_by_server(url), time.perf_counter()
            for number in range(REQUESTS):
                metrics = [
                    {"key": "loss", "value": 0.5, "timestamp": 1_700_000_000_000 + i, "step": number * points + i}
                    for i in range(points)
                ]
                client.post("/runs/log-batch", json={"run_id": run, "metrics": metrics}).raise_for_status()
            wall_ms = 1000 * (time.perf_counter() - began) / REQUESTS
            spent_ms = 1000 * (_spent_by_server(url) - before) / REQUESTS
            note = f"{wall_ms:.1f} ms of time; SQLite, one worker, no login"
            found.append(Measure(f"sizing: MLflow, a batch of {points} points", spent_ms, "ms CPU", None, note))
    return found


def _spent_by_server(url: str) -> float:
    """CPU seconds of the processes of the server that listens there."""
    port = int(url.rpartition(":")[2])
    [pid] = {
        c.pid
        for c in psutil.net_connections("tcp")
        if c.laddr and c.laddr.port == port and c.status == "LISTEN" and c.pid
    }
    top = psutil.Process(pid)
    family = [top, *top.children(recursive=True)]
    return sum(p.cpu_times().user + p.cpu_times().system for p in family)


def _pods() -> list[Measure]:
    """What the API server keeps of a sweep, as JSON."""
    job = yaml.safe_load((ROOT / "k8s" / "base" / "rayjob.yaml").read_text())
    worker = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]
    sizes = [len(json.dumps(each)) / 1000 for each in (job, worker)]
    names = ("sizing: a RayJob", "sizing: a worker's pod, without its status")
    return [Measure(name, size, "kB", None) for name, size in zip(names, sizes, strict=True)]


def _actor() -> Measure:
    """What the GCS spends on an actor that comes and goes, which is what a trial's worker is to it."""
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        [gcs] = [p for p in psutil.Process().children(recursive=True) if "gcs_server" in p.name()]

        class Idle:
            def here(self) -> bool:
                return True

        idle: Any = ray.remote(num_cpus=0)(Idle)
        before = gcs.cpu_times()
        for _ in range(ACTORS // 10):
            actors = [idle.remote() for _ in range(10)]
            ray.get([actor.here.remote() for actor in actors])
            for actor in actors:
                ray.kill(actor)
        after = gcs.cpu_times()
    finally:
        ray.shutdown()
    spent_ms = 1000 * (after.user + after.system - before.user - before.system) / ACTORS
    return Measure("sizing: an actor, Ray's GCS", spent_ms, "ms CPU", None, f"{ACTORS} actors, ten at a time")
