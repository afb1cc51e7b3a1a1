"""One sweep in a fresh place: prepared, driven by real processes, disturbed by a fault, and taken to its end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from service.spec.sweep_spec import parse_sweep
from service.tuning.events import AttemptEnded
from service.tuning.ledger import read_ledger
from service.tuning.sweep_driver import FAILED, OVER
from service.tuning.sweep_folder import PROGRESS_FILE, Job, write_job
from tests.chaos import trainable, truth
from tests.chaos.checker import Expected
from tests.chaos.house import House
from tests.chaos.truth import TruthLine, read_truth

ROOT: Final = Path(__file__).resolve().parent.parent.parent
INJECT: Final = Path(__file__).resolve().parent / "inject"
MARK: Final = "CHAOS_ARENA"  # in the environment of every process of an arena: how they are found again
CHECKPOINT_INTERVAL: Final = 2
END_S: Final = 600.0
PATIENCE_S: Final = 300.0  # for whatever comes about sooner or later, on however busy a machine
AHEAD: Final = 4  # epochs that may be acknowledged beyond those that a fault waits for, until it has struck
POLL_S: Final = 0.02
RUNNER: Final = "tests.chaos.trainable:train"
_SWEEP: Final = """
fit: {trainer: {max_epochs: 4}}
metric: {name: loss, goal: minimize}
parameters: {model.x: {min: 0.0, max: 1.0}, model.y: {min: 0.0, max: 1.0}}
resources: {cpu: 0.5}
"""
VARIANTS: Final = {
    "parallel": """
name: parallel
search: {name: random, start_from_defaults: false}
scheduler: {name: fifo}
budget: {max_trials: 8, max_concurrent_trials: 2}
""",
    "sequential": """
name: sequential
search: {name: tpe, start_from_defaults: false}
scheduler: {name: asha, max_epochs: 4, grace_epochs: 2, reduction_factor: 2}
budget: {max_trials: 8, max_concurrent_trials: 1}
""",
    "alone": """
