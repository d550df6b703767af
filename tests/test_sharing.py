"""Tests that share a fleet run in one process, whichever of their files they stand in."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sharing import scope

ROOT = Path(__file__).parents[1]
CONFTEST = "from tests.sharing import pytest_xdist_make_scheduler\n"
TESTS = """
import os, pathlib
def test_one(): pathlib.Path("{name}-1").write_text(str(os.getpid()))
def test_two(): pathlib.Path("{name}-2").write_text(str(os.getpid()))
"""


@pytest.mark.parametrize(
    "file", sorted((ROOT / "tests/acceptance").glob("test_*.py")), ids=lambda file: file.stem
)
def test_whoever_uses_the_shared_fleet_is_in_its_scope(file: Path) -> None:
    shares = re.search(r"\b(fleet|started): LiveFleet\b", file.read_text(encoding="utf-8"))
    name = str(file.relative_to(ROOT))
    assert scope(f"{name}::test_it[x::y]") == ("tests/acceptance/" if shares else name)


def test_xdist_gives_each_scope_to_one_process(tmp_path: Path) -> None:
    for name in ("tests/acceptance/test_a", "tests/acceptance/test_b", "tests/test_c", "tests/test_d"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(TESTS.format(name=file.stem), encoding="utf-8")
    (tmp_path / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n", encoding="utf-8")
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE_", "PYTEST_"))
    }
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "xdist",
            "-n",
            "2",
            "--dist",
            "loadscope",
            "--import-mode=importlib",
        ],
        cwd=tmp_path,
        env={**environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == pytest.ExitCode.OK, done.stdout
    by = {file.name: file.read_text(encoding="utf-8") for file in tmp_path.glob("test_*-?")}
    shared = {by[f"test_{name}-{n}"] for name in "ab" for n in (1, 2)}
    assert len(shared) == 1
    for name in "cd":
        assert by[f"test_{name}-1"] == by[f"test_{name}-2"]
    assert len(set(by.values())) == 2, "and both processes worked"
