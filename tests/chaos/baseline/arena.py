"""One sweep of plain Ray Tune in a fresh folder: started, struck, started again, and what is left of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self

import psutil

from tests.chaos.baseline import trainable
from tests.chaos.collecting import recovery
from tests.chaos.outcome import Ended, Outcome, RunRow
from tests.chaos.trainable import PLAN
from tests.chaos.truth import VARIABLE, TruthLine, read_truth

ROOT: Final = Path(__file__).resolve().parents[3]
MARK: Final = "CHAOS_BASELINE"  # in the environment of every process of an arena
LIMIT_S: Final = 120.0  # for a sweep to end once it was struck
RESTARTS: Final = 3
UNDERSCORES: Final = 2  # train_afaf7_00003: the name of a trial of Tune's own searcher
LEFT_AFTER_S: Final = 30.0
START_S: Final = 120.0
INTERRUPT_S: Final = 15.0
SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "RAY_AUTH_MODE": "disabled",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


class Arena:
    """A folder with a sweep in it. Faults use `start`, `wait_acknowledged`, `kill` and `struck`."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.root = root.resolve()
        self.storage = self.root / "results"
        self.tracking = f"sqlite:///{self.root / 'mlflow.db'}"
        self.database = self.root / "mlflow.db"
        self.options: list[str] = []
        self.environment: dict[str, str] = {}
        self.drivers: list[subprocess.Popen[bytes]] = []
        self.restarts = 0
        self.ended: Ended | None = None
        self.broken: list[str] = []
        self.strikes: list[float] = []
        self.undo: list[Callable[[], object]] = []
        self.services: list[subprocess.Popen[bytes]] = []
        self.mounted = False
        self.interval = trainable.CHECKPOINT_EVERY
        self.temporary = Path(tempfile.mkdtemp(prefix="tune"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self.undo:
            self.undo.pop()()
        self._end_all()
        if self.mounted:
            umount = shutil.which("umount") or "umount"
            subprocess.run([umount, "--lazy", str(self.storage)], check=False)
        shutil.rmtree(self.temporary, ignore_errors=True)

    @property
    def truth_file(self) -> Path:
        """What the workers write."""
        return self.root / "truth.jsonl"

    def variables(self) -> dict[str, str]:
        """The environment of all processes of the arena."""
        ours = {
            MARK: str(self.root),
            VARIABLE: str(self.truth_file),
            "CHAOS_TOLD": str(self.root / "told.jsonl"),
            "PYTHONPATH": str(ROOT),
            trainable.INTERVAL: str(self.interval),
            "RAY_TMPDIR": str(self.temporary),
        }
        return {**os.environ, **SETTINGS, **ours, **self.environment}

    def plan(self, entries: dict[int, dict[str, Any]]) -> None:
        """Say which trials misbehave how."""
        path = self.root / "plan.json"
        path.write_text(json.dumps(entries))
        self.environment[PLAN] = str(path)

    def start(self) -> subprocess.Popen[bytes]:
        """Start the script on the folder, for the first time or again."""
        command = [sys.executable, "-m", "tests.chaos.baseline.sweep", str(self.root), "--storage", str(self.storage)]
        command += ["--tracking", self.tracking, *self.options]
        with (self.root / "driver.log").open("ab") as log:
            driver = subprocess.Popen(
                command, env=self.variables(), stdout=log, stderr=log, cwd=self.root, start_new_session=True
            )
        self.drivers.append(driver)
        return driver

    def truth(self) -> list[TruthLine]:
        """All that the workers wrote so far."""
        return read_truth(self.truth_file)

    def acknowledged(self) -> int:
        """How many reports came back."""
        return sum(line.kind == "acknowledged" for line in self.truth())

    def wait_acknowledged(self, count: int) -> None:
        """Until so many reports came back; RuntimeError where they never do."""
        if not wait_for(lambda: self.acknowledged() >= count, START_S):
            msg = f"{self.acknowledged()} of {count} reports came back"
            raise RuntimeError(msg)

    def processes(self) -> list[psutil.Process]:
        """Every process of this arena."""
        return [p for p in psutil.process_iter() if is_marked(p, str(self.root))]

    def workers(self) -> list[psutil.Process]:
        """The processes that train now."""
        return [p for p in self.processes() if "ImplicitFunc" in title(p)]

    def named(self, name: str) -> list[psutil.Process]:
        """The arena's processes of that program."""
        return [p for p in self.processes() if name in Path(title(p).split(" ")[0]).name]

    def wait_workers(self) -> list[psutil.Process]:
        """The processes that train, as soon as there are any."""
        wait_for(lambda: bool(self.workers()), START_S)
        return self.workers()

    def busy_worker(self) -> psutil.Process:
        """A process whose trial has come no further than its second epoch, as the truth says."""
        found: list[int] = []

        def is_there() -> bool:
            last = {line.trial: line for line in self.truth()}
            found[:] = [line.pid for line in last.values() if line.epoch in (1, 2) and psutil.pid_exists(line.pid)]
            return bool(found)

        if not wait_for(is_there, START_S):
            msg = "no trial trained any more"
            raise RuntimeError(msg)
        return psutil.Process(found[-1])

    def kill_driver(self, *, sign: signal.Signals = signal.SIGKILL) -> None:
        """End the newest driver, and wait until what it started went with it."""
        driver = self.drivers[-1]
        driver.send_signal(sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            driver.wait(30)
        if driver.poll() is None:
            self.broken.append(f"the driver is still there 30 s after {sign.name}")
            driver.kill()
            driver.wait()
        wait_for(lambda: not self.processes(), 20)

    def struck(self) -> None:
        """The fault is over: the time to the next acknowledged epoch counts from here."""
        self.strikes.append(time.monotonic())

    def finish(self) -> None:
        """Wait until the sweep ended; a driver that died is started again, three times at most."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline and self.ended is None:
            code = self.drivers[-1].poll()
            if code == 0:
                self.ended = "completed"
            elif code is not None and self.restarts == RESTARTS:
                self.ended = "failed"
            elif code is not None:
                self.restarts += 1
                self.start()
            time.sleep(0.1)
        if self.ended is None:
            self.ended = "lost"
            self._interrupt()

    def _interrupt(self) -> None:
        """Ctrl+C for a sweep that does not end, as its guide says: it then writes what it has."""
        self.drivers[-1].send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.drivers[-1].wait(INTERRUPT_S)

    def sweep_away(self) -> list[str]:
        """What is left 30 s after the end; it is ended then."""
        if self.ended == "lost":  # its processes are no leftovers: it never ended
            self._end_all()
            return []
        wait_for(lambda: not self.processes(), LEFT_AFTER_S)
        left = [f"process {title(p)[:80]}" for p in self.processes()]
        left += [f"file {p.relative_to(self.storage)}" for p in self.storage.rglob("*tmp*")]
        self._end_all()
        return left

    def _end_all(self) -> None:
        for marked in self.processes():
            with contextlib.suppress(psutil.Error):
                marked.kill()
        for process in [*self.drivers, *self.services]:
            process.wait()

    def outcome(self) -> Outcome:
        """What the checker looks at."""
        left, trials = self.sweep_away(), self._trials()
        proposals = self._states() | {
            number: {k: v for k, v in params.items() if k != trainable.NUMBER} for number, params, _ in trials if params
        }
        results: dict[tuple[int, int], list[float]] = {}
        for number, _, lines in trials:
            for line in lines:
                value = line.get("loss", float("nan"))
                results.setdefault((number, line["epoch"]), []).append(_number(value))
        best = self.root / "best.json"
        return Outcome(
            truth=self.truth(),
            proposals=proposals,
            endings=self._endings(),
            results=results,
            runs=self._runs(),
            best=tuple(json.loads(best.read_text())) if best.exists() else None,
            ended=self.ended or "lost",
            checkpoint_interval=self.interval,
            recovery_s=recovery(self.strikes, self.truth()),
            leftovers=left,
            broken=self.broken,
        )

    def _trials(self) -> list[tuple[int, dict[str, Any], list[dict[str, Any]]]]:
        """(number, params, lines of result.json) of each trial folder, the oldest first."""
        found = []
        for path in sorted(self.storage.glob("sweep/*/params.json"), key=lambda p: p.stat().st_mtime):
            params = json.loads(path.read_text() or "{}")
            results = path.with_name("result.json")
            lines = results.read_text().splitlines() if results.exists() else []
            number = trainable.trial_number(_trial_id(path.parent.name), params)
            found.append((number, params, [json.loads(line) for line in lines if line.endswith("}")]))
        return found

    def _states(self) -> dict[int, dict[str, Any]]:
        """Trial -> params, as Tune's state files say it, the newest last."""
        found = {}
        for path in sorted(self.storage.glob("sweep/experiment_state-*.json"), key=lambda p: p.stat().st_mtime):
            with contextlib.suppress(ValueError, KeyError):
                for text, _ in json.loads(path.read_text())["trial_data"]:
                    trial = json.loads(text)
                    number = trainable.trial_number(trial["trial_id"], trial["config"])
                    found[number] = {k: v for k, v in trial["config"].items() if k != trainable.NUMBER}
        return found

    def _endings(self) -> dict[int, list[str]]:
        path, endings = self.root / "told.jsonl", dict[int, list[str]]()
        for line in path.read_text().splitlines() if path.exists() else []:
            heard = json.loads(line)
            endings.setdefault(int(heard["trial"].rpartition("_")[2]), []).append(heard["ending"])
        return endings

    def _runs(self) -> list[RunRow]:
        numbers = self._numbers()

        def number(run: str) -> int | None:
            if run in keys:
                return int(keys[run])
            name = names.get(run, "")
            return numbers.get(name, int(name[-5:]) if name.count("_") == UNDERSCORES else None)

        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as store:
            runs = store.execute("SELECT run_uuid, status FROM runs WHERE lifecycle_stage = 'active'").fetchall()
            names = dict(store.execute("SELECT run_uuid, value FROM tags WHERE key = 'trial_name'").fetchall())
            keys = dict(store.execute("SELECT run_uuid, value FROM params WHERE key = 'number'").fetchall())
            points = store.execute("SELECT run_uuid, key, step FROM metrics WHERE key = 'loss'").fetchall()
        found: dict[str, Counter[tuple[str, int]]] = {}
        for run, key, step in points:
            found.setdefault(run, Counter())[key, int(step)] += 1
        return [RunRow(number(run), status, found.get(run, Counter())) for run, status in runs]

    def _numbers(self) -> dict[str, int]:
        """Trial's name, as MLflow's tag has it -> number."""
        found = {}
        for path in self.storage.glob("sweep/*/params.json"):
            trial_id = _trial_id(path.parent.name)
            found[f"train_{trial_id}"] = trainable.trial_number(trial_id, json.loads(path.read_text() or "{}"))
        return found


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def is_marked(process: psutil.Process, root: str) -> bool:
    """Whether the process belongs to the arena in `root`; what is dead does not."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == root
    except psutil.Error:
        return False


def title(process: psutil.Process) -> str:
    """What the process calls itself."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _trial_id(folder: str) -> str:
    """train_afaf7_00003_3_x=0.2_... -> afaf7_00003; train_1a2b3c4d_1_x=... -> 1a2b3c4d."""
    first, second = folder.removeprefix("train_").split("_")[:2]
    return f"{first}_{second}" if len(second) == len("00000") else first


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
