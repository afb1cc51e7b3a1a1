"""A Ray cluster of several raylets on one machine, in a process of its own, for as long as its standard input is open.

`python -m tests.chaos.cluster_host RAYLETS` prints the address once the cluster is up; with `--dashboard` also the URL
of its dashboard, where jobs can be submitted.
"""

from __future__ import annotations

import argparse
import socket
import sys
from typing import Any, Final

from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES: Final = 100 * 2**20
HERE: Final = "127.0.0.2"  # Ray turns 127.0.0.1 into the public address of the machine; this one stays what it is


def main() -> int:
    """Start a head without CPUs and nodes with one each, and wait."""
    parser = argparse.ArgumentParser()
    parser.add_argument("raylets", type=int)
    parser.add_argument("--dashboard", action="store_true")
    asked = parser.parse_args()
    node = {"node_ip_address": HERE, "object_store_memory": OBJECT_STORE_BYTES}
    pages = _dashboard() if asked.dashboard else {"include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, **pages, "num_cpus": 0})
    for _ in range(asked.raylets):
        cluster.add_node(**node, num_cpus=1)
    url = f" http://{HERE}:{pages['dashboard_port']}" if asked.dashboard else ""
    sys.stdout.write(f"{cluster.address}{url}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()
    return 0


def _dashboard() -> dict[str, Any]:
    """A dashboard on ports that are free: Ray's own are fixed numbers, which another Ray of this machine may have."""
    with socket.socket() as one, socket.socket() as two:
        for each in (one, two):
            each.bind((HERE, 0))
        ports = one.getsockname()[1], two.getsockname()[1]
    return {
        "include_dashboard": True,
        "dashboard_host": HERE,
        "dashboard_port": ports[0],
        "dashboard_agent_listen_port": ports[1],
    }


if __name__ == "__main__":
    sys.exit(main())
