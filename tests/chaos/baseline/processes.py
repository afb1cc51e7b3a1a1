"""Faults of processes, done to plain Ray Tune: killed, stopped, told to go, started twice, under a clock that jumps."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from typing import Final

from tests.chaos import dial
from tests.chaos.arena import INJECT, FaultNotPossibleError
from tests.chaos.baseline.arena import Arena, title, wait_for
from tests.chaos.baseline.cases import Case
from tests.chaos.checker import Expected

STUCK_S: Final = 40.0  # then somebody kills a driver that has lost its cluster
HOUR_S: Final = 3600


def kill_worker(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """Kill -9 the process of a trial, twice."""
    arena.start()
    for count in sorted(rng.sample(range(2, 12), 2)):
        arena.wait_acknowledged(count)
        arena.busy_worker().kill()
        arena.struck()
    return calm


def kill_raylet(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """Kill -9 a raylet that hosts a worker; the cluster has three, and none is put in its place."""
    _start_cluster(arena)
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 8))
    raylet = arena.busy_worker().parent()
    if raylet is None or "raylet" not in title(raylet):
        msg = "the worker has no raylet"
        raise RuntimeError(msg)
    raylet.kill()
    arena.struck()
    return calm


def kill_head(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """Kill -9 the GCS; a new cluster is started, and a new driver on it."""
    cluster = _start_cluster(arena)
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 8))
    arena.named("gcs_server")[0].kill()
    wait_for(lambda: arena.drivers[-1].poll() is not None, STUCK_S)
    arena.drivers[-1].kill()
    arena.drivers[-1].wait()
    cluster.kill()
    cluster.wait()
    for process in arena.processes():
        with contextlib.suppress(Exception):
            process.kill()
    arena.options = []
    _start_cluster(arena)
    arena.start()
    arena.struck()
    return calm


def _start_cluster(arena: Arena) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.chaos.cluster_host", "3"]
    with (arena.root / "cluster.log").open("ab") as log:
        cluster = subprocess.Popen(
            command, env=arena.variables(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
    arena.undo.append(cluster.kill)
    arena.services.append(cluster)
    address = cluster.stdout.readline().decode().strip() if cluster.stdout else ""
    if not address:
        msg = "no cluster of several raylets can be had"
        raise FaultNotPossibleError(msg)
    arena.options = ["--address", address]
    return cluster


def kill_driver(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """Kill -9 the driver at a random moment, and once more; each time the next one starts when all is gone."""
    arena.start()
    for _ in range(2):
        arena.wait_acknowledged(arena.acknowledged() + rng.randint(1, 5))
        time.sleep(rng.random() / 2)
        arena.kill_driver()
        arena.start()
        arena.struck()
    return calm


def hang(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """A trial hangs in its own code."""
    trial, epoch = rng.randint(0, 5), rng.randint(1, 4)
    arena.plan({trial: {"what": "hang", "epoch": epoch, "attempts": [1]}})
    arena.start()
    wait_for(lambda: any(line.trial == trial and line.epoch == epoch for line in arena.truth()), 90)
    arena.struck()
    return calm


def stop_worker(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """SIGSTOP a worker."""
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 12))
    arena.busy_worker().suspend()
    arena.struck()
    return calm


def stop_driver(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """SIGSTOP the driver, start another, SIGCONT the first; the sweep is over when both are."""
    first = arena.start()
    arena.wait_acknowledged(rng.randint(2, 12))
    first.send_signal(signal.SIGSTOP)
    second, before = arena.start(), arena.acknowledged()
    wait_for(lambda: arena.acknowledged() >= before + 2, STUCK_S)
    first.send_signal(signal.SIGCONT)
    arena.struck()
    wait_for(lambda: first.poll() is not None and second.poll() is not None, 90)
    return calm


def terminate(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """SIGTERM or SIGINT: the driver leaves within 30 s, then another goes on."""
    arena.start()
    arena.wait_acknowledged(rng.randint(2, 12))
    arena.kill_driver(sign=rng.choice([signal.SIGTERM, signal.SIGINT]))
    if arena.processes():
        arena.broken.append(f"left after the driver: {[title(p)[:40] for p in arena.processes()]}")
    arena.start()
    arena.struck()
    return calm


def start_twice(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The same script started again while it runs; the sweep is over when both are."""
    first = arena.start()
    arena.wait_acknowledged(rng.randint(2, 8))
    second = arena.start()
    arena.struck()
    wait_for(lambda: first.poll() is not None and second.poll() is not None, 90)
    return calm


def jump(arena: Arena, rng: random.Random, calm: Expected) -> Expected:
    """The wall clock jumps an hour ahead and an hour back, in either order; then the driver is killed."""
    stamp = arena.root / "clock"
    stamp.write_text("0")
    path = os.pathsep.join([str(INJECT), arena.variables().get("PYTHONPATH", "")])
    arena.environment |= {dial.VARIABLE: str(stamp), "PYTHONPATH": path}
    arena.start()
    for seconds in rng.sample([HOUR_S, -HOUR_S], 2):
        arena.wait_acknowledged(arena.acknowledged() + rng.randint(2, 6))
        new = stamp.with_suffix(".new")
        new.write_text(str(seconds))
        new.replace(stamp)
        arena.struck()
    arena.kill_driver()
    arena.start()
    arena.struck()
    return calm


CASES: Final = [
    Case("F1", "kill -9 a trial's worker", kill_worker),
    Case("F2", "kill -9 a raylet", kill_raylet),
    Case("F3", "kill -9 the GCS", kill_head),
    Case("F4", "kill -9 the driver at random", kill_driver),
    Case("F13a", "a trial hangs", hang),
    Case("F13b", "SIGSTOP a worker", stop_worker),
    Case("F13c", "SIGSTOP the driver; a zombie comes back", stop_driver),
    Case("F14", "SIGTERM or SIGINT with grace", terminate),
    Case("F15", "the same sweep started twice", start_twice),
    Case("F16", "the clock jumps an hour ahead and back", jump),
]
