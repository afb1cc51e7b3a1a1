"""The process of a sweep's job: spec -> decisions -> Ray Tune -> report. Started with the sweep's storage.

`python -m service.tuning.driver STORAGE --home HOME` runs or resumes the sweep in STORAGE, a folder or a URL.
Exit codes: 0 over and well, 1 over but failed, 2 the sweep cannot run as it stands, 3 paused (resume goes on), 4
another driver has it. SIGINT and SIGTERM pause it cleanly; a second one ends it at once.
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
from service.tuning.leaving import driving
from service.tuning.patience import patiently
from service.tuning.storage_place import Place, leave_work_folder, place_of, storage_at
from service.tuning.sweep_driver import TAKEN, UNRUNNABLE, Driver
from service.tuning.sweep_folder import DRIVER_LOG, JOB_FILE

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
    try:
        place = place_of(args.storage)
    except TuneyardError as error:
        sys.stderr.write(f"{error}\n")
        return UNRUNNABLE
    place = place.resolve() if isinstance(place, Path) else place
    if why := _why_absent(place):
        sys.stderr.write(f"{place} {why}\n")
        return UNRUNNABLE
    with storage_at(place).growing(DRIVER_LOG) as log_path:
        patiently(lambda: _log_to(log_path), "opening the log")
        return _take_and_drive(place, args)


def _take_and_drive(place: Place, args: argparse.Namespace) -> int:
    try:
        lease = patiently(lambda: take(storage_at(place)), "taking the sweep")
        try:
            return _drive(place, args, lease)
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


def _why_absent(place: Place) -> str:
    """Why the sweep is not there, nor comes back: a driver may be started again while storage is away. Else empty."""
    deadline = time.monotonic() + APPEARS_S
    while (why := _fault_of(place)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return why


def _fault_of(place: Place) -> str:
    try:
        is_there = place.is_dir() if isinstance(place, Path) else place.stat(JOB_FILE).size_bytes > 0
    except FileNotFoundError:
        is_there = False
    except OSError as error:
        return f"cannot be asked for: {error.strerror}"
    return "" if is_there else "does not exist; `tuneyard list` shows the sweeps that do"


def _log_to(path: Path) -> None:
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(filename=path, level=logging.INFO, format=form)


def _drive(place: Place, args: argparse.Namespace, lease: Lease) -> int:
    driver = patiently(lambda: Driver(place, args.home.resolve(), lease, args.ray_address), "opening the sweep")
    with lease.kept(driver.lose):
        if driver.history.ended is not None:
            code = driver.finish_again()
        else:
            _listen(driver)
            with driving():
                code = driver.run()
    leave_work_folder(place)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.tuning.driver", description=__doc__)
    parser.add_argument("storage", help="the sweep's storage: a folder, or the URL of an object store")
    parser.add_argument("--home", type=Path, required=True, help="the data folder with the embedded MLflow store")
    parser.add_argument("--ray-address", help="a running Ray cluster to join (HOST:PORT); without it, a Ray of its own")
    return parser


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)  # everything is on disk; taking Ray's and numpy's modules apart would cost half a second
