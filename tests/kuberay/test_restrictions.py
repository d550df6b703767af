"""What a pod may do: as little as it needs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from chimera.settings import PREFIX, Settings, is_secret
from tests.kuberay.manifests import (
    Pod,
    all_pods,
    amount,
    built,
    each_build,
    each_deployment,
    of,
)


@each_build
def test_every_pod_is_as_restricted_as_its_namespace_demands(name: str) -> None:
    for space in of(built(name), "Namespace"):
        assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in all_pods(name):
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"], pod.owner
        assert security["runAsUser"] >= 10_000, pod.owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys(), pod.owner
        allowed = {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected"}
        assert {kind for volume in pod.spec["volumes"] for kind in volume} - {"name"} <= allowed, pod.owner
        for container in _boxes(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.owner


def _boxes(pod: Pod) -> list[Mapping[str, Any]]:
    return [*pod.spec["containers"], *pod.spec.get("initContainers", ())]


@each_build
def test_every_container_has_probes_and_bounds(name: str) -> None:
    for pod in all_pods(name):
        for container in pod.spec["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), pod.owner
            resources = container["resources"]
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, pod.owner
            for unit in ("cpu", "memory"):
                asked, most = amount(resources["requests"][unit]), amount(resources["limits"][unit])
                assert asked <= most, pod.owner
            assert resources["requests"]["memory"] == resources["limits"]["memory"], pod.owner


@each_deployment
def test_only_the_head_gets_a_token_of_the_api_server(name: str) -> None:
    given = [pod.owner for pod in all_pods(name) if pod.spec["automountServiceAccountToken"]]
    assert given == ["RayService/chimera/head"]
    assert not any(account["automountServiceAccountToken"] for account in of(built(name), "ServiceAccount"))


@each_deployment
def test_no_secret_of_the_hub_is_in_a_workers_pod(name: str) -> None:
    for pod in all_pods(name):
        if pod.labels["app.kubernetes.io/component"] == "worker":
            secret = [volume["secret"] for volume in pod.spec["volumes"] if "secret" in volume]
            assert [one["items"] for one in secret] == [[{"key": "ca.crt", "path": "ca.crt"}]]
            assert "env" not in pod.spec["containers"][0]


@each_build
def test_no_value_of_a_variable_is_a_secret(name: str) -> None:
    secret = {f"{PREFIX}{field.upper()}" for field, info in Settings.model_fields.items() if is_secret(info)}
    for pod in all_pods(name):
        for container in pod.spec["containers"]:
            assert not {variable["name"] for variable in container.get("env", ())} & secret, pod.owner


@pytest.mark.parametrize(
    ("name", "groups"), [("overlays/dev", {"workers"}), ("overlays/shared", {"workers", "spares"})]
)
def test_pods_with_agents_mount_no_volume_of_the_fleet(name: str, groups: set[str]) -> None:
    """What is stored there is of all tenants; workers read and write Redis."""
    mounts = {
        pod.group["groupName"]: [
            volume for volume in pod.spec["volumes"] if "persistentVolumeClaim" in volume
        ]
        for pod in all_pods(name)
        if pod.group.get("groupName") in {"workers", "spares"}
    }
    assert mounts == {group: [] for group in groups}
