"""Every manifest and every build of them is what a strict API server takes."""

from __future__ import annotations

import re

import yaml

from chimera.core.mission import MissionFile
from tests.kuberay.manifests import (
    KUBERAY,
    all_pods,
    built,
    each_build,
    examples,
    named,
    of,
    restoring,
)
from tests.kuberay.schemas import check_manifest


@each_build
def test_a_build_is_what_a_strict_api_server_takes(name: str) -> None:
    documents = built(name)
    assert documents
    assert [problem for document in documents for problem in check_manifest(document)] == []


def test_the_examples_of_secrets_are_what_a_strict_api_server_takes() -> None:
    assert [problem for document in examples() for problem in check_manifest(document)] == []


def test_the_pod_of_a_restore_is_sound_and_holds_redis_volume() -> None:
    pod = restoring()
    assert check_manifest(pod) == []
    (server,) = of(built("base"), "StatefulSet")
    (claim,) = server["spec"]["volumeClaimTemplates"]
    (volume,) = pod["spec"]["volumes"]
    of_the_server = f"{claim['metadata']['name']}-{server['metadata']['name']}-0"
    assert volume["persistentVolumeClaim"]["claimName"] == of_the_server
    assert (
        pod["spec"]["securityContext"] | {"fsGroupChangePolicy": "OnRootMismatch"}
        == (server["spec"]["template"]["spec"]["securityContext"])
    )


@each_build
def test_a_build_names_each_object_once_and_all_stand_in_one_namespace(name: str) -> None:
    names = [named(document) for document in built(name)]
    assert len(names) == len(set(names))
    spaces = {document["metadata"].get("namespace") for document in built(name)} - {None}
    assert spaces == {"chimera-system"}


def test_every_file_of_manifests_is_part_of_a_build() -> None:
    kustomizations = sorted(KUBERAY.rglob("kustomization.yaml"))
    named_there = {
        (file.parent / entry).resolve()
        for file in kustomizations
        for entry in re.findall(r"[\w./-]+", file.read_text(encoding="utf-8"))
    }
    apart = {KUBERAY / "examples/secrets.yaml", KUBERAY / "examples/restore.yaml"}
    files = {file for file in KUBERAY.rglob("*") if file.is_file()} - set(kustomizations) - apart
    assert sorted(str(file) for file in files - named_there) == []


@each_build
def test_a_change_of_settings_makes_pods_anew(name: str) -> None:
    there = {one["metadata"]["name"] for one in of(built(name), "ConfigMap")}
    assert all(re.fullmatch(r"[a-z-]+-[a-z0-9]{10}", one) for one in there), "no hash of the content"


def test_every_image_of_ours_is_one_of_a_registry_but_on_the_laptop() -> None:
    """Kubernetes pulls: of `chimera:dev` no node can."""
    for name in ("overlays/prod", "overlays/shared", "examples"):
        images = {box["image"] for pod in all_pods(name) for box in pod.spec["containers"]}
        ours = {image for image in images if not image.startswith("redis:")}
        assert ours == {"registry.example.com/chimera:0.1.0"}, name


def test_the_ingress_leaves_to_the_gateway_how_much_it_takes() -> None:
    """A million inputs come in one request, line by line."""
    (ingress,) = of(built("base"), "Ingress")
    told = ingress["metadata"]["annotations"]
    assert told["nginx.ingress.kubernetes.io/proxy-body-size"] == "0"
    assert told["nginx.ingress.kubernetes.io/proxy-request-buffering"] == "off"


def test_the_example_of_a_mission_is_one() -> None:
    MissionFile.model_validate(
        yaml.safe_load((KUBERAY / "examples/mission.yaml").read_text(encoding="utf-8"))
    )
