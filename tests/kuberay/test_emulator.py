"""The emulator refuses what a real API server refuses: else a test against it would show nothing."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.serving.local.ports import LOOPBACK
from tests.kuberay import patches, pods, quota
from tests.kuberay.apiserver import JSON_PATCH, ApiServer
from tests.kuberay.cluster import shipped, workers
from tests.kuberay.objects import Objects, Refusal
from tests.kuberay.schemas import check_manifest

CLUSTER = shipped()
GROUP = workers(CLUSTER["spec"])
REPLICAS = f"/spec/workerGroupSpecs/{CLUSTER['spec']['workerGroupSpecs'].index(GROUP)}/replicas"
PATH = "/apis/ray.io/v1/namespaces/chimera-system/rayclusters/chimera"
PODS = "/api/v1/namespaces/chimera-system/pods"


@pytest.fixture
def objects() -> Objects:
    return Objects(CLUSTER)


@pytest.fixture
def api(objects: Objects, tmp_path: Path) -> Iterator[httpx.Client]:
    """A caller that the API server lets in."""
    with ApiServer(objects, tmp_path) as server:
        context = ssl.create_default_context(cafile=str(server.authority))
        context.load_cert_chain(server.certificate, server.key)
        with httpx.Client(
            base_url=f"https://{LOOPBACK}:{server.port}", verify=context, trust_env=False
        ) as client:
            yield client


def worker(number: int) -> dict[str, Any]:
    return pods.described(CLUSTER, GROUP, number)


def test_the_raycluster_of_the_autoscalers_test_is_one_that_kuberay_takes() -> None:
    assert check_manifest(CLUSTER) == []


def test_what_ray_start_is_given_is_what_kuberays_shell_would_make_of_the_group() -> None:
    assert pods.options(GROUP) == [
        "--num-cpus=0",
        "--object-store-memory=100000000",
        '--resources={"swarm": 1}',
    ]
    assert pods.options({**GROUP, "rayStartParams": {}}) == ["--num-cpus=1"], "else by the limit"


@pytest.mark.parametrize(
    ("operation", "becomes"),
    [
        ({"op": "replace", "path": "/a/0", "value": 9}, {"a": [9, 2], "b": {}}),
        ({"op": "replace", "path": "/b/missing", "value": 9}, {"a": [1, 2], "b": {"missing": 9}}),
        ({"op": "add", "path": "/a/-", "value": 9}, {"a": [1, 2, 9], "b": {}}),
        ({"op": "remove", "path": "/a/1"}, {"a": [1], "b": {}}),
        ({"op": "test", "path": "/a/1", "value": 2}, {"a": [1, 2], "b": {}}),
        ({"op": "test", "path": "/a/1", "value": 3}, None),
        ({"op": "replace", "path": "/no/where", "value": 9}, None),
        ({"op": "replace", "path": "/a/7", "value": 9}, None),
        ({"op": "move", "path": "/a/0"}, None),
    ],
)
def test_a_patch_is_applied_whole_or_refused(
    operation: dict[str, Any], becomes: dict[str, Any] | None
) -> None:
    before: dict[str, Any] = {"a": [1, 2], "b": {}}
    if becomes is None:
        with pytest.raises(patches.Unprocessable):
            patches.apply(before, [{"op": "add", "path": "/c", "value": 1}, operation])
    else:
        assert patches.apply(before, [operation]) == becomes
    assert before == {"a": [1, 2], "b": {}}


@pytest.mark.parametrize(
    ("written", "number"),
    [("500m", "0.5"), (2, "2"), ("1Gi", "1073741824"), ("1k", "1000"), ("3Mi", "3145728")],
)
def test_quantities_are_read_as_kubernetes_writes_them(written: str | int, number: str) -> None:
    assert quota.quantity(written) == Decimal(number)


@pytest.mark.parametrize(
    ("hard", "said"),
    [
        ({"limits.cpu": "2", "memory": "3Gi", "pods": "2", "count/secrets": "0"}, None),
        ({"cpu": "1500m"}, "exceeded quota: q, requested: requests.cpu=1, used: requests.cpu=1, limited: "),
        ({"pods": "1"}, "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"),
        ({"limits.ephemeral-storage": "1Gi"}, "failed quota: q: must specify limits.ephemeral-storage"),
    ],
)
def test_a_quota_lets_in_what_fits_and_says_what_does_not(hard: dict[str, str], said: str | None) -> None:
    found = quota.refusal({"metadata": {"name": "q"}, "spec": {"hard": hard}}, worker(2), [worker(1)])
    assert (found is None) if said is None else (said in (found or "")), found


def test_a_pod_that_has_ended_takes_nothing_of_the_quota(objects: Objects) -> None:
    objects.quota = {"metadata": {"name": "q"}, "spec": {"hard": {"pods": "1"}}}
    objects.create_pod(worker(1))
    with pytest.raises(Refusal, match="403 Forbidden"):
        objects.create_pod(worker(2))
    objects.update_pod(worker(1)["metadata"]["name"], status={"phase": "Failed"})
    objects.create_pod(worker(2))


def test_who_brings_no_certificate_is_not_let_in(api: httpx.Client, tmp_path: Path) -> None:
    stranger = ssl.create_default_context(cafile=str(tmp_path / "authority.pem"))
    with (
        httpx.Client(base_url=api.base_url, verify=stranger, trust_env=False) as client,
        pytest.raises(httpx.HTTPError),
    ):
        client.get(PATH)
    assert api.get(PATH).json()["metadata"]["name"] == "chimera"


def test_a_patch_changes_the_raycluster_and_its_version(api: httpx.Client) -> None:
    before = api.get(PATH).json()
    operation = {"op": "replace", "path": REPLICAS, "value": 2}
    after = api.patch(PATH, json=[operation], headers={"Content-Type": JSON_PATCH})
    assert after.json() == api.get(PATH).json()
    groups = (workers(document["spec"])["replicas"] for document in (before, after.json()))
    assert tuple(groups) == (0, 2), "none is KubeRay's default"
    versions = [document["metadata"]["resourceVersion"] for document in (before, after.json())]
    assert int(versions[0]) < int(versions[1])


def test_what_is_wrong_is_refused_with_kubernetes_codes(api: httpx.Client) -> None:
    nowhere = [{"op": "replace", "path": "/spec/no/where", "value": 1}]
    for answer, code in (
        (api.get(f"{PATH}-other"), 404),
        (api.get(f"{PODS}/none"), 404),
        (api.patch(PODS, json=nowhere, headers={"Content-Type": JSON_PATCH}), 404),
        (api.patch(PATH, json=nowhere, headers={"Content-Type": JSON_PATCH}), 422),
        (api.patch(PATH, json={}, headers={"Content-Type": "application/merge-patch+json"}), 415),
    ):
        assert (answer.status_code, answer.json()["kind"], answer.json()["code"]) == (code, "Status", code)


def test_pods_are_listed_by_their_labels(api: httpx.Client, objects: Objects) -> None:
    objects.create_pod(pods.head(CLUSTER))
    objects.create_pod(worker(1))

    def names(selector: str) -> list[str]:
        listed = api.get(PODS, params={"labelSelector": selector}).json()["items"]
        return [pod["metadata"]["name"] for pod in listed]

    assert names("ray.io/cluster=chimera") == ["chimera-head", "chimera-workers-worker-1"]
    assert names("ray.io/cluster=chimera,ray.io/group=workers") == ["chimera-workers-worker-1"]
    assert names("ray.io/cluster=another") == []
