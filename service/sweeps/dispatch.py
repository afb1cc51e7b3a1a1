"""Turns a sweep's folder into the job that drives it: the one way onto a backend, for a command and for the service."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from cluster.backend import JobRequest
from service.settings import python_path
from service.sweeps.folders import Sweep

RESTARTS: Final = 3  # of a driver that was killed: the next one goes on from the ledger
JOINED: Final = "auto"  # the Ray cluster that the job runs on
ANYWHERE: Final = "."  # a working directory that every machine has
_ROOT: Final = Path(__file__).parents[2]


def job_request(
    home: Path,
    sweep: Sweep,
    attempt: int,
    *,
    ray_address: str | None = None,
    pip: tuple[str, ...] = (),
) -> JobRequest:
    """The job of driver number `attempt` (from 1) of `sweep`.

    Without `ray_address` the driver is a process of this machine with a Ray of its own. With one it joins that cluster:
    HOST:PORT, or `JOINED` for the cluster of the backend that it is submitted to, whose `python` it then runs under.
    `pip` are requirements to install beside what the cluster has. A sweep of an object store shares no folder with the
    cluster: its driver brings its code there.
    """
    # -P keeps the user's folder off the driver's path, where a `service` of theirs would hide ours.
    driver = ("-P", "-m", "service.tuning.driver", str(sweep.place), "--home", str(home))
    folder = str(sweep.launch().get("folder") or sweep.place) if isinstance(sweep.place, Path) else ANYWHERE
    if ray_address is None:
        own: dict[str, str | None] = {"PYTHONPATH": python_path(_ROOT), "RAY_ADDRESS": None}
        return JobRequest(sweep.id, (sys.executable, *driver), folder, attempt, own, restarts=RESTARTS, pip=pip)
    return JobRequest(
        sweep.id,
        ("python", *driver, "--ray-address", ray_address),
        folder,
        attempt,
        {"PYTHONPATH": str(_ROOT)},
        restarts=RESTARTS,
        pip=pip,
        metadata={"tuneyard_sweep": sweep.id},
    )
