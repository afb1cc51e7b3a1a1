"""A Ray cluster of several raylets on one machine, in a process of its own, for as long as its standard input is open.

`python -m tests.chaos.cluster_host RAYLETS` prints the address once the cluster is up. It listens where every Ray does,
on the machine's own address, since `ray.init` turns a loopback address into that one; its token keeps strangers out.
"""

from __future__ import annotations

import sys
from typing import Final

from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES: Final = 100 * 2**20


def main(raylets: int) -> int:
    """Start a head without CPUs and `raylets` nodes with one each, and wait."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(raylets):
        cluster.add_node(num_cpus=1, object_store_memory=OBJECT_STORE_BYTES)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
