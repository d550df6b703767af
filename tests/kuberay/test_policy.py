"""Linters of policy find nothing in what is built, and would find it.

checkov reads the manifests, hadolint the Dockerfile. They live in an environment of their own, which
`bin/policy` makes.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.kuberay import spokes
from tests.kuberay.manifests import BUILT, ROOT, Document, all_pods, built, pods, restoring, tools

LET_BE = {
    # Images are named by tag: their digest is that of your registry (components/production).
    "CKV_K8S_43",
    # A tag that is fixed need not be pulled at each start, and a registry that is away then stops none.
    "CKV_K8S_15",
}
"""Checks of checkov that do not hold here."""
MEANT = {
    # The autoscaler beside Ray's head needs its token.
    "CKV_K8S_38 Pod.chimera-system.rayservice-chimera-head",
    # The pod of a restore sleeps: there is nothing to probe.
    "CKV_K8S_8 Pod.chimera-system.chimera-restore",
    "CKV_K8S_9 Pod.chimera-system.chimera-restore",
}
"""Findings that are meant: check and pod."""
pytestmark = pytest.mark.timeout(300)


def findings(documents: list[Document], directory: Path) -> set[str]:
    """What checkov says of these: `CHECK Kind.namespace.name`."""
    file = directory / "built.yaml"
    file.write_text(yaml.safe_dump_all([json.loads(json.dumps(one)) for one in documents]), encoding="utf-8")
    done = subprocess.run(
        [
            tools() / "checkov",
            "--framework",
            "kubernetes",
            "--skip-download",
            "--output",
            "json",
            "--file",
            file,
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env={**os.environ, "LOG_LEVEL": "CRITICAL"},
    )
    said = json.loads(done.stdout)
    assert said["summary"]["parsing_errors"] == 0
    looked_at = {found["resource"] for found in said["results"]["passed_checks"]}
    assert {_resource(one) for one in documents if one["kind"] in {"Pod", "StatefulSet"}} <= looked_at
    return {
        f"{found['check_id']} {found['resource']}"
        for found in said["results"]["failed_checks"]
        if found["check_id"] not in LET_BE
    }


def _resource(document: Document) -> str:
    return f"{document['kind']}.{document['metadata']['namespace']}.{document['metadata']['name']}"


def as_pods(documents: list[Document]) -> list[Document]:
    """The pods of KubeRay's kinds, whose templates checkov does not know, each as a pod."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": pod.owner.replace("/", "-").lower(),
                "namespace": "chimera-system",
                "labels": dict(pod.labels),
            },
            "spec": pod.spec,
        }
        for document in documents
        if document["apiVersion"].startswith("ray.io/")
        for pod in pods(document)
    ]


def plain(documents: list[Document]) -> list[Document]:
    return [document for document in documents if not document["apiVersion"].startswith("ray.io/")]


def everything() -> list[Document]:
    """All that the builds hold, each once."""
    found = {
        json.dumps(document, sort_keys=True): document
        for name in BUILT
        for document in [*plain(built(name)), *as_pods(built(name))]
    }
    found["restoring"] = restoring()
    return list(found.values())


def test_checkov_finds_nothing_in_any_build(tmp_path: Path) -> None:
    assert findings(everything(), tmp_path) == MEANT


def test_checkov_finds_nothing_in_a_tenants_bundle(tmp_path: Path) -> None:
    documents = spokes.rendered()
    made = [*plain(documents), *as_pods(documents)]
    assert len([one for one in made if one["kind"] == "Pod"]) == 2
    assert findings(made, tmp_path) == set()


def _run_as_root(pod: dict[str, Any]) -> None:
    pod["spec"]["securityContext"].update(runAsNonRoot=False, runAsUser=0)


def _keep_capabilities(pod: dict[str, Any]) -> None:
    del pod["spec"]["containers"][0]["securityContext"]["capabilities"]


def _be_privileged(pod: dict[str, Any]) -> None:
    pod["spec"]["containers"][0]["securityContext"]["privileged"] = True


def _mount_the_host(pod: dict[str, Any]) -> None:
    pod["spec"]["hostNetwork"] = True


def _need_no_bounds(pod: dict[str, Any]) -> None:
    del pod["spec"]["containers"][0]["resources"]


PLANTED = {
    "CKV_K8S_40": _run_as_root,
    "CKV_K8S_37": _keep_capabilities,
    "CKV_K8S_16": _be_privileged,
    "CKV_K8S_19": _mount_the_host,
    "CKV_K8S_13": _need_no_bounds,
}
"""What each check is there to find."""


def test_checkov_finds_what_is_planted(tmp_path: Path) -> None:
    (head, *_) = as_pods(built("base"))
    planted: list[Document] = []
    for check, plant in PLANTED.items():
        pod = copy.deepcopy(dict(head))
        pod["metadata"]["name"] = check.replace("_", "-").lower()
        plant(pod)
        planted.append(pod)
    found = findings(planted, tmp_path)
    assert {f"{check} Pod.chimera-system.{check.replace('_', '-').lower()}" for check in PLANTED} <= found


def test_every_pod_of_every_build_was_looked_at() -> None:
    looked_at = {one["metadata"]["name"] for one in everything() if one["kind"] in {"Pod", "StatefulSet"}}
    owners = {pod.owner.replace("/", "-").lower() for name in BUILT for pod in all_pods(name)}
    assert {name.removeprefix("statefulset-") for name in owners} | {"chimera-restore"} == looked_at


UNPINNED = {"DL3008"}
"""Debian takes old versions out of its archive: a Dockerfile that names one cannot be built a month later."""


def hadolint(file: Path) -> list[str]:
    """What hadolint says of a Dockerfile."""
    done = subprocess.run(
        [tools() / "hadolint", "--format", "json", *(f"--ignore={code}" for code in UNPINNED), file],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert not done.stderr, done.stderr
    return [f"{found['line']}: {found['code']} {found['message']}" for found in json.loads(done.stdout)]


DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile*"))


def test_hadolint_finds_nothing_in_any_dockerfile() -> None:
    assert DOCKERFILES
    assert [problem for file in DOCKERFILES for problem in hadolint(file)] == []


def test_hadolint_finds_what_is_planted(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM python:latest\nRUN cd /tmp && pip install ray\nUSER root\n", encoding="utf-8")
    assert {problem.split()[1] for problem in hadolint(file)} >= {"DL3007", "DL3042", "DL3002"}
