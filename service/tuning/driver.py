"""The process of a sweep's job: spec -> decisions -> Ray Tune -> report. Started with the sweep's storage folder.

`python -m service.tuning.driver STORAGE --home HOME` runs or resumes the sweep in STORAGE. Exit codes: 0 over and well,
1 over but failed, 2 the sweep cannot run as it stands, 3 paused (resume goes on), 4 another driver has it.
SIGINT and SIGTERM pause it cleanly; a second one ends it at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

from service.errors import SweepRunningError, TuneyardError
from service.tuning.lease import Lease, take
from service.tuning.patience import patiently
from service.tuning.storage import FolderStorage
from service.tuning.sweep_driver import TAKEN, UNRUNNABLE, Driver

log: Final = logging.getLogger(__name__)
APPEARS_S: Final = 60.0
TERM_GRACE_S: Final = 20.0  # Kubernetes gives 30 s between SIGTERM and SIGKILL


def _listen(driver: Driver) -> None:
    """First signal: pause. Second, or the end of the grace after SIGTERM: leave at once."""

    def on_signal(number: int, _frame: object) -> None:
        driver.signals += 1
        if driver.signals > 1:
            threading.Thread(target=driver.leave, daemon=True).start()
            return
        if number == signal.SIGTERM:  # first, since storage may hold up what follows
            timer = threading.Timer(TERM_GRACE_S, driver.leave)
            timer.daemon = True
            timer.start()
        driver.pause(f"received {signal.Signals(number).name}")

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)


def main(argv: list[str] | None = None) -> int:
    """Run the sweep that the command line names."""
    args = _parser().parse_args(argv)
    folder: Path = args.storage.resolve()
    if not _appears(folder):
        sys.stderr.write(f"{folder} does not exist; `tuneyard list` shows the sweeps that do\n")
        return UNRUNNABLE
    patiently(lambda: _log_to(folder), "opening the log")
    try:
        lease = patiently(lambda: take(FolderStorage(folder)), "taking the sweep")
        try:
            return _drive(folder, args, lease)
        finally:
            lease.release()
    except SweepRunningError as error:
        log.warning("%s", error)
        sys.stderr.write(f"{error}\n")
        return TAKEN
    except TuneyardError as error:
        log.exception("the sweep cannot run")
        sys.stderr.write(f"{error}\n")
        return UNRUNNABLE


def _appears(folder: Path) -> bool:
    """Whether the sweep's folder is there, or comes back: a driver may be started again while storage is away."""
    deadline = time.monotonic() + APPEARS_S
    while not folder.is_dir() and time.monotonic() < deadline:
        time.sleep(0.5)
    return folder.is_dir()


def _log_to(folder: Path) -> None:
    (folder / "logs").mkdir(exist_ok=True)
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(filename=folder / "logs" / "driver.log", level=logging.INFO, format=form)


def _drive(folder: Path, args: argparse.Namespace, lease: Lease) -> int:
    driver = patiently(lambda: Driver(folder, args.home.resolve(), lease, args.ray_address), "opening the sweep")
    with lease.kept(driver.lose):
        if driver.history.ended is not None:
            return driver.finish_again()
        _listen(driver)
        return driver.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.tuning.driver", description=__doc__)
    parser.add_argument("storage", type=Path, help="the sweep's storage folder")
    parser.add_argument("--home", type=Path, required=True, help="the data folder with the embedded MLflow store")
    parser.add_argument("--ray-address", help="a running Ray cluster to join (HOST:PORT); without it, a Ray of its own")
    return parser


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)  # everything is on disk; taking Ray's and numpy's modules apart would cost half a second
