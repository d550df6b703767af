"""A RayCluster, as KubeRay 1.7 takes it: the fields that are used here."""

from __future__ import annotations

from typing import Literal

from chimera.core.kube.part import Metadata, Part
from chimera.core.kube.pod import ContainerSecurity, Mount, PodTemplate, Resources

RAY = "2.60.0"
"""The version in the image."""


class Auth(Part):
    """Whoever asks Ray anything needs a token. The operator makes it, in a Secret with the cluster's name."""

    mode: Literal["token"] = "token"


class AutoscalerOptions(Part):
    """Of the container that KubeRay puts beside Ray's head."""

    version: Literal["v2"] = "v2"
    idle_timeout_seconds: int
    upscaling_mode: Literal["Default"] = "Default"
    resources: Resources
    security_context: ContainerSecurity = ContainerSecurity()
    volume_mounts: tuple[Mount, ...]


class HeadGroup(Part):
    """Ray's head."""

    service_type: Literal["ClusterIP"] = "ClusterIP"
    ray_start_params: dict[str, str]
    template: PodTemplate


class WorkerGroup(Part):
    """Pods that come and go."""

    group_name: str
    replicas: int = 0
    min_replicas: int = 0
    max_replicas: int
    idle_timeout_seconds: int
    ray_start_params: dict[str, str]
    template: PodTemplate


class Upgrade(Part):
    """`Recreate`: when anything but numbers of pods changes, all pods are made anew."""

    type: Literal["Recreate"] = "Recreate"


class ClusterSpec(Part):
    """What there is to be."""

    ray_version: str = RAY
    suspend: bool
    auth_options: Auth = Auth()
    upgrade_strategy: Upgrade = Upgrade()
    enable_in_tree_autoscaling: Literal[True] = True
    autoscaler_options: AutoscalerOptions
    head_group_spec: HeadGroup
    worker_group_specs: tuple[WorkerGroup, ...]


class RayCluster(Part):
    """A tenant's own Ray."""

    api_version: Literal["ray.io/v1"] = "ray.io/v1"
    kind: Literal["RayCluster"] = "RayCluster"
    metadata: Metadata
    spec: ClusterSpec
