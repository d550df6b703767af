"""The workflows run what `.ci/run` runs, with pinned actions, least rights, and an end.

That they are valid and safe as such is the step `workflows` of the gate (their schema, and zizmor).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.makefile import RECIPES, ROOT, gates, listed

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
each_workflow = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)

# What a workflow runs and `.ci/run` does not, and why.
BESIDE = {
    "audit": "asks a public service of advisories: it needs the network, the gate does not",
    "manifests": "a part of the tests, for a quick answer",
    "make crds": "brings into a cache what `make test` fetches by itself",
}


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def jobs(path: Path) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(path)["jobs"]
    return found


def steps(path: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(path).values():
        yield from job.get("steps", ())


def targets(text: str) -> list[str]:
    """The make targets that a script calls."""
    return re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)


def test_the_workflow_runs_every_gate_that_ci_runs_and_nothing_else_without_a_reason() -> None:
    called = targets((ROOT / ".ci/run").read_text(encoding="utf-8"))
    assert called == ["test", "test-deploy", "chaos-ci"]
    local = {gate for target in called for gate in gates(target)}
    remote = {
        gate
        for step in steps(ROOT / ".github/workflows/ci.yml")
        for target in targets(step.get("run", ""))
        for gate in gates(target)
    }
    assert local - remote == set()
    assert remote - local == set(BESIDE)


def test_a_job_of_the_gate_decides_nothing_itself() -> None:
    """It calls make, one target a step: what a workflow checks, a laptop checks in the same words."""
    for step in steps(ROOT / ".github/workflows/ci.yml"):
        if run := step.get("run"):
            assert re.fullmatch(r"make [a-z-]+", run), run


def test_what_is_released_passed_the_gate_first() -> None:
    released = jobs(ROOT / ".github/workflows/release.yml")
    assert released["gate"]["uses"] == "./.github/workflows/ci.yml"
    for name in released.keys() - {"gate"}:
        assert "gate" in before(name, released), name


def before(name: str, released: dict[str, dict[str, Any]]) -> set[str]:
    """All jobs that a job waits for."""
    needs = released[name].get("needs", [])
    direct = {needs} if isinstance(needs, str) else set(needs)
    return direct.union(*(before(one, released) for one in direct))


def test_only_the_job_that_publishes_may_write_to_the_repository() -> None:
    released = jobs(ROOT / ".github/workflows/release.yml")
    assert [name for name, job in released.items() if job["permissions"]["contents"] == "write"] == [
        "publish"
    ]


def test_what_is_published_anywhere_has_a_checked_tag_and_whose_approval_the_repository_asks() -> None:
    released = jobs(ROOT / ".github/workflows/release.yml")
    publishing = {name for name, job in released.items() if "write" in job["permissions"].values()}
    assert publishing == {"image", "publish"}
    for name in publishing:
        assert released[name]["environment"] == "release", name
        assert "packages" in before(name, released), name
    assert "make release-check" in str(released["packages"]["steps"])


@each_workflow
def test_every_make_target_that_is_called_exists(path: Path) -> None:
    for step in steps(path):
        assert set(targets(step.get("run", ""))) <= set(RECIPES)


def test_every_step_of_the_gate_can_be_called_alone_by_make() -> None:
    groups = listed()
    alone = {"lint", "types", "security", "secrets", "workflows", "tests", "manifests", "audit"}
    assert {gate for target in alone for gate in gates(target)} == {*groups["test"], *groups["alone"]}


@each_workflow
def test_every_action_is_pinned_by_its_commit_with_the_version_beside(path: Path) -> None:
    used = re.findall(r"uses: (\S+)(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action, beside in used:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", beside), f"{action}{beside}"


def test_an_action_is_of_one_version_everywhere() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in WORKFLOWS)
    used = dict.fromkeys(re.findall(r"uses: (\S+)@(\S+)", text))
    assert len({action for action, _ in used}) == len(used)


@each_workflow
def test_a_job_has_the_rights_it_names_and_no_others(path: Path) -> None:
    assert read(path)["permissions"] == {}
    for name, job in jobs(path).items():
        rights = job["permissions"]
        assert rights.get("contents") in {"read", "write"}, name
        assert set(rights) <= {"contents", "packages"}, name
        if path.stem == "ci":
            assert rights == {"contents": "read"}, name


@each_workflow
def test_no_checkout_leaves_a_token_behind(path: Path) -> None:
    for step in steps(path):
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False


@each_workflow
def test_every_job_ends_and_runs_of_one_branch_do_not_pile_up(path: Path) -> None:
    assert "github.ref" in read(path)["concurrency"]["group"]
    for name, job in jobs(path).items():
        if "uses" not in job:
            assert 0 < job["timeout-minutes"] <= 60, name


def test_every_job_of_the_gate_keeps_the_packages_it_fetched() -> None:
    for name, job in jobs(ROOT / ".github/workflows/ci.yml").items():
        kept = [step["with"]["path"] for step in job["steps"] if "actions/cache@" in step.get("uses", "")]
        assert "~/.cache/uv" in kept, name


def test_what_is_published_is_built_from_no_cache() -> None:
    assert "actions/cache@" not in (ROOT / ".github/workflows/release.yml").read_text(encoding="utf-8")
