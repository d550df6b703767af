"""Pods: the parts of their templates that are used here, and what every container of ours may do."""

from __future__ import annotations

from typing import Any

from chimera.core.kube.part import Metadata, Part

USER = 10_001
"""The image's user and group, `chimera_user`, by number: a policy cannot tell what a name is."""
READABLE = 0o440
"""Of a mounted Secret: its group is the pod's."""


class Variable(Part):
    """Of an environment."""

    name: str
    value: str


class Mount(Part):
    """Where a container sees a volume."""

    name: str
    mount_path: str
    read_only: bool | None = None


class Resources(Part):
    """What a container asks for, and what it gets at the most."""

    requests: dict[str, str]
    limits: dict[str, str]


class Capabilities(Part):
    """Of the kernel."""

    drop: tuple[str, ...] = ("ALL",)


class ContainerSecurity(Part):
    """As pod security `restricted` asks, and a root file system that nobody writes."""

    allow_privilege_escalation: bool = False
    read_only_root_filesystem: bool = True
    capabilities: Capabilities = Capabilities()


class Http(Part):
    """A request of the kubelet."""

    path: str
    port: int


class Command(Part):
    """A command that the kubelet runs in the container."""

    command: tuple[str, ...]


class Probe(Part):
    """What the kubelet asks, and how often: times in seconds."""

    http_get: Http | None = None
    exec: Command | None = None
    initial_delay_seconds: int | None = None
    period_seconds: int
    timeout_seconds: int
    failure_threshold: int | None = None


class Port(Part):
    """That a container listens on."""

    name: str
    container_port: int


class Container(Part):
    """A container."""

    name: str
    image: str
    image_pull_policy: str = "IfNotPresent"
    restart_policy: str | None = None
    """`Always` makes an init container a sidecar: it starts first, is restarted, and ends last."""
    args: tuple[str, ...] | None = None
    ports: tuple[Port, ...] | None = None
    env: tuple[Variable, ...]
    readiness_probe: Probe | None = None
    liveness_probe: Probe | None = None
    resources: Resources
    security_context: ContainerSecurity = ContainerSecurity()
    volume_mounts: tuple[Mount, ...]


class Volume(Part):
    """A volume; what it is of, as Kubernetes spells it."""

    name: str
    empty_dir: dict[str, str] | None = None
    config_map: dict[str, Any] | None = None
    secret: dict[str, Any] | None = None
    projected: dict[str, Any] | None = None


class Seccomp(Part):
    """Which system calls."""

    type: str = "RuntimeDefault"


class PodSecurity(Part):
    """Of all containers of a pod."""

    run_as_non_root: bool = True
    run_as_user: int = USER
    run_as_group: int = USER
    fs_group: int = USER
    fs_group_change_policy: str = "OnRootMismatch"
    seccomp_profile: Seccomp = Seccomp()


class PodSpec(Part):
    """A pod."""

    service_account_name: str
    automount_service_account_token: bool = False
    enable_service_links: bool = False
    share_process_namespace: bool | None = None
    termination_grace_period_seconds: int
    security_context: PodSecurity = PodSecurity()
    init_containers: tuple[Container, ...] | None = None
    containers: tuple[Container, ...]
    volumes: tuple[Volume, ...]


class PodTemplate(Part):
    """What pods are made of."""

    metadata: Metadata
    spec: PodSpec


def scratch(name: str, size: str) -> Volume:
    """A directory that goes with the pod."""
    return Volume(name=name, empty_dir={"sizeLimit": size})


def shared_memory(size: str) -> Volume:
    """`/dev/shm`, which counts as memory of who writes it."""
    return Volume(name="shm", empty_dir={"medium": "Memory", "sizeLimit": size})


def files_of_secret(name: str, secret: str, keys: tuple[str, ...]) -> Volume:
    """Keys of a Secret as files of the same names."""
    items = [{"key": key, "path": key} for key in keys]
    return Volume(name=name, secret={"secretName": secret, "defaultMode": READABLE, "items": items})


def variables(values: dict[str, str]) -> tuple[Variable, ...]:
    """An environment, as given."""
    return tuple(Variable(name=name, value=value) for name, value in values.items())
