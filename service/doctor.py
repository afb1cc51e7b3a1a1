"""Examines this machine as a place to run sweeps. What takes seconds to import is tried in processes of their own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

from cluster import kuberay
from cluster.backend import JobError
from service import settings
from service.server.settings import KUBE_TEMPLATE, KUBERAY
from service.sweeps.folders import every

PACKAGES: Final = ("tuneyard", "ray", "torch", "pytorch-lightning", "jsonargparse", "mlflow", "pydantic", "numpy")
_GIB: Final = 2**30
_LOW_DISK: Final = 5 * _GIB
_LOW_SHM: Final = _GIB // 2
_PROBE_TIMEOUT_S: Final = 120
_MARK: Final = "probe: "

# Each runs in a fresh Python; the last line it prints is an object.
_TORCH: Final = """
import torch
found = {"cuda": torch.version.cuda, "gpus": torch.cuda.device_count(), "threads": torch.get_num_threads()}
print("probe: " + json.dumps(found))
"""
_RAY: Final = """
import ray
from ray._private import utils
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as nvidia
print("probe: " + json.dumps({"cpus": utils.get_num_cpus(), "memory": utils.get_system_memory(),
    "gpus": nvidia.get_current_node_num_accelerators()}))
"""
_LIGHTNING: Final = """
import pytorch_lightning
print("probe: {}")
"""
_MLFLOW: Final = """
import pathlib, sqlite3, sys
import mlflow
store = pathlib.Path(sys.argv[1]) / "mlflow.db"
found = {"store": store.exists(), "runs": 0}
if store.exists():
    with sqlite3.connect(f"file:{store}?mode=ro", uri=True, timeout=10) as connection:
        found["runs"] = connection.execute("SELECT count(*) FROM runs").fetchone()[0]
print("probe: " + json.dumps(found))
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `error`: sweeps will fail; `warning`: they run, but not as one might think."""

    level: Literal["good", "warning", "error"]
    subject: str
    text: str

    def to_dict(self) -> dict[str, str]:
        """The finding as JSON."""
        return asdict(self)


def symbol(finding: Finding) -> str:
    """One character for a finding's level."""
    return {"good": "✓", "warning": "!", "error": "✗"}[finding.level]


def examine(home: Path) -> list[Finding]:
    """All findings, in a fixed order; takes some seconds, since it imports everything once."""
    checks: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _packages,
        _twins,
        lambda: _ray(_probe(_RAY, home)),
        lambda: _torch(_probe(_TORCH, home)),
        lambda: _simple("Lightning", _probe(_LIGHTNING, home)),
        lambda: _mlflow(_probe(_MLFLOW, home)),
        _variables,
        lambda: _kubernetes(settings.variables()),
        lambda: _folder(home),
        _shared_memory,
        lambda: _temporary(settings.temporary_folder()),
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        return [finding for found in pool.map(lambda check: list(check()), checks) for finding in found]


