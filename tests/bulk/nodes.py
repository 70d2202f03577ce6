"""Some nodes of Ray on this computer, as a process: says where they are, and kills one for each line read."""

import os
import random
import sys

os.environ |= {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # so that they listen on 127.0.0.1 alone
    "RAY_worker_niceness": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}

from ray.cluster_utils import Cluster

SETTINGS = {"num_cpus": 1, "include_dashboard": False, "object_store_memory": 80 << 20}


def main(count: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args=SETTINGS)
    nodes = [cluster.add_node(**SETTINGS) for _ in range(count - 1)]
    random.seed(0)
    print(cluster.address, flush=True)
    for _ in sys.stdin:
        cluster.remove_node(nodes.pop(random.randrange(len(nodes))), allow_graceful=False)
        nodes.append(cluster.add_node(**SETTINGS, wait=False))
        print("killed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
