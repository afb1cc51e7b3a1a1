"""A Ray cluster as an operator has one: several raylets, a dashboard that takes jobs, and a token for all of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent.parent
END_S = 20.0


@dataclass(frozen=True)
class Raylets:
    """Such a cluster; `pid` is the process that holds it."""

    url: str
    token_path: Path
    pid: int

    def access(self) -> dict[str, str]:
        """What `tuneyard serve` has to have in its environment."""
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_path)}


@contextlib.contextmanager
def raylets(count: int) -> Iterator[Raylets]:
    """A head without CPUs and `count` nodes with one CPU each, until the block ends."""
    scratch = Path(tempfile.mkdtemp(prefix="tyc"))  # short: sockets live in it
    token_path = scratch / "token"
    token_path.write_text(secrets.token_hex(32))
    token_path.chmod(0o600)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        "RAY_TMPDIR": str(scratch),
    }
    with (scratch / "host.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.chaos.cluster_host", str(count), "--dashboard"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (scratch / "host.log").read_text()[-3000:]
        yield Raylets(line.split()[1], token_path, process.pid)
    finally:
        _end(process)
        shutil.rmtree(scratch, ignore_errors=True)


def _end(process: subprocess.Popen[str]) -> None:
    """Take it down, however much of it is left; its end of the pipe says that it may go."""
    children: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(process.pid).children(recursive=True)
    try:
        process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    for child in children:
        with contextlib.suppress(psutil.Error):
            child.kill()