def _probe(code: str, home: Path) -> dict[str, Any]:
    """What `code` found out in a process of its own, or {"error": its last line}."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", "import json" + code, str(home)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {_PROBE_TIMEOUT_S} s"}
    answers = [line.removeprefix(_MARK) for line in done.stdout.splitlines() if line.startswith(_MARK)]
    if done.returncode or not answers:
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    found: dict[str, Any] = json.loads(answers[-1])
    return found


def _python() -> Iterator[Finding]:
    yield Finding("good", "Python", f"{sys.version.split()[0]} in {sys.prefix}")


def _packages() -> Iterator[Finding]:
    found, missing = [], []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    yield Finding("good", "packages", ", ".join(found))
    if missing:
        yield Finding("error", "packages", f"not installed: {', '.join(missing)}; install tuneyard again")


def _twins() -> Iterator[Finding]:
    try:
        twin = version("lightning")
    except PackageNotFoundError:
        return
    yield Finding(
        "warning",
        "Lightning",
        f"`lightning` {twin} stands beside `pytorch-lightning`: modules of the one are not modules of the other; "
        "uninstall the one that your code does not import",
    )


def _simple(subject: str, probe: dict[str, Any]) -> Iterator[Finding]:
    if "error" in probe:
        yield Finding("error", subject, f"cannot be imported: {probe['error']}")
    else:
        yield Finding("good", subject, "imports")


def _ray(probe: dict[str, Any]) -> Iterator[Finding]:
    if "error" in probe:
        yield Finding("error", "Ray", f"cannot be imported: {probe['error']}")
        return
    memory = probe["memory"] / _GIB
    yield Finding("good", "Ray", f"sees {probe['cpus']} CPUs, {probe['gpus']} GPUs, {memory:.1f} GiB of memory")


def _torch(probe: dict[str, Any]) -> Iterator[Finding]:
    if "error" in probe:
        yield Finding("error", "torch", f"cannot be imported: {probe['error']}")
    elif probe["cuda"] and not probe["gpus"]:
        text = (
            f"is built for CUDA {probe['cuda']} but finds no GPU: check the driver, or take a CPU build (it is smaller)"
        )
        yield Finding("warning", "torch", text)
    else:
        where = f"{probe['gpus']} GPUs with CUDA {probe['cuda']}" if probe["cuda"] else "CPU build"
        yield Finding("good", "torch", f"imports; {where}, {probe['threads']} threads")


def _mlflow(probe: dict[str, Any]) -> Iterator[Finding]:
    if "error" in probe:
        yield Finding("error", "MLflow", f"its store cannot be read: {probe['error']}")
    elif probe["store"]:
        yield Finding("good", "MLflow", f"its store answers and holds {probe['runs']} runs")
    else:
        yield Finding("good", "MLflow", "imports; its store is made by the first sweep")


def _variables() -> Iterator[Finding]:
    if settings.ray_address():
        text = f"RAY_ADDRESS={settings.ray_address()} is set; sweeps ignore it and start a Ray of their own"
        yield Finding("warning", "settings", text)
    if settings.tracking_uri():
        text = "MLFLOW_TRACKING_URI is set; sweeps ignore it: write `tracking: {uri: …}` into the sweep file"
        yield Finding("warning", "settings", text)


def _kubernetes(variables: Mapping[str, str]) -> Iterator[Finding]:
    """Whether a service could make RayJobs, where one is set up here."""
    if variables.get("cluster") != KUBERAY:
        return
    template = Path(variables.get("kube_template") or KUBE_TEMPLATE)
    try:
        place = kuberay.KubeRayBackend(
            kuberay.Location(template, variables.get("kube_namespace"), variables.get("kube_cluster"))
        )
        capacity = place.capacity()
        place.close()
    except JobError as error:
        yield Finding("error", "Kubernetes", str(error))
        return
    text = f"answers; {template} lets sweeps have {capacity.cpus:g} CPUs and {capacity.gpus:g} GPUs"
    yield Finding("good", "Kubernetes", text)


def _folder(home: Path) -> Iterator[Finding]:
    place = next(folder for folder in (home, *home.parents) if _is_seen(folder))
    if not os.access(place, os.W_OK | os.X_OK):
        yield Finding("error", "data", f"{place} cannot be written; choose another folder with --data-dir")
        return
    free = shutil.disk_usage(place).free
    text = f"{home}: {len(every(home))} sweeps, {free / _GIB:.0f} GiB free"
    yield Finding("warning" if free < _LOW_DISK else "good", "data", text)


def _is_seen(folder: Path) -> bool:
    """Whether it is there for us; what lies in somebody else's closed folder is not."""
    try:
        return folder.exists()
    except PermissionError:
        return False


def _shared_memory() -> Iterator[Finding]:
    shared = Path("/dev/shm")  # noqa: S108  # Ray's object store lives here on Linux
    if shared.exists() and (free := shutil.disk_usage(shared).free) < _LOW_SHM:
        text = f"{shared} has {free / 2**20:.0f} MiB free; with --shm-size=1g the container keeps Ray off the disk"
        yield Finding("warning", "memory", text)


def _temporary(folder: Path) -> Iterator[Finding]:
    if not os.access(folder, os.W_OK | os.X_OK):
        yield Finding("error", "temporary", f"{folder} cannot be written, and Ray keeps its sockets there; set TMPDIR")
