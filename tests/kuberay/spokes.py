"""Tenants' bundles as `chimera tenant render` makes them, for the checks that all manifests get."""

from __future__ import annotations

from typing import Any

from chimera.core.kube.bundle import bundle
from chimera.core.kube.names import namespace_of
from chimera.core.kube.network import Opening
from chimera.core.kube.quantity import GI, Size
from chimera.core.kube.request import Request
from tests.kuberay.manifests import Document, Pod, pods

TENANT = "acme"


def rendered(**more: Any) -> list[Document]:
    """One tenant's, of 200 agents in 13 worker pods at the most."""
    asked: dict[str, Any] = {
        "tenant": TENANT,
        "namespace": namespace_of(TENANT),
        "quota": Size(16_000, 32 * GI),
        "max_agents": 200,
        "slots": 16,
        "image": "chimera:dev",
        "openings": (Opening("203.0.113.7/32", 443), Opening("2001:db8::/64", 443)),
    }
    return list(bundle(Request(**{**asked, **more})).manifests())


def cluster(documents: list[Document]) -> Document:
    """Its RayCluster."""
    (found,) = [one for one in documents if one["kind"] == "RayCluster"]
    return found


def all_pods(documents: list[Document]) -> list[Pod]:
    """Head and worker."""
    return list(pods(cluster(documents)))
