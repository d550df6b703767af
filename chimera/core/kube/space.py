"""The namespace, and what all of it may take."""

from __future__ import annotations

from typing import Literal

from chimera.core.kube.names import LABEL, PART_OF
from chimera.core.kube.part import Metadata, Part
from chimera.core.kube.quantity import MI, Size
from chimera.core.kube.sizing import HEAD, RAY_HEAD, Sizing

SECURITY = "pod-security.kubernetes.io"
INJECTED = Size(250, 512 * MI)
"""For a container that says nothing of its own: ours all do, a service mesh's may not."""
NONE_OF = (
    "count/rayjobs.ray.io",
    "count/rayservices.ray.io",
    "count/jobs.batch",
    "count/deployments.apps",
    "count/statefulsets.apps",
    "persistentvolumeclaims",
    "services.loadbalancers",
    "services.nodeports",
)
"""What a tenant's namespace has no need of."""


class Namespace(Part):
    """A namespace."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["Namespace"] = "Namespace"
    metadata: Metadata


class QuotaSpec(Part):
    """What may be there at the most, by Kubernetes' names."""

    hard: dict[str, str]


class ResourceQuota(Part):
    """The tenant's all in all."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["ResourceQuota"] = "ResourceQuota"
    metadata: Metadata
    spec: QuotaSpec


class Range(Part):
    """What one of a kind may have, and what it gets that asks for nothing."""

    type: Literal["Pod", "Container"]
    max: dict[str, str]
    default: dict[str, str] | None = None
    default_request: dict[str, str] | None = None


class RangeSpec(Part):
    """By kind."""

    limits: tuple[Range, ...]


class LimitRange(Part):
    """What one pod, and one container, may have."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["LimitRange"] = "LimitRange"
    metadata: Metadata
    spec: RangeSpec


def namespace(name: str, tenant: str) -> Namespace:
    """Where pods may do nothing but what they must, and the hub's Redis may be reached from."""
    restricted = {f"{SECURITY}/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
    return Namespace(metadata=Metadata(name=name, labels={LABEL: tenant, PART_OF: "chimera", **restricted}))


def quota(name: str, sizing: Sizing) -> ResourceQuota:
    """What was given to the tenant, as requests and as limits; and no pod beside the head and its workers."""
    given = sizing.quota.quantities()
    hard = {f"{kind}.{unit}": amount for unit, amount in given.items() for kind in ("requests", "limits")}
    hard |= {"pods": str(sizing.replicas + 1), "count/rayclusters.ray.io": "1"}
    hard |= dict.fromkeys(NONE_OF, "0")
    return ResourceQuota(metadata=Metadata(name="tenant", namespace=name), spec=QuotaSpec(hard=hard))


def limits(name: str, sizing: Sizing) -> LimitRange:
    """No pod is larger than the largest of ours, and no container."""
    worker = sizing.worker
    pod = Size(max(HEAD.cpu, worker.cpu), max(HEAD.memory, worker.memory))
    one = Size(max(RAY_HEAD.cpu, worker.cpu), max(RAY_HEAD.memory, worker.memory))
    silent = INJECTED.quantities()
    ranges = (
        Range(type="Pod", max=pod.quantities()),
        Range(type="Container", max=one.quantities(), default=silent, default_request=silent),
    )
    return LimitRange(metadata=Metadata(name="tenant", namespace=name), spec=RangeSpec(limits=ranges))
