"""A tree as small as can be that passes the gate: the gate itself, its configuration, next to no code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

from tests.ci.makefile import ROOT

CONFIGURATION = (
    "pyproject.toml",
    "requirements.lock",
    "requirements-uv.lock",
    "THIRD_PARTY.md",
    "LICENSE",
    "README.md",
    ".gitignore",
)
HARNESS = ("conftest.py", "leftovers.py", "measuring.py", "overdue.py", "sharing.py")
HALVED = '''"""Numbers."""


def halved(number: int) -> int:
    """Half of it, rounded down."""
    if number < 0:
        return -halved(-number)
    return number // 2
'''
TESTED = '''"""Numbers."""

import pytest

from chimera.numbers import halved


@pytest.mark.parametrize("number", [4, -4])
def test_a_number_is_halved(number: int) -> None:
    assert halved(number) * 2 == number
'''


class Outcome(NamedTuple):
    """How a run of the gate ended."""

    code: int
    said: str

    @property
    def failed(self) -> list[str]:
        """The steps that failed, as its last line names them."""
        last = self.said.rstrip().splitlines()[-1]
        return last.removeprefix("gate: FAILED in").split() if "FAILED" in last else []


class Seedling:
    """The tree, in a folder of its own.

    Args:
        harness: with what our tests run in, for the steps that run tests.
    """

    def __init__(self, at: Path, *, harness: bool) -> None:
        self.at = at
        shutil.copytree(ROOT / "bin", at / "bin", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / ".github", at / ".github")
        for name in CONFIGURATION:
            shutil.copy(ROOT / name, at / name)
        self.write("bin/known_leaks.toml", "")
        (at / ".venv").symlink_to(sys.prefix)
        self._package()
        self.write("bench/__init__.py", "")
        self.write("tests/__init__.py", "")
        if harness:
            for name in HARNESS:
                shutil.copy(ROOT / "tests" / name, at / "tests" / name)
            self.write("tests/test_numbers.py", TESTED)
        subprocess.run(["git", "init", "--quiet"], cwd=at, check=True, timeout=30)

    def _package(self) -> None:
        """A module for each that the contracts of layers name, and one to test."""
        self.write("chimera/__init__.py", "")
        self.write("chimera/numbers.py", HALVED)
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        layers = next(one for one in project["tool"]["importlinter"]["contracts"] if one["id"] == "layers")
        for row in layers["layers"]:
            for name in row.strip("()").replace(" ", "").split("|"):
                self.write(f"{name.replace('.', '/')}/__init__.py", "")

    def write(self, name: str, text: str) -> None:
        """A file of the tree, in place of what was there."""
        path = self.at / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def append(self, name: str, text: str) -> None:
        """More at the end of a file of the tree."""
        self.write(name, (self.at / name).read_text(encoding="utf-8") + text)

    def replace(self, name: str, old: str, new: str) -> None:
        """The first place of a file that says something says another thing."""
        text = (self.at / name).read_text(encoding="utf-8")
        assert old in text, f"{name} has no {old!r}"
        self.write(name, text.replace(old, new, 1))

    def gate(self, *steps: str, **environment: str) -> Outcome:
        """Run steps of the tree's gate."""
        # Nothing of the run that this is a part of: it may itself be measured, by other settings.
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("COV", "PYTEST_XDIST"))
        }
        done = subprocess.run(
            ["bin/gate", *steps],
            cwd=self.at,
            env={**inherited, "AT_ONCE": "0", "FLEETS": "0", **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=110,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)
