"""A Ray cluster of several raylets in a process of its own: prints its address, lives until its input is closed."""

from __future__ import annotations

import sys
from typing import Final

from ray.cluster_utils import Cluster

WORKERS: Final = 3


def main() -> None:
    """A head that trains nothing, and three nodes of one CPU."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(WORKERS):
        cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
