"""A Ray cluster of several raylets on one machine, in a process of its own, for as long as its standard input is open.

`python -m tests.chaos.cluster_host RAYLETS` prints the address once the cluster is up.
"""

from __future__ import annotations

import sys
from typing import Final

from ray.cluster_utils import Cluster

OBJECT_STORE_BYTES: Final = 100 * 2**20


def main(raylets: int) -> int:
    """Start a head without CPUs and `raylets` nodes with one each, and wait."""
    # Ray turns 127.0.0.1 into the public address of the machine; this one stays what it is.
    here = {"node_ip_address": "127.0.0.2", "object_store_memory": OBJECT_STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={**here, "num_cpus": 0, "include_dashboard": False})
    for _ in range(raylets):
        cluster.add_node(**here, num_cpus=1)
    sys.stdout.write(f"{cluster.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    cluster.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
