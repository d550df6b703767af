"""The bundle: every object of a tenant's namespace but its Secrets, in the order they are applied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chimera.core.kube import access, network, space
from chimera.core.kube.names import HEAD, WORKER, check_label, namespace_of
from chimera.core.kube.part import Part
from chimera.core.kube.request import Request
from chimera.core.kube.sizing import Sizing, sized
from chimera.core.kube.spoke import raycluster
from chimera.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Bundle:
    """A tenant's objects, and the sizes they were made by."""

    request: Request
    sizing: Sizing
    objects: tuple[Part, ...]

    def manifests(self) -> list[dict[str, Any]]:
        """As the API server takes them. The same request gives the same, byte for byte once written."""
        return [one.manifest() for one in self.objects]


def bundle(request: Request) -> Bundle:
    """All of a tenant's namespace.

    Raises:
        ConfigurationError: the pods do not fit the quota, or a namespace cannot be called so or is the hub's.
        InvalidRequest: a tenant cannot be called so.
    """
    namespace_of(request.tenant)
    name = check_label(request.namespace, "--namespace")
    hub = check_label(request.hub, "--hub-namespace")
    if name == hub:
        raise ConfigurationError(
            f"--namespace {name!r} is the hub's, and policies have one name in both: the tenant's would "
            "replace the hub's; leave it out, and it is tenant-NAME"
        )
    if name == "default" or name.startswith("kube-"):
        raise ConfigurationError(
            f"--namespace {name!r} is the cluster's own, and the bundle would deny it its network and bound "
            "it; leave it out, and it is tenant-NAME"
        )
    sizing = sized(
        quota=request.quota, worker=request.worker, slots=request.slots, max_agents=request.max_agents
    )
    objects = (
        space.namespace(name, request.tenant),
        space.quota(name, sizing),
        space.limits(name, sizing),
        access.account(name, HEAD),
        access.account(name, WORKER),
        *access.autoscaler(name),
        *network.policies(name, hub=hub, api_server=request.api_server, openings=request.openings),
        raycluster(request, sizing),
    )
    return Bundle(request, sizing, objects)
