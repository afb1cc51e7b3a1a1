"""Stands between a local job and whoever submitted it, so that the job's exit code survives the submitter.

Run as a script by `cluster/local.py`: `_supervisor.py RECORD LOG ATTEMPT RESTARTS ARGV...`. Says `started` on stdout
once the record is on disk, or the reason why the job could not be started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Final

LIVED_WELL_S: Final = 600.0  # a job that was killed after so long is no job that dies again and again
LEAVE_S: Final = 5.0  # what the job started gets this long to end by itself once the job is gone


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Replace the record as a whole: a reader sees the old one or the new one."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(record))
    partial.replace(path)


def process_mark(pid: int) -> str | None:
    """What tells this process from a later one with the same number: boot and start tick; None where it is gone.

    Read from the kernel's counters, so that a step of the wall clock changes nothing.
    """
    try:
        start = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + "/" + start
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self").exists() else _portable_mark(pid)


def _portable_mark(pid: int) -> str | None:
    import psutil

    try:
        return str(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


class Supervisor:
    """One job: the files that it is known by, how often it may still be started again, and its process."""

    def __init__(self, record_path: Path, log_path: Path, attempt: int, restarts: int) -> None:
        self._record_path, self._log_path, self._attempt, self._restarts = record_path, log_path, attempt, restarts
        self._stop_mark = record_path.with_name(f"stop-{attempt}")
        self._job: subprocess.Popen[bytes] | None = None
        self._is_told = False  # somebody has sent a signal that is meant for the job

    def supervise(self, argv: list[str]) -> int:
        """Start `argv`, record its process, wait for it, record its exit code; returns 0 unless it could not start."""
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it, and would hand that on
        try:
            record = self._start(argv)
        except OSError as error:
            sys.stdout.write(f"{argv[0]} cannot be started: {error.strerror or error}")
            return 1
        sys.stdout.write("started")
        sys.stdout.flush()
        os.close(1)
        left, began = self._restarts, time.monotonic()
        code = self._wait()
        while code < 0 and not self._shall_end():
            if time.monotonic() - began > LIVED_WELL_S:
                left = self._restarts
            if not left:
                break
            left, began = left - 1, time.monotonic()
            self._log(f"the job was killed by {signal.Signals(-code).name}; it is started again")
            record = self._start_patiently(argv)
            if self._shall_end() and self._job is not None:
                self._job.send_signal(signal.SIGINT)
            code = self._wait()
        self._write({**record, "exit_code": code, "ended_at": time.time()})
        return 0

    def _start_patiently(self, argv: list[str]) -> dict[str, Any]:
        while True:
            try:
                return self._start(argv)
            except OSError:  # no memory for another process, or a log on storage that is away
                time.sleep(1.0)

    def _start(self, argv: list[str]) -> dict[str, Any]:
        with self._log_path.open("ab") as log:
            self._job = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._forward)
        record: dict[str, Any] = {
            "attempt": self._attempt,
            "argv": argv,
            "pid": self._job.pid,
            "mark": process_mark(self._job.pid),
            "supervisor": os.getpid(),
            "supervisor_mark": process_mark(os.getpid()),
        }
        self._write(record)
        return record

    def _write(self, record: dict[str, Any]) -> None:
        """Replace the record as soon as the disk takes it."""
        while True:
            try:
                write_record(self._record_path, record)
            except OSError:
                time.sleep(1.0)
            else:
                return

    def _wait(self) -> int:
        code = 0 if self._job is None else self._job.wait()
        end_session()
        return code

    def _shall_end(self) -> bool:
        return self._is_told or self._stop_mark.exists()

    def _forward(self, number: int, _frame: FrameType | None) -> None:
        self._is_told = True
        if self._job is not None:
            self._job.send_signal(number)

    def _log(self, text: str) -> None:
        with contextlib.suppress(OSError), self._log_path.open("a") as log:  # a full disk must not keep the job down
            log.write(text + "\n")


def end_session() -> None:
    """End whatever the job has left behind: every other process of this session, waited for, then killed.

    A job that dies by SIGKILL cannot end its own children, and some of Ray's outlive it by minutes.
    """
    deadline = time.monotonic() + LEAVE_S
    while (left := _others_of_session()) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _others_of_session() -> list[int]:
    session, found = os.getsid(0), []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            state, _, _, owner = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:4]
            if int(owner) == session and state != "Z" and int(entry.name) != os.getpid():
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    _, record_name, log_name, attempt_text, restarts_text, *command = sys.argv
    sys.exit(Supervisor(Path(record_name), Path(log_name), int(attempt_text), int(restarts_text)).supervise(command))
