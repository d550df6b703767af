"""The RayCluster that the emulator is given: the one that is shipped, quicker and smaller."""

from __future__ import annotations

import copy
from typing import Any

from tests.kuberay.manifests import built, cluster_of, of

OVERLAY, WORKERS = "overlays/shared", "workers"
MOST, IDLE_S = 2, 4


def shipped() -> dict[str, Any]:
    """What KubeRay's operator makes of the RayService in `kuberay/overlays/shared`, but for three
    things: there are at most two pods of workers, they go after four idle seconds, and there is no spare."""
    (service,) = of(built(OVERLAY), "RayService")
    spec: dict[str, Any] = copy.deepcopy(dict(cluster_of(service) or {}))
    spec["workerGroupSpecs"] = [group for group in spec["workerGroupSpecs"] if group["groupName"] != "spares"]
    workers(spec).update(maxReplicas=MOST, idleTimeoutSeconds=IDLE_S)
    metadata = {name: service["metadata"][name] for name in ("name", "namespace")}
    return {"apiVersion": "ray.io/v1", "kind": "RayCluster", "metadata": metadata, "spec": spec}


def workers(spec: dict[str, Any]) -> dict[str, Any]:
    """The group of a RayCluster's `spec` that runs tenants' workers."""
    (group,) = (group for group in spec["workerGroupSpecs"] if group["groupName"] == WORKERS)
    found: dict[str, Any] = group
    return found
