"""What the objects of a tenant's namespace are called: the same in each, so one page of commands fits all."""

from __future__ import annotations

import re
from collections.abc import Mapping

from chimera.core.tenant import check_name
from chimera.errors import ConfigurationError

LABEL = "chimera.dev/tenant"
"""Of the namespace, with the tenant as value: the hub's Redis lets in who is in a namespace that has it."""
COMPONENT, PART_OF = "app.kubernetes.io/component", "app.kubernetes.io/part-of"
SPACE = "kubernetes.io/metadata.name"
"""A label that every namespace has: its name."""
CLUSTER, GROUP = "spoke", "workers"
"""The RayCluster, and its group of workers. KubeRay looks for a Secret with Ray's token, a Role and a
RoleBinding under the cluster's name before it makes them."""
HEAD, WORKER = "spoke", "worker"
"""Pods by component, and the accounts that they run under."""
LOGIN, SECRETS, AUTHORITY = "chimera-redis-login", "chimera-secrets", "chimera-redis-ca"
"""The Secret with the spoke's login to Redis, that with what its agents and its model want, and the ConfigMap
with the authority of Redis' certificate. The last two need not be there."""
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_label(name: str, what: str) -> str:
    """The name, if Kubernetes takes it for a namespace.

    Raises:
        ConfigurationError: it does not.
    """
    if not DNS_LABEL.fullmatch(name):
        raise ConfigurationError(
            f"{what} {name!r} is no name for a namespace: use up to 63 lower-case letters, digits and "
            "hyphens, a letter or digit first and last"
        )
    return name


def namespace_of(tenant: str) -> str:
    """The namespace of a tenant, unless another is chosen.

    Raises:
        InvalidRequest: that is no name for a tenant.
        ConfigurationError: it is one, and Kubernetes takes it neither as a label nor in a namespace's name.
    """
    return f"tenant-{check_label(check_name(tenant), 'tenant')}"


def labels(component: str) -> Mapping[str, str]:
    """Of a pod."""
    return {COMPONENT: component, PART_OF: "chimera"}
