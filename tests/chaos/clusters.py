"""Faults of a cluster of several raylets that a sweep has joined: a node dies, or the head does."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import sys
from typing import Final

import psutil

from service.tuning.sweep_driver import OVER
from tests.chaos.arena import Arena
from tests.chaos.checker import Expected
from tests.chaos.faults import Fault

RAYLETS: Final = 3
END_S: Final = 30.0
HEAD_LOST_S: Final = 120.0  # Ray's own patience with a head that is away is a minute


class Host:
    """The process of `cluster_host`, and the address to join it at."""

    def __init__(self, arena: Arena) -> None:
        arena.environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": arena.place.name.ljust(32, "x")}
        command = [sys.executable, "-P", "-m", "tests.chaos.cluster_host", str(RAYLETS)]
        with (arena.place / "cluster.err").open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                env=arena.process_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        out = self.process.stdout
        self.address = "" if out is None else out.readline().strip()
        if not self.address:
            msg = f"the cluster did not start: {(arena.place / 'cluster.err').read_text()[-300:]}"
            raise TimeoutError(msg)
        arena.arguments = ["--ray-address", self.address]

    def end(self) -> None:
        """Take it down, however much of it is left."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        if self.process.stdin is not None:
            self.process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        self.process.kill()
        self.process.wait()
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()


def kill_raylet(arena: Arena, rng: random.Random) -> Expected:
    """Kill -9 a raylet that hosts a worker; the others take over."""
    arena.prepare()
    host = Host(arena)
    arena.start()
    arena.wait_some(rng)
    worker = rng.choice(arena.wait_workers())
    raylet = next(parent for parent in worker.parents() if "raylet" in parent.name())
    raylet.kill()
    worker.kill()  # it would live on for a second or so, as it does not on a machine that goes down
    arena.strike()
    arena.expect_endings("infrastructure")
    host.end()
    _clear_away(arena)
    return arena.expected


def kill_head(arena: Arena, rng: random.Random) -> Expected:
    """Kill -9 the head's GCS: the driver leaves or dies; on a new cluster, the next one goes on."""
    arena.prepare()
    host = Host(arena)
    driver = arena.start()
    arena.wait_some(rng)
    for process in arena.processes():
        if process.name() == "gcs_server":
            process.kill()
    try:
        code = driver.wait(HEAD_LOST_S)
        arena.note(broken=code == OVER, what="the driver says that all is well")
    except subprocess.TimeoutExpired:
        arena.broken.append(f"the driver did not notice within {HEAD_LOST_S:g} s that the head is gone")
        arena.kill_driver()
    host.end()
    host = Host(arena)
    arena.strike()
    arena.start()
    arena.finish()
    host.end()
    _clear_away(arena)
    return arena.expected


def _clear_away(arena: Arena) -> None:
    """What is left of the cluster's own files is not the sweep's: nobody takes those of a killed head away."""
    names = ("raylet", "gcs_server")
    arena.wait_for(lambda: not any(p.name() in names for p in arena.processes()), "the cluster's end")
    shutil.rmtree(arena.temporary / "ray", ignore_errors=True)


FAULTS: Final = [
    Fault("F2", "kill -9 a raylet of three", kill_raylet),
    Fault("F3", "kill -9 the head (GCS)", kill_head),
]
