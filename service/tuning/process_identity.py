"""Who a process is, so that another one can tell whether it is still there: machine, number and start."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_machine() -> str:
    """A name for what shares process numbers with this process: host, boot and, in containers, the namespace."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    parts = [
        socket.gethostname(),
        boot.read_text().strip() if boot.exists() else "",
        str(namespace.readlink()) if namespace.is_symlink() else "",
    ]
    return "/".join(parts)


def started_at(pid: int) -> str | None:
    """The kernel's own count of when process `pid` began; None where there is none, or it is only waited for."""
    fields = _fields(pid)
    return None if fields is None or fields[0] == "Z" else fields[19]


def is_stopped(pid: int) -> bool:
    """Whether process `pid` is held by a SIGSTOP: there, but doing nothing."""
    fields = _fields(pid)
    return fields is not None and fields[0] in "Tt"


def this_process() -> tuple[str, int, str | None]:
    """(machine, number, start) of the caller."""
    return this_machine(), os.getpid(), started_at(os.getpid())


def _fields(pid: int) -> list[str] | None:
    """What the kernel says of a process, from its state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
