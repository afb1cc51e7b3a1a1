"""A Ray whose autoscaler makes and removes nodes on this machine, as Ray's own tests have them (fake multi-node).

`ray.cluster_utils.AutoscalingCluster` is that, too, but ends every Ray of the machine first and needs a file that the
wheel does not have. So the same head is started beside others, on ports of its own.
"""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from cluster import ray_head

HEAD_ID = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
IDLE_MINUTES = 0.1


@contextmanager
def growing(most: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[ray_head.RayHead]:
    """A head without CPUs, and up to `most` nodes with one each while something waits for them."""
    folder = Path(tempfile.mkdtemp(prefix="tyg"))  # short: sockets live beneath it
    ports = ray_head._free_ports(len(ray_head._PORTS))
    monkeypatch.setattr(ray_head, "_free_ports", lambda _count: ports)
    address = f"{ray_head.LOOPBACK}:{ports[0]}"
    (folder / "autoscaling.json").write_text(json.dumps(_config(most, address)))
    for name, value in (
        ("AUTOSCALER_UPDATE_INTERVAL_S", "1"),
        ("RAY_FAKE_CLUSTER", "1"),
        ("RAY_enable_autoscaler_v2", "1"),
        ("RAY_CLOUD_INSTANCE_ID", HEAD_ID),
        ("RAY_OVERRIDE_NODE_ID_FOR_TESTING", HEAD_ID),
        ("RAY_health_check_period_ms", "500"),
        ("RAY_health_check_failure_threshold", "4"),
    ):
        monkeypatch.setenv(name, value)
    options = {"num-cpus": 0, "autoscaling-config": str(folder / "autoscaling.json")}
    head = ray_head._start(folder, options)  # type: ignore[arg-type]  # options of `ray start`, whatever their type
    try:
        assert ray_head._answers(head, ray_head.START_S), ray_head._tail(folder)
        yield head
    finally:
        ray_head._end(folder, head)
        shutil.rmtree(folder)


def kill_a_node(head: ray_head.RayHead) -> None:
    """One of the nodes dies with all that runs there, as a spot instance does."""
    mine = psutil.Process(head.pid).environ()[ray_head.MARK_VARIABLE]
    raylets = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            found = process.environ()
            is_node = found.get("RAY_OVERRIDE_NODE_ID_FOR_TESTING") != HEAD_ID
            if process.name() == "raylet" and found.get(ray_head.MARK_VARIABLE) == mine and is_node:
                raylets.append(process)
    victim = secrets.choice(raylets)
    for child in [victim, *victim.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def _config(most: int, address: str) -> dict[str, object]:
    node = {"resources": {"CPU": 1, "object_store_memory": 100 * 2**20}, "node_config": {}}
    commands = ("initialization", "setup", "head_setup", "worker_setup", "head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "growing",
        "max_workers": most,
        "provider": {
            "type": "external",  # by its own name Ray would look for defaults in a file that the wheel does not have
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD_ID,
            "gcs_address": address,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {**node, "min_workers": 0, "max_workers": most},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 4.0,
        "idle_timeout_minutes": IDLE_MINUTES,
        "auth": {"ssh_user": "nobody"},
        "docker": {},
        **{f"{name}_commands": [] for name in commands},
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
