"""Every gate can fail: a violation planted for each makes that step fail, and no other.

Each plants into a tree that passes as it is, so what the step finds is what was planted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ci.makefile import gates, listed
from tests.ci.seedling import Seedling

WORKFLOW = ".github/workflows/ci.yml"
PINNED = "actions/checkout@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1"
UNTESTED = "\n\ndef told(number: int) -> str:\n" + "".join(
    f'    if number == {number}:\n        return "{number}"\n' for number in range(20)
)

# In two parts, or this file would be one of those with tests of clusters.
CLUSTER = (
    """
import pytest


@pytest.mark."""
    + """ray
def test_a_cluster() -> None:
    nodes = 1
    assert nodes == 2
"""
)


def invoice(tree: Seedling) -> None:
    """A distribution under a licence that nobody permitted, locked and installed."""
    tree.append("requirements.lock", "invoice==1.0 \\\n    --hash=sha256:00\n")
    about = "Metadata-Version: 2.4\nName: invoice\nVersion: 1.0\nLicense-Expression: AGPL-3.0-only\n"
    tree.write("bin/invoice-1.0.dist-info/METADATA", about)


# In two parts each, or this file would be what it plants.
STATIC: dict[str, tuple[str, Callable[[Seedling], None]]] = {
    "an unused import": ("lint", lambda tree: tree.write("chimera/odd.py", "import os\n")),
    "a file that is not formatted": ("format", lambda tree: tree.write("chimera/odd.py", "x=1\n")),
    "a wrong type": ("types", lambda tree: tree.write("chimera/odd.py", 'x: int = "1"\n')),
    "a store that knows the command line": (
        "layers",
        lambda tree: tree.write("chimera/store/odd.py", "import chimera.cli\n"),
    ),
    "Ray outside its room": ("layers", lambda tree: tree.write("chimera/core/odd.py", "import ray\n")),
    "a shell": (
        "security",
        lambda tree: tree.write(
            "chimera/odd.py", "import subprocess\n\nsubprocess.run('ls ' + input(), shell=True)\n"
        ),
    ),
    "a licence that nobody permitted": ("licences", invoice),
    "a table of licences that is not true": (
        "licences",
        lambda tree: tree.replace("THIRD_PARTY.md", "| `ray` |", "| `rays` |"),
    ),
    "a key of a cloud": (
        "secrets",
        lambda tree: tree.write("docs/run.md", "Then type " + "AKIA" + "IOSFODNN7EXAMPLE" + ".\n"),
    ),
    "a private key": (
        "secrets",
        lambda tree: tree.write("key.pem", "-----BEGIN " + "RSA PRIVATE KEY-----\nMIIEow==\n"),
    ),
    "a known leak that is there no more": (
        "secrets",
        lambda tree: tree.write(
            "bin/known_leaks.toml",
            f'["README.md"]\nreason = "the words of an example"\nsha1 = ["{"0" * 40}"]\n',
        ),
    ),
    "a key that no workflow has": (
        "workflows",
        lambda tree: tree.replace(WORKFLOW, "runs-on:", "runs_on:"),
    ),
    "an action that is not pinned": (
        "workflows",
        lambda tree: tree.replace(WORKFLOW, PINNED, "actions/checkout@v6"),
    ),
    "a workflow that may do everything": (
        "workflows",
        lambda tree: tree.replace(WORKFLOW, "permissions: {}", "permissions: write-all"),
    ),
    "a title of a stranger that the shell runs": (
        "workflows",
        lambda tree: tree.replace(
            WORKFLOW, "run: make lint", "run: echo ${{ github.event.pull_request.title }}"
        ),
    ),
}
# Those that run tests stand below; the browser's is tests/test_browser_script.py; Ray's tests are
# found and run as the others are; the manifests' are tests/kuberay/; the audit's is test_audit.py.
ELSEWHERE = {"tests", "coverage", "browser", "policy", "ray-tests", "manifests", "audit"}


def test_the_tree_as_it_is_passes_every_static_gate(tmp_path: Path) -> None:
    outcome = Seedling(tmp_path / "tree", harness=False).gate("check")
    assert (outcome.code, outcome.failed) == (0, []), outcome.said


@pytest.mark.parametrize("what", STATIC)
def test_a_static_gate_notices(what: str, tmp_path: Path) -> None:
    gate, plant = STATIC[what]
    tree = Seedling(tmp_path / "tree", harness=False)
    plant(tree)
    outcome = tree.gate(gate, PYTHONPATH=str(tree.at / "bin"))
    assert (outcome.code, outcome.failed) == (1, [gate]), outcome.said


def test_the_tests_and_their_coverage_pass_as_they_are(tmp_path: Path) -> None:
    outcome = Seedling(tmp_path / "tree", harness=True).gate("tests", "coverage")
    assert (outcome.code, outcome.failed) == (0, []), outcome.said


def test_a_failing_test_is_noticed(tmp_path: Path) -> None:
    tree = Seedling(tmp_path / "tree", harness=True)
    tree.append("tests/test_numbers.py", "\n\ndef test_odd() -> None:\n    assert halved(3) == 2\n")
    outcome = tree.gate("tests", "coverage")
    assert (outcome.code, outcome.failed) == (1, ["tests"]), outcome.said


def test_a_failing_test_of_clusters_is_noticed(tmp_path: Path) -> None:
    tree = Seedling(tmp_path / "tree", harness=True)
    tree.write("tests/test_cluster.py", CLUSTER)
    outcome = tree.gate("tests", "ray-tests", "coverage")
    assert (outcome.code, outcome.failed) == (1, ["ray-tests"]), outcome.said
    assert "assert 1 == 2" in outcome.said


def test_code_that_no_test_runs_is_noticed(tmp_path: Path) -> None:
    tree = Seedling(tmp_path / "tree", harness=True)
    tree.append("chimera/numbers.py", UNTESTED)
    outcome = tree.gate("tests", "coverage")
    assert (outcome.code, outcome.failed) == (1, ["coverage"]), outcome.said
    assert "fail-under=80" in outcome.said


def test_one_failure_is_enough_and_the_rest_is_run_all_the_same(tmp_path: Path) -> None:
    tree = Seedling(tmp_path / "tree", harness=False)
    tree.write("chimera/odd.py", "import os\n")
    outcome = tree.gate("lint", "format")
    assert (outcome.code, outcome.failed) == (1, ["lint"]), outcome.said
    assert "format" in outcome.said


def test_a_gate_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    outcome = Seedling(tmp_path / "tree", harness=False).gate("lintt")
    assert outcome.code == 2
    assert "bin/gate list" in outcome.said


def test_no_gate_is_left_out() -> None:
    groups = listed()
    assert {gate for gate, _ in STATIC.values()} | ELSEWHERE == {*groups["test"], *groups["alone"]}
    assert gates("check") == {gate for gate, _ in STATIC.values()}
