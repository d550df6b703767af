"""`chimera tenant render` as it is typed: what it writes, where, and what it refuses."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.conftest import Done, Shell
from tests.kuberay.manifests import kubectl

FITTING = ("--cpu", "16", "--memory", "32Gi", "--max-agents", "200")


async def rendered(shell: Shell, *more: str, name: str = "acme") -> Done:
    return await shell("tenant", "render", name, *FITTING, *more)


def objects(text: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text))


async def test_a_bundle_is_yaml_on_stdout_and_its_size_is_told_beside(shell: Shell) -> None:
    done = await rendered(shell)
    assert done.code == 0
    assert [one["kind"] for one in objects(done.out)][:3] == ["Namespace", "ResourceQuota", "LimitRange"]
    assert "up to 13 worker pods of 16 agents, each 1 CPU and 2 GiB" in done.err
    assert "at rest it keeps the head's pod: 0.5 CPU and 3 GiB asked for" in done.err


async def test_a_second_run_writes_the_same_bytes_whatever_secrets_are_around(shell: Shell) -> None:
    planted = "x1" * 20
    around = {
        "CHIMERA_REDIS_URL": f"redis://operator:{planted}@redis:6379/0",
        "CHIMERA_REDIS_SECRET": planted,
        "CHIMERA_MODEL_API_KEY": planted,
    }
    first = await rendered(shell)
    second = await rendered(Shell(shell.directory, {**shell.environment, **around}))
    assert first.out == second.out
    assert planted not in second.out + second.err


async def test_json_is_one_list_that_kubectl_takes_and_holds_the_same(shell: Shell) -> None:
    listed = (await rendered(shell, "-o", "json")).document
    assert (listed["apiVersion"], listed["kind"]) == ("v1", "List")
    assert listed["items"] == objects((await rendered(shell)).out)


async def test_a_folder_builds_with_kustomize_to_the_same_objects(shell: Shell) -> None:
    done = await rendered(shell, "--dir", "acme")
    assert (done.code, done.out) == (0, "")
    folder = shell.directory / "acme"
    whole = objects((await rendered(shell)).out)
    assert sorted(map(_plain, _built(folder))) == sorted(map(_plain, whole))
    written = _files(folder)
    await rendered(shell, "--dir", "acme")
    assert _files(folder) == written
    # Nor does another bundle leave a file of this one behind.
    await rendered(shell, "--egress", "203.0.113.7/32:443", "--suspend", "--dir", "acme")
    assert _files(folder).keys() == written.keys()


async def test_what_is_patched_in_a_folder_beside_it_outlives_the_next_render(shell: Shell) -> None:
    own = shell.directory / "own"
    own.mkdir()
    patch = '[{"op": "add", "path": "/metadata/labels/team", "value": "red"}]'
    (own / "kustomization.yaml").write_text(
        f"resources: [../acme]\npatches: [{{target: {{kind: Namespace}}, patch: '{patch}'}}]\n", "utf-8"
    )
    for more in ((), ("--suspend",)):
        await rendered(shell, *more, "--dir", "acme")
        (namespace,) = [one for one in _built(own) if one["kind"] == "Namespace"]
        assert namespace["metadata"]["labels"]["team"] == "red"


def _built(folder: Path) -> list[dict[str, Any]]:
    done = subprocess.run(
        [kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return objects(done.stdout)


def _files(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in folder.iterdir()}


def _plain(one: Any) -> str:
    return json.dumps(one, sort_keys=True)


async def test_settings_reach_the_spoke(shell: Shell) -> None:
    done = await rendered(
        shell,
        *("--set", "CHIMERA_MODEL_URL=https://models.example.com/v1", "--set", "CHIMERA_LEASE_S=5"),
        *("--slots", "8", "--cpu", "32", "--memory", "64Gi"),
    )
    (ray,) = [one for one in objects(done.out) if one["kind"] == "RayCluster"]
    (spoke,) = ray["spec"]["headGroupSpec"]["template"]["spec"]["initContainers"]
    values = {one["name"]: one["value"] for one in spoke["env"]}
    assert values["CHIMERA_SPOKE_TENANT"] == "acme"
    assert values["CHIMERA_MODEL_URL"] == "https://models.example.com/v1"
    assert values["CHIMERA_LEASE_S"] == "5"
    assert (values["CHIMERA_SLOTS"], values["CHIMERA_MAX_WORKERS"]) == ("8", "25")


async def test_suspended_it_says_that_nothing_runs(shell: Shell) -> None:
    done = await rendered(shell, "--suspend")
    (ray,) = [one for one in objects(done.out) if one["kind"] == "RayCluster"]
    assert ray["spec"]["suspend"] is True
    assert "suspended: it takes nothing" in done.err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--max-agents", "300"), "which has room for 224 agents; lower --max-agents to that"),
        (("--cpu", "sixteen"), "--cpu 'sixteen' is no quantity"),
        (("--egress", "models.example.com:443"), "is no CIDR"),
        (("--api-server", "169.254.1.1/32"), "link-local"),
        (("--set", "CHIMERA_REDIS_PASSWORD=x"), "the bundle says it itself"),
        (("--set", "CHIMERA_MODEL_API_KEY=x"), "is or has a secret"),
        (("--set", "CHIMERA_MODEL_URL=https://me:x@models.example.com"), "is or has a secret"),
        (("--set", "CHIMERA_SLOTS=4"), "the bundle says it itself"),
        (("--set", "CHIMERA_LEASE_S=long"), "--set CHIMERA_LEASE_S: "),
        (("--set", "CHIMERA_LEASES=3"), "is no setting"),
        (("--slots", "2"), "CHIMERA_EXPRESS_SLOTS must be below CHIMERA_SLOTS"),
        (("--namespace", "Acme"), "--namespace 'Acme' is no name"),
        (("--hub-namespace", "hub_"), "--hub-namespace 'hub_' is no name"),
        (("--image", "chi mera"), "is no name of an image"),
        (("--namespace", "chimera-system"), "is the hub's"),
        (("--namespace", "hub", "--hub-namespace", "hub"), "is the hub's"),
        (("--namespace", "default"), "is the cluster's own"),
        (("--namespace", "kube-system"), "is the cluster's own"),
        (("--set", "CHIMERA_SPOKE_GRACE_S=46"), "give at most 45"),
    ],
)
async def test_what_cannot_be_is_refused_in_a_sentence_and_nothing_is_written(
    shell: Shell, more: tuple[str, ...], said: str
) -> None:
    done = await rendered(shell, *more, "--dir", "acme")
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert not (shell.directory / "acme").exists()


async def test_a_tenant_whose_name_ends_in_a_hyphen_can_have_no_namespace(shell: Shell) -> None:
    done = await rendered(shell, name="acme-")
    assert done.code == 2
    assert "tenant 'acme-' is no name for a namespace" in done.err
