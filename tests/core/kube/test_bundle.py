"""A tenant's bundle fits its quota, is the same each time, and holds nothing that is secret."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings

from chimera.core.kube.bundle import bundle
from chimera.core.kube.names import LABEL, namespace_of
from chimera.core.kube.network import Opening
from chimera.core.kube.quantity import GI, Size
from chimera.core.kube.request import Request
from chimera.errors import ConfigurationError, InvalidRequest
from tests.core.kube.counting import cluster, given, head, of_kind, takes
from tests.core.kube.requests import asked, requests

DNS = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
KUBERAY_WAITS = Size(200, 256 << 20)
"""What KubeRay's own init container of a worker takes, at the most, before the worker does."""


@settings(deadline=None)
@drawn(requests())
def test_whatever_is_rendered_fits_its_quota_under_names_that_kubernetes_takes(request: Request) -> None:
    try:
        made = bundle(request).manifests()
    except ConfigurationError:
        return
    spec = cluster(made)
    (group,) = spec["workerGroupSpecs"]
    worker = group["template"]["spec"]
    for kind in ("requests", "limits"):
        assert (takes(head(spec), kind) + takes(worker, kind) * group["maxReplicas"]).within(
            given(made, kind)
        )
    assert group["minReplicas"] == group["replicas"] == 0
    assert KUBERAY_WAITS.within(takes(worker, "requests"))
    assert request.max_agents <= group["maxReplicas"] * request.slots < request.max_agents + request.slots
    (quota,) = of_kind(made, "ResourceQuota")
    assert quota["spec"]["hard"]["pods"] == str(group["maxReplicas"] + 1)
    for one in made:
        assert DNS.fullmatch(one["metadata"]["name"])
        assert one["metadata"].get("namespace", request.namespace) == request.namespace
    assert DNS.fullmatch(request.namespace)
    assert len({(one["kind"], one["metadata"]["name"]) for one in made}) == len(made)


@settings(deadline=None)
@drawn(requests())
def test_the_same_request_gives_the_same_text(request: Request) -> None:
    def text() -> str:
        return json.dumps(bundle(request).manifests())

    try:
        assert text() == text()
    except ConfigurationError:
        return


def test_ten_tenants_of_a_hundred_agents_each_are_a_thousand_that_fit() -> None:
    made = [bundle(asked(f"team-{at}", cpu=9_000, memory=18 * GI, max_agents=100)) for at in range(10)]
    places, pods, whole = 0, 0, Size(0, 0)
    for one in made:
        spec = cluster(one.manifests())
        (group,) = spec["workerGroupSpecs"]
        places += group["maxReplicas"] * one.request.slots
        pods += group["maxReplicas"]
        whole += takes(head(spec)) + takes(group["template"]["spec"]) * group["maxReplicas"]
    assert sum(one.request.max_agents for one in made) == 1_000 <= places
    assert (pods, whole) == (70, Size(85_000, 170 * GI)), "docs/spokes.md says so"
    assert whole.within(Size(9_000, 18 * GI) * 10)
    assert len({one.request.namespace for one in made}) == 10


def test_one_tenant_of_a_thousand_agents_fits_what_it_was_given() -> None:
    made = bundle(asked(cpu=64_500, memory=129 * GI, max_agents=1_000)).manifests()
    (group,) = cluster(made)["workerGroupSpecs"]
    assert group["maxReplicas"] == 63
    assert (takes(head(cluster(made))) + takes(group["template"]["spec"]) * 63) == given(made)


def test_the_hubs_redis_lets_the_namespace_in_by_its_label() -> None:
    (space,) = of_kind(bundle(asked("acme")).manifests(), "Namespace")
    assert space["metadata"]["labels"][LABEL] == "acme"
    assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("name", ["acme-", "-acme", "Acme", "a.b", "a" * 40, ""])
def test_a_name_that_no_namespace_can_have_is_refused(name: str) -> None:
    with pytest.raises((ConfigurationError, InvalidRequest), match="no name for"):
        namespace_of(name)


def test_a_suspended_tenant_differs_in_that_alone() -> None:
    from dataclasses import replace

    awake, asleep = bundle(asked()).manifests(), bundle(replace(asked(), suspend=True)).manifests()
    assert cluster(asleep).pop("suspend") is True
    assert cluster(awake).pop("suspend") is False
    assert awake == asleep


