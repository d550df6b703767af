"""Accounts: none may ask the API server anything but the autoscaler, and that about its own cluster alone."""

from __future__ import annotations

from typing import Literal

from chimera.core.kube.names import CLUSTER, HEAD
from chimera.core.kube.part import Metadata, Part

RBAC = "rbac.authorization.k8s.io"


class ServiceAccount(Part):
    """Whom pods run as."""

    api_version: Literal["v1"] = "v1"
    kind: Literal["ServiceAccount"] = "ServiceAccount"
    metadata: Metadata
    automount_service_account_token: bool = False


class Rule(Part):
    """What may be done to what."""

    api_groups: tuple[str, ...]
    resources: tuple[str, ...]
    resource_names: tuple[str, ...] | None = None
    verbs: tuple[str, ...]


class Role(Part):
    """A list of it."""

    api_version: Literal["rbac.authorization.k8s.io/v1"] = "rbac.authorization.k8s.io/v1"
    kind: Literal["Role"] = "Role"
    metadata: Metadata
    rules: tuple[Rule, ...]


class RoleReference(Part):
    """A role of the same namespace."""

    api_group: str = RBAC
    kind: str = "Role"
    name: str


class Subject(Part):
    """An account of the same namespace."""

    kind: str = "ServiceAccount"
    name: str
    namespace: str


class RoleBinding(Part):
    """Who may do it."""

    api_version: Literal["rbac.authorization.k8s.io/v1"] = "rbac.authorization.k8s.io/v1"
    kind: Literal["RoleBinding"] = "RoleBinding"
    metadata: Metadata
    role_ref: RoleReference
    subjects: tuple[Subject, ...]


def account(namespace: str, name: str) -> ServiceAccount:
    """An account whose pods get no token unasked."""
    return ServiceAccount(metadata=Metadata(name=name, namespace=namespace))


def autoscaler(namespace: str) -> tuple[Role, RoleBinding]:
    """What Ray's autoscaler does: it reads its RayCluster and the pods, and changes how many there are to be.

    Under the cluster's name: KubeRay finds them there and leaves them, where it would else make a Role that
    may change every pod and every cluster of the namespace.
    """
    rules = (
        Rule(api_groups=("",), resources=("pods",), verbs=("get", "list")),
        Rule(
            api_groups=("ray.io",),
            resources=("rayclusters",),
            resource_names=(CLUSTER,),
            verbs=("get", "patch"),
        ),
    )
    named = Metadata(name=CLUSTER, namespace=namespace)
    return (
        Role(metadata=named, rules=rules),
        RoleBinding(
            metadata=named,
            role_ref=RoleReference(name=CLUSTER),
            subjects=(Subject(name=HEAD, namespace=namespace),),
        ),
    )
