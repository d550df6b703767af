"""Ray's own autoscaler on one machine: nodes come as workers wait for places, and go when they are idle.

It is the autoscaler of any Ray cluster, with the provider that Ray ships for one machine: its nodes are
processes beside the head. On a real cluster nothing of this is used: there the cluster's own provider
adds machines.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chimera.serving.local.ray_head import OBJECT_STORE_BYTES

HEAD_ID = "f" * 51 + "00000"
"""The head's node id, which the provider has to know."""
PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
INTERVAL_S = 1

ENVIRONMENT = {
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": str(INTERVAL_S),
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
}
"""Of the head and of what it starts; each further node gets an id of its own."""


def write(path: Path, *, address: str, nodes: int, places: int, idle_s: float) -> Path:
    """Write the autoscaler's configuration.

    Args:
        address: the head's GCS, host:port.
        nodes: how many there may be beside the head.
        places: workers one of them may run.
        idle_s: a node without any worker for so long ends.
    """
    path.write_text(json.dumps(_configuration(address, nodes, places, idle_s)), encoding="utf-8")
    return path


def _configuration(address: str, nodes: int, places: int, idle_s: float) -> dict[str, Any]:
    node = {"CPU": 0, "swarm": places, "object_store_memory": OBJECT_STORE_BYTES}
    return {
        "cluster_name": "local",
        "max_workers": nodes,
        "upscaling_speed": 1000,
        "idle_timeout_minutes": idle_s / 60,
        "provider": {
            "type": "external",
            "module": PROVIDER,
            "launch_multiple": True,
            "gcs_address": address,
            "head_node_id": HEAD_ID,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "swarm": {
                "resources": node,
                "node_config": {},
                "min_workers": 0,
                "max_workers": nodes,
                "idle_timeout_s": idle_s,
            },
        },
        # Ray asks for all of these, and uses none here.
        "auth": {},
        "file_mounts": {},
        "docker": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
    }
