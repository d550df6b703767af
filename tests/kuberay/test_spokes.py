"""A tenant's bundle is one that Kubernetes takes, names what is there, and may do as little as it needs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

from chimera.cli.render import text
from chimera.core.kube.spoke import SPOKE_GRACE_S
from chimera.settings import PREFIX, GivenSettings
from tests.kuberay.manifests import amount, built, named, of, read
from tests.kuberay.schemas import check_manifest
from tests.kuberay.spokes import TENANT, all_pods, cluster, rendered

CLUSTER = "spoke"
MADE_BY_OTHERS = {
    ("Secret", "chimera-redis-login"),  # docs/spokes.md, "Installing"
    ("Secret", "chimera-secrets"),
    ("ConfigMap", "chimera-redis-ca"),
    ("Secret", CLUSTER),  # KubeRay: Ray's token
    ("ConfigMap", "kube-root-ca.crt"),  # Kubernetes, in each namespace
}


@pytest.mark.parametrize("suspend", [False, True])
def test_every_object_is_one_that_an_api_server_takes(suspend: bool) -> None:
    documents = rendered(suspend=suspend)
    assert [problem for one in documents for problem in check_manifest(one)] == []
    assert {"Namespace", "NetworkPolicy", "RayCluster", "ResourceQuota"} <= {one["kind"] for one in documents}


def test_a_field_that_kuberay_does_not_know_would_be_found() -> None:
    planted = copy.deepcopy(dict(cluster(rendered())))
    planted["spec"]["autoscalerOptions"]["idleTerminationOptions"] = {}
    assert any("idleTerminationOptions" in problem for problem in check_manifest(planted))
    planted = copy.deepcopy(dict(cluster(rendered())))
    planted["spec"]["headGroupSpec"]["template"]["spec"]["initContainers"][0]["restart"] = "Always"
    assert any("restart" in problem for problem in check_manifest(planted))


def test_the_hubs_redis_lets_in_whoever_has_the_namespaces_label() -> None:
    (space,) = of(rendered(), "Namespace")
    (policy,) = [
        one for one in of(built("overlays/prod"), "NetworkPolicy") if one["metadata"]["name"] == "redis"
    ]
    asked = [
        expression["key"]
        for rule in policy["spec"]["ingress"]
        for peer in rule["from"]
        for expression in peer.get("namespaceSelector", {}).get("matchExpressions", ())
    ]
    assert asked == ["chimera.dev/tenant"]
    assert space["metadata"]["labels"]["chimera.dev/tenant"] == TENANT
    (rule,) = next(one for one in of(rendered(), "NetworkPolicy") if one["metadata"]["name"] == "redis")[
        "spec"
    ]["egress"]
    (hub,) = of(built("overlays/prod"), "StatefulSet")
    selected = rule["to"][0]
    assert selected["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": hub["metadata"]["namespace"]
    }
    assert (
        selected["podSelector"]["matchLabels"].items()
        <= hub["spec"]["template"]["metadata"]["labels"].items()
    )


def test_every_account_volume_secret_and_config_map_that_a_pod_names_is_there_or_known_to_come() -> None:
    documents = rendered()
    accounts = {one["metadata"]["name"] for one in of(documents, "ServiceAccount")}
    for pod in all_pods(documents):
        assert pod.spec["serviceAccountName"] in accounts
        volumes = {volume["name"] for volume in pod.spec["volumes"]}
        boxes = [*pod.spec["containers"], *pod.spec.get("initContainers", ())]
        mounted = {mount["name"] for box in boxes for mount in box["volumeMounts"]}
        assert mounted <= volumes
        for volume in pod.spec["volumes"]:
            assert {*_named(volume)} <= MADE_BY_OTHERS


def _named(volume: Mapping[str, Any]) -> list[tuple[str, str]]:
    parts = [volume, *volume.get("projected", {}).get("sources", ())]
    return [("Secret", part["secret"]["secretName"]) for part in parts if "secret" in part] + [
        ("ConfigMap", part["configMap"]["name"]) for part in parts if "configMap" in part
    ]


def test_every_policy_is_of_pods_that_are_there() -> None:
    documents = rendered()
    components = {pod.labels["app.kubernetes.io/component"] for pod in all_pods(documents)}
    for policy in of(documents, "NetworkPolicy"):
        chosen = policy["spec"]["podSelector"].get("matchLabels", {})
        assert set(chosen.values()) <= components, named(policy)
        rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
        assert all(rule.get("from") or rule.get("to") for rule in rules), named(policy)


def test_every_pod_is_restricted_and_every_container_bounded() -> None:
    for pod in all_pods(rendered()):
        security = pod.spec["securityContext"]
        assert (security["runAsNonRoot"], security["runAsUser"]) == (True, 10001)
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for box in [*pod.spec["containers"], *pod.spec.get("initContainers", ())]:
            assert box["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            asked, most = box["resources"]["requests"], box["resources"]["limits"]
            assert asked["memory"] == most["memory"]
            assert amount(asked["cpu"]) <= amount(most["cpu"])
            for volume in pod.spec["volumes"]:
                assert {*volume} - {"name"} <= {"emptyDir", "secret", "configMap", "projected"}


def test_the_workers_are_those_of_a_shared_cluster_but_for_what_is_mounted() -> None:
    """What Ray is told, and what the kubelet asks: two topologies, one kind of worker."""
    (service,) = of(built("overlays/shared"), "RayService")
    groups = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (shared,) = [group for group in groups if group["groupName"] == "workers"]
    (own,) = cluster(rendered())["spec"]["workerGroupSpecs"]
    assert own["rayStartParams"] == shared["rayStartParams"]
    assert own["idleTimeoutSeconds"] == shared["idleTimeoutSeconds"]
    (mine,), (theirs,) = (one["template"]["spec"]["containers"] for one in (own, shared))
    for field in ("name", "ports", "readinessProbe", "livenessProbe", "securityContext"):
        assert mine[field] == theirs[field], field


def test_what_the_spoke_is_told_are_settings_that_fit_each_other() -> None:
    (spoke,) = cluster(rendered())["spec"]["headGroupSpec"]["template"]["spec"]["initContainers"]
    told = {
        one["name"].removeprefix(PREFIX).lower(): one["value"]
        for one in spoke["env"]
        if PREFIX in one["name"]
    }
    assert (told.pop("spoke_tenant"), told.pop("redis_url_file")) == (TENANT, "/etc/chimera/spoke/url")
    settings = GivenSettings(**told)
    assert settings.max_workers * settings.slots >= 200
    assert settings.worker_memory_mb == 2_048 - 768
    pod = cluster(rendered())["spec"]["headGroupSpec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= 60, "Ray's head drains first, then the spoke"
    assert settings.spoke_grace_s <= SPOKE_GRACE_S < pod["terminationGracePeriodSeconds"]


def test_rays_own_autoscaler_takes_each_worker_pod_for_one_place_of_a_swarm() -> None:
    found = _derive_autoscaling_config_from_ray_cr(copy.deepcopy(dict(cluster(rendered()))))
    kinds = found["available_node_types"]
    worker, head = kinds["workers"], kinds[found["head_node_type"]]
    assert kinds.keys() == {"workers", found["head_node_type"]}
    assert (worker["min_workers"], worker["max_workers"], worker["idle_timeout_s"]) == (0, 13, 60)
    assert {name: worker["resources"].get(name) for name in ("CPU", "swarm")} == {"CPU": 0, "swarm": 1}
    assert head["max_workers"] == 0
    assert "swarm" not in head["resources"], "no worker of agents beside the spoke"
    assert head["resources"]["CPU"] == 0


def test_what_the_command_writes_is_read_back_by_a_strict_reader() -> None:
    documents = rendered()
    written = text([dict(one) for one in documents])
    assert read(written) == documents
    assert "\t" not in written
    assert yaml.safe_load(written.split("---\n")[1])["kind"] == "Namespace"