name: alone
search: {name: random, start_from_defaults: false}
scheduler: {name: fifo}
budget: {max_trials: 4, max_concurrent_trials: 1}
""",
}


class FaultNotPossibleError(Exception):
    """This machine lacks what the fault needs; it is skipped, and its reason stands in the table."""


@dataclass
class Arena:
    """A place for one sweep. `extra` goes into its sweep file, `plan` is what its trainable misbehaves by."""

    variant: str
    reference: Expected | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    plan: list[dict[str, Any]] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)  # at its end
    runner: str = RUNNER
    tracking_home: Path | None = None  # whose database MLflow writes to; None: the arena's own
    drivers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    interval: int = CHECKPOINT_INTERVAL
    house: House = field(default_factory=House)
    stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)  # undone once all processes are gone
    struck: list[float] = field(default_factory=list)  # when each fault was over
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Make the place."""
        self.place = Path(tempfile.mkdtemp(prefix="tuneyard-chaos-"))
        self.temporary = _short_folder()  # all temporary files of the arena's processes, so that none is overlooked
        self.home = self.place / "home"
        self.folder = self.home / "sweeps" / f"{self.variant}-20261122-{self.place.name[-4:].lower()}"

    @property
    def expected(self) -> Expected:
        """What the undisturbed run came to."""
        if self.reference is None:
            msg = "this is the undisturbed run"
            raise ValueError(msg)
        return self.reference

    def prepare(self) -> None:
        """Write the sweep's folder, as `tuneyard run` does."""
        self.home.mkdir(parents=True, exist_ok=True)
        sections = "".join(f"{name}: {json.dumps(value)}\n" for name, value in self.extra.items())
        every = f"checkpoints: {{every_epochs: {self.interval}}}\n"
        text = _SWEEP + VARIANTS[self.variant] + every + sections
        spec = parse_sweep(text, file="sweep.yaml", root=self.home)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_job(self.folder, Job(self.folder.name, spec.to_dict(), runner=self.runner))
        (self.place / "plan.json").write_text(json.dumps(self.plan))

    def process_environment(self) -> dict[str, str]:
        """What every process of the arena lives in."""
        inherited = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI")}
        return {
            **inherited,
            "PYTHONPATH": f"{INJECT}{os.pathsep}{ROOT}",
            "TMPDIR": str(self.temporary),
            MARK: self.place.name,
            truth.VARIABLE: str(self.place / "truth.jsonl"),
            trainable.PLAN: str(self.place / "plan.json"),
            **self.environment,
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start a driver; the first one prepares the folder."""
        if not self.folder.exists():
            self.prepare()
        command = [sys.executable, "-P", "-m", "service.tuning.driver", str(self.folder)]
        command += ["--home", str(self.home), *self.arguments]
        with tempfile.NamedTemporaryFile(dir=self.place, delete=False) as errors:
            process = subprocess.Popen(
                command,
                env=self.process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                start_new_session=True,
            )
        Path(errors.name).rename(self.error_path(process))
        self.drivers.append(process)
        return process

    def error_path(self, process: subprocess.Popen[bytes]) -> Path:
        """The file with what a driver wrote."""
        return self.place / f"driver-{process.pid}.err"

    @property
    def driver(self) -> subprocess.Popen[bytes]:
        """The newest driver."""
        return self.drivers[-1]

    def kill_driver(self) -> None:
        """Kill -9 it."""
        self.driver.kill()
        self.driver.wait()
        self.strike()

    def strike(self) -> None:
        """Note that a fault is over just now: from here on recovery is timed, and training goes on."""
        self.release()
        self.struck.append(time.monotonic())

    def hold(self, count: int) -> None:
        """Have no epoch trained once so many are acknowledged, until `release`."""
        draft = self.place / f"{trainable.HOLD}.draft"
        draft.write_text(str(count))
        draft.replace(self.place / trainable.HOLD)

    def release(self) -> None:
        """Let trials train on."""
        (self.place / trainable.HOLD).unlink(missing_ok=True)

    def truth(self) -> list[TruthLine]:
        """What the workers say."""
        return read_truth(self.place / "truth.jsonl")

    def acknowledged(self) -> int:
        """How many reports came back so far."""
        return sum(line.kind == "acknowledged" for line in self.truth())

    def wait_acknowledged(self, count: int, seconds: float = PATIENCE_S) -> None:
        """Wait until so many reports came back; not many more do before the next `strike`."""
        self.hold(count + AHEAD)
        self.wait_for(lambda: self.acknowledged() >= count, f"{count} acknowledged epochs", seconds)

    def wait_some(self, rng: random.Random, first: int = 2, last: int = 9) -> None:
        """Wait for a random moment in the middle of the sweep."""
        self.wait_acknowledged(rng.randint(first, last))
        time.sleep(rng.random() * trainable.EPOCH_S)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
        """Wait for `condition`; TimeoutError says what was waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if condition():
                return
            time.sleep(POLL_S)
        msg = f"not within {seconds:g} s: {what}"
        raise TimeoutError(msg)

    def processes(self) -> list[psutil.Process]:
        """All living processes of the arena, whoever started them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(MARK) == self.place.name and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def workers(self) -> list[psutil.Process]:
        """The processes that train."""
        return [p for p in self.processes() if "ray::Attempt" in " ".join([p.name(), *_command(p)])]

    def wait_workers(self, count: int = 1) -> list[psutil.Process]:
        """The processes that train, once there are so many."""
        self.wait_for(lambda: len(self.workers()) >= count, f"{count} workers")
        return self.workers()

    def expect_endings(self, *kinds: str) -> None:
        """Attempts have to have ended in each of these ways: else the fault has hit nothing."""
        self.finish()
        found = {r.event.kind for r in read_ledger(self.folder) if isinstance(r.event, AttemptEnded)}
        for kind in kinds:
            self.note(broken=kind not in found, what=f"no attempt ended as {kind!r}: the fault has hit nothing")

    def note(self, *, broken: bool, what: str) -> None:
        """Remember something that went wrong in a way that only the fault can see."""
        if broken:
            self.broken.append(what)

    def expect_code(self, process: subprocess.Popen[bytes], code: int, seconds: float, who: str) -> None:
        """The process has to end with `code` by itself."""
        try:
            found = process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.broken.append(f"{who} did not end within {seconds:g} s")
            process.kill()
            process.wait()
            return
        self.note(broken=found != code, what=f"{who} ended with {found}, not {code}; it said {self.said(process)!r}")

    def said(self, process: subprocess.Popen[bytes]) -> str:
        """The last line that a driver wrote."""
        lines = self.error_path(process).read_text(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def progress(self) -> dict[str, Any]:
        """The snapshot that the driver leaves for whoever watches."""
        found: dict[str, Any] = json.loads((self.folder / PROGRESS_FILE).read_bytes())
        return found

    def finish(self, seconds: float = END_S) -> None:
        """Wait until the newest driver has ended; one that does not is noted."""
        self.release()
        try:
            code = self.driver.wait(seconds)
        except subprocess.TimeoutExpired:
            self.broken.append(f"the sweep did not end within {seconds:g} s")
            self.driver.kill()
            self.driver.wait()
            return
        self.note(
            broken=code not in (OVER, FAILED), what=f"the driver ended with {code}; it said {self.said(self.driver)!r}"
        )

    def sync(self) -> int:
        """Deliver what MLflow does not have yet, as `tuneyard sync` does."""
        command = [sys.executable, "-P", "-m", "service.tuning.tracking", str(self.folder), "--home", str(self.home)]
        return subprocess.run(command, env=self.process_environment(), check=False, timeout=600).returncode

    def clear(self) -> None:
        """End whatever is still there, and take the place away."""
        for process in self.processes():
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        for driver in self.drivers:
            driver.wait()
        self.stack.close()
        for folder in (self.place, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)


def _command(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _short_folder() -> Path:
    """An empty folder with a very short path: Ray's sockets lie some 90 characters below it, and 107 are allowed."""
    while True:
        folder = Path(tempfile.gettempdir(), "c" + "".join(random.choices(string.ascii_lowercase, k=4)))
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
