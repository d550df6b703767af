"""The check of manifests finds what it is there to find."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tests.kuberay import schemas
from tests.kuberay.schemas import check_manifest

POD = {
    "containers": [{"name": "ray", "image": "chimera:dev", "ports": [{"containerPort": 6380, "name": "gcs"}]}]
}
CLUSTER: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayCluster",
    "metadata": {"name": "swarm", "namespace": "tenant-acme"},
    "spec": {
        "rayVersion": "2.60.0",
        "headGroupSpec": {"rayStartParams": {"port": "6380"}, "template": {"spec": POD}},
        "workerGroupSpecs": [
            {
                "groupName": "workers",
                "minReplicas": 0,
                "maxReplicas": 3,
                "template": {"spec": copy.deepcopy(POD)},
            }
        ],
    },
}
SERVICE: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayService",
    "metadata": {"name": "hub"},
    "spec": {"serveConfigV2": "applications: []", "rayClusterConfig": CLUSTER["spec"]},
}
JOB: dict[str, Any] = {
    "apiVersion": "ray.io/v1",
    "kind": "RayJob",
    "metadata": {"name": "mission"},
    "spec": {"entrypoint": "python -m chimera.mission", "clusterSelector": {"ray.io/cluster": "swarm"}},
}
SET: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "StatefulSet",
    "metadata": {"name": "redis"},
    "spec": {
        "serviceName": "redis",
        "selector": {"matchLabels": {"app": "redis"}},
        "template": {"metadata": {"labels": {"app": "redis"}}, "spec": POD},
    },
}
SOUND = {"cluster": CLUSTER, "service": SERVICE, "job": JOB, "set": SET}


def put(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *way, last = path.split("/")
        held: Any = document
        for step in way:
            held = held[int(step)] if isinstance(held, list) else held[step]
        held[last] = value

    return change


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_manifest_passes(name: str) -> None:
    assert check_manifest(SOUND[name]) == []


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("cluster", put("spec/headGroupSpec/rayStartParam", {}), "rayStartParam"),
        ("cluster", put("spec/workerGroupSpecs/0/minReplicas", "none"), "minReplicas"),
        ("cluster", put("spec/workerGroupSpecs/0/idleTerminationOptions", {}), "idleTerminationOptions"),
        (
            "cluster",
            put("spec/workerGroupSpecs/0/template/spec/containers/0/imagePullpolicy", "Never"),
            "Pullp",
        ),
        ("cluster", put("spec/headGroupSpec/rayStartParams/port", 6380), "port"),
        ("cluster", put("metadata/label", {}), "label"),
        ("cluster", put("kind", "RayClusters"), "no such kind"),
        ("cluster", put("apiVersion", "ray.io/v2"), "no such kind"),
        ("cluster", put("spec/gcsFaultToleranceOptions", {"backend": "etcd"}), "backend"),
        ("service", put("spec/upgradeStrategy", {"type": 1}), "1"),
        ("service", put("spec/rayClusterConfig/enableInTreeAutoscaling", "true"), "enableInTreeAutoscaling"),
        ("job", put("spec/entryPoint", "x"), "entryPoint"),
        ("job", put("spec/backoffLimit", "three"), "backoffLimit"),
        ("set", put("spec/replica", 1), "replica"),
        ("set", put("spec/template/spec/containers/0/ports/0/containerPort", "6380"), "containerPort"),
        ("set", put("kind", "StatefulSets"), "no such kind"),
        ("set", put("metadata/labels", ["app"]), "labels"),
        ("set", put("metadata", {}), "metadata/name"),
        ("set", put("apiVersion", None), "apiVersion"),
    ],
)
def test_a_planted_violation_is_found(name: str, change: Callable[[dict[str, Any]], None], said: str) -> None:
    document = copy.deepcopy(SOUND[name])
    change(document)
    problems = check_manifest(document)
    assert problems
    assert any(said in problem for problem in problems)


def test_every_problem_is_told_with_its_place() -> None:
    document = copy.deepcopy(CLUSTER)
    put("spec/suspended", True)(document)
    put("spec/workerGroupSpecs/0/maxReplicas", "3")(document)
    first, second = check_manifest(document)
    assert first.startswith("RayCluster/swarm: spec: ")
    assert second.startswith("RayCluster/swarm: spec/workerGroupSpecs/0/maxReplicas: ")


def test_two_variables_of_one_name_are_found() -> None:
    document = copy.deepcopy(CLUSTER)
    named = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    put("spec/headGroupSpec/template/spec/initContainers", [{"name": "init", "env": named}])(document)
    (problem,) = check_manifest(document)
    assert problem.endswith("two items with the same name: A")


def test_without_the_definitions_the_check_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(schemas.VARIABLE)
    schemas._definitions.cache_clear()
    schemas._custom.cache_clear()
    with pytest.raises(AssertionError, match="KUBERAY_CRDS is not set: let it name a folder"):
        check_manifest(CLUSTER)
