"""What pods count for in a namespace's quota, computed from manifests alone, as Kubernetes says it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chimera.core.kube.quantity import Size

Document = Mapping[str, Any]
AUTOSCALER = "autoscaler"


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Those of a kind."""
    return [one for one in documents if one["kind"] == kind]


def cluster(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """The RayCluster's spec."""
    (found,) = of_kind(documents, "RayCluster")
    spec: dict[str, Any] = found["spec"]
    return spec


def head(spec: Document) -> dict[str, Any]:
    """The head's pod, with the container that KubeRay puts into it."""
    pod = dict(spec["headGroupSpec"]["template"]["spec"])
    pod["containers"] = [*pod["containers"], {"name": AUTOSCALER, **spec["autoscalerOptions"]}]
    return pod


def takes(pod: Document, kind: str = "limits") -> Size:
    """All containers, and the sidecars among those that come first."""
    total = Size(0, 0)
    sidecars = [one for one in pod.get("initContainers", ()) if one.get("restartPolicy") == "Always"]
    for container in (*pod["containers"], *sidecars):
        total += size(container["resources"][kind])
    return total


def size(amounts: Mapping[str, str]) -> Size:
    """``{"cpu": "1", "memory": "2Gi"}``."""
    return Size.parse(amounts["cpu"], amounts["memory"], flags=("cpu", "memory"))


def given(documents: list[dict[str, Any]], kind: str = "limits") -> Size:
    """What the namespace's quota lets through."""
    (quota,) = of_kind(documents, "ResourceQuota")
    hard = quota["spec"]["hard"]
    return size({unit: hard[f"{kind}.{unit}"] for unit in ("cpu", "memory")})