def test_what_the_document_says_to_change_in_place_changes_no_pod() -> None:
    from dataclasses import replace

    before = replace(asked(), openings=(Opening("203.0.113.7/32", 443),))
    after = replace(asked(cpu=20_000, memory=64 * GI), api_server=("10.96.0.1/32",))
    assert cluster(bundle(before).manifests()) == cluster(bundle(after).manifests())
    more = bundle(replace(after, max_agents=216)).manifests()
    assert head(cluster(more)) != head(cluster(bundle(after).manifests())), "the spoke is told the number"


def test_the_heads_containers_share_what_a_ray_driver_needs() -> None:
    pod = head(cluster(bundle(asked()).manifests()))
    assert pod["shareProcessNamespace"] is True
    (spoke,) = pod["initContainers"]
    assert spoke["restartPolicy"] == "Always", "KubeRay makes the pod's own policy Never"
    ray, autoscaler = pod["containers"]
    assert (
        _mounts(spoke, "/tmp/ray") == _mounts(ray, "/tmp/ray") == _mounts(autoscaler, "/tmp/ray") == ["ray"]
    )
    assert _mounts(spoke, "/dev/shm") == _mounts(ray, "/dev/shm") == ["shm"]


def test_the_token_of_the_api_server_is_mounted_into_the_autoscaler_alone() -> None:
    made = bundle(asked()).manifests()
    spec = cluster(made)
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]
    pod = head(spec)
    (volume,) = [one["name"] for one in pod["volumes"] if "projected" in one]
    everybody = [*pod["containers"], *pod["initContainers"], *worker["containers"]]
    having = [one["name"] for one in everybody if volume in {mount["name"] for mount in one["volumeMounts"]}]
    assert having == ["autoscaler"]
    assert not pod["automountServiceAccountToken"]
    assert not worker["automountServiceAccountToken"]
    assert not any(one["automountServiceAccountToken"] for one in of_kind(made, "ServiceAccount"))


def test_the_autoscalers_role_is_named_as_kuberay_looks_for_it_and_reaches_its_cluster_alone() -> None:
    made = bundle(asked()).manifests()
    (role,), (binding,) = of_kind(made, "Role"), of_kind(made, "RoleBinding")
    (ray,) = of_kind(made, "RayCluster")
    name = ray["metadata"]["name"]
    assert role["metadata"]["name"] == binding["metadata"]["name"] == binding["roleRef"]["name"] == name
    account = ray["spec"]["headGroupSpec"]["template"]["spec"]["serviceAccountName"]
    assert [one["name"] for one in binding["subjects"]] == [account]
    assert {(tuple(rule["resources"]), tuple(rule["verbs"])) for rule in role["rules"]} == {
        (("pods",), ("get", "list")),
        (("rayclusters",), ("get", "patch")),
    }
    (changed,) = [rule for rule in role["rules"] if "patch" in rule["verbs"]]
    assert changed["resourceNames"] == [name]


def test_workers_have_no_secret_and_the_spoke_its_own_from_files() -> None:
    made = bundle(asked()).manifests()
    spec = cluster(made)
    worker = spec["workerGroupSpecs"][0]["template"]["spec"]
    assert not any("secret" in volume for volume in worker["volumes"])
    (spoke,) = head(spec)["initContainers"]
    values = {one["name"]: one["value"] for one in spoke["env"]}
    places = {mount["mountPath"]: mount["name"] for mount in spoke["volumeMounts"]}
    volumes = {one["name"]: one["secret"] for one in head(spec)["volumes"] if "secret" in one}
    directory, _, key = values["CHIMERA_REDIS_URL_FILE"].rpartition("/")
    assert volumes[places[directory]]["items"] == [{"key": key, "path": key}]
    directory, _, key = values["RAY_AUTH_TOKEN_PATH"].rpartition("/")
    assert volumes[places[directory]]["items"] == [{"key": key, "path": key}]
    own = volumes[places[f"{values['CHIMERA_TENANT_SECRETS_DIR']}/acme"]]
    assert "items" not in own, "whatever is in it is the tenant's"
    assert own["optional"]
    assert not {"secrets", "redis", "ray-token"} & {
        one["name"] for one in spec["headGroupSpec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    }
    assert of_kind(made, "Secret") == []


def _mounts(container: dict[str, Any], path: str) -> list[str]:
    return [one["name"] for one in container["volumeMounts"] if one["mountPath"] == path]
