"""The commands of docs/kubernetes.md that make the secrets make what the manifests name."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from typing import Any

import pytest

from tests.kuberay.manifests import ROOT, examples, kubectl, read

KUBECTL = """#!/bin/sh
# `apply` needs a server; `create` shows here what it would send to one.
if [ "$1" = apply ]; then exit 0; fi
exec "$REAL" "$@" --dry-run=client -o yaml
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The secrets that the first block of "Installing" makes, by name."""
    tools = tmp_path_factory.mktemp("tools")
    (tools / "kubectl").write_text(KUBECTL, encoding="utf-8")
    (tools / "kubectl").chmod(0o755)
    text = (ROOT / "docs/kubernetes.md").read_text(encoding="utf-8")
    block = re.search(r"## Installing.*?```sh\n(.*?)```", text, re.DOTALL)
    assert block
    done = subprocess.run(
        ["bash", "-eu", "-c", block[1].replace("kubectl -n", "echo ---; kubectl -n")],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env={"PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin", "REAL": str(kubectl()), "HOME": str(tools)},
    )
    assert done.returncode == 0, done.stderr
    return {one["metadata"]["name"]: dict(one) for one in read(done.stdout)}


def test_they_have_the_keys_of_the_examples(made: dict[str, dict[str, Any]]) -> None:
    for example in examples():
        name = example["metadata"]["name"]
        if name not in {"chimera-client", "chimera-model"}:  # of a tenant's key, and of a provider's
            assert made[name]["data"].keys() == example["stringData"].keys(), name
            assert made[name]["metadata"]["namespace"] == "chimera-system"


def test_the_users_are_those_of_the_example_with_passwords_of_their_own(
    made: dict[str, dict[str, Any]],
) -> None:
    data = {key: base64.b64decode(value).decode() for key, value in made["chimera-redis"]["data"].items()}
    (example,) = [one["stringData"] for one in examples() if one["metadata"]["name"] == "chimera-redis"]
    assert re.sub(r"#\w+", "#", data["users.acl"]) == re.sub(r"#\w+", "#", example["users.acl"])
    digests = re.findall(r"#(\w+)", data["users.acl"])
    assert digests == [hashlib.sha256(data[key].encode()).hexdigest() for key in ("password", "gcs-password")]
    assert data["password"] != data["gcs-password"]
    assert len(base64.b64decode(made["chimera-hub"]["data"]["redis-secret"])) >= 32
