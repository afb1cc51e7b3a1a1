"""Shows a running sweep until it ends, passes Ctrl-C and its like on to the driver, and sums up what came of it."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

from cluster.backend import JobState
from service.errors import Fault, SpecError
from service.sweeps.folders import Sweep
from service.sweeps.launch import ENDED_STATES, is_running, job_status, log_tail, state, stop
from service.tuning.sweep_folder import DRIVER_LOG, read_job
from service.views.ending import print_ending
from service.views.progress import ProgressView, view

POLL_S: Final = 0.2
STATUS_EVERY: Final = 5  # polls between two looks at the process table
CLEAN_STOP_S: Final = 86_400.0  # a long epoch is waited for; whoever will not wait presses Ctrl-C again
PAUSED_ELSEWHERE: Final = 3  # exit code: `tuneyard stop` in another terminal
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What a person or the system asked for: the first signal stops the driver cleanly, the second kills it."""

    def __init__(self, home: Path, sweep: Sweep, shown: ProgressView) -> None:
        self._home, self._sweep, self._shown = home, sweep, shown
        self.signals: list[int] = []
        self._threads: list[threading.Thread] = []
        self._before = {caught: signal.signal(caught, self._on_signal) for caught in _SIGNALS}

    def _on_signal(self, caught: int, _frame: FrameType | None) -> None:
        self.signals.append(caught)
        if len(self.signals) > 2:  # noqa: PLR2004  # stop, kill: there is no third step
            return
        wait_s = CLEAN_STOP_S if len(self.signals) == 1 else 0.0
        thread = threading.Thread(target=stop, args=(self._home, self._sweep), kwargs={"wait_s": wait_s}, daemon=True)
        thread.start()
        self._threads.append(thread)
        if wait_s:
            with contextlib.suppress(OSError):  # the terminal may be what is gone
                self._shown.note("stopping: trials save their state … (once more quits at once)")

    def close(self) -> None:
        """Wait for what was asked for, and give the signals back."""
        for thread in self._threads:
            thread.join()
        for caught, handler in self._before.items():
            signal.signal(caught, handler)


def follow(home: Path, sweep: Sweep, *, as_json: bool) -> int:
    """Show the sweep to its end as the one who started it; returns the exit code."""
    shown = view(as_json=as_json)
    shown.note(f"{sweep.id} in {sweep.folder}")
    interruption = Interruption(home, sweep, shown)
    try:
        _show_until_over(home, sweep, shown)
    finally:
        interruption.close()
        shown.close()
    return _conclude(home, sweep, interruption.signals, as_json=as_json)


def look_on(home: Path, sweep: Sweep, *, as_json: bool) -> int:
    """Show the sweep to its end without owning it: an interrupt leaves it running."""
    shown = view(as_json=as_json)
    try:
        _show_until_over(home, sweep, shown)
    except KeyboardInterrupt:
        shown.note(f"{sweep.id} goes on; look again with: tuneyard watch {sweep.id}")
        return 130
    finally:
        shown.close()
    return _conclude(home, sweep, [], as_json=as_json)


def _show_until_over(home: Path, sweep: Sweep, shown: ProgressView) -> None:
    polls = 0
    while True:
        polls += 1
        progress = sweep.progress()
        if progress is not None:
            shown.update(progress)
        is_near_end = progress is not None and progress.get("state") in ENDED_STATES
        over = (is_near_end or polls % STATUS_EVERY == 1) and not is_running(home, sweep)
        if over:
            shown.update(sweep.progress() or progress or {})
            return
        time.sleep(POLL_S)


def _conclude(home: Path, sweep: Sweep, signals: list[int], *, as_json: bool) -> int:
    outcome = state(home, sweep)
    if outcome == "refused":
        _refuse(sweep)
    if as_json:
        sys.stdout.write(json.dumps({"event": "end", **conclusion(home, sweep)}) + "\n")
    else:
        _print_conclusion(home, sweep, outcome)
    if signals:
        return 128 + signals[0]
    if outcome == "completed":
        return 0
    status = job_status(home, sweep)
    stopped_elsewhere = outcome == "paused" and status is not None and status.state is JobState.STOPPED
    return PAUSED_ELSEWHERE if stopped_elsewhere else 1


def _refuse(sweep: Sweep) -> None:
    """Raise what the first worker found wrong, and leave nothing of a sweep that never began."""
    from service.spec.placing import placed

    source = read_job(sweep.folder).source
    faults = [Fault(**fault) for fault in (sweep.progress() or {})["faults"]]
    shutil.rmtree(sweep.folder, ignore_errors=True)
    raise SpecError(placed(faults, Path(source)) if source else faults)


def conclusion(home: Path, sweep: Sweep) -> dict[str, Any]:
    """The end as an object: state, best trial, and where everything is (None for what was not written)."""
    progress = sweep.progress() or {}
    files = {"report": "report/report.html", "best_config": "report/best.yaml", "log": DRIVER_LOG}
    paths = {key: str(sweep.path(name)) if sweep.path(name).exists() else None for key, name in files.items()}
    return {
        "sweep_id": sweep.id,
        "state": state(home, sweep),
        "reason": progress.get("reason", ""),
        "metric": progress.get("metric"),
        "best": progress.get("best"),
        "trials": progress.get("trials"),
        "epochs": progress.get("epochs"),
        "elapsed_s": progress.get("elapsed_s"),
        "folder": str(sweep.folder),
        **paths,
    }


def _print_conclusion(home: Path, sweep: Sweep, outcome: str) -> None:
    progress = sweep.progress() or {}
    log_end = log_tail(home, sweep) if outcome not in ENDED_STATES else ""
    print_ending(sweep.id, outcome, progress, _next_steps(sweep, progress, outcome), log_end)


def _next_steps(sweep: Sweep, progress: dict[str, Any], outcome: str) -> list[tuple[str, str]]:
    steps = []
    if outcome in ("paused", "interrupted"):
        steps.append(("resume", f"tuneyard resume {sweep.id}"))
    if sweep.path("report/best.yaml").exists():
        steps.append(("config", f"{sweep.path('report/best.yaml')}  (plain LightningCLI: trains the best trial again)"))
    if sweep.path("report/report.html").exists():
        steps.append(("report", f"tuneyard report {sweep.id} --open"))
    steps.append(("trials", f"tuneyard show {sweep.id}"))
    steps.append(("MLflow", "tuneyard ui"))
    if (progress.get("tracking") or {}).get("delivered") is False:
        steps.append(("sync", f"MLflow has not got everything yet: tuneyard sync {sweep.id}"))
    return steps
