"""What the gate's coverage measures: every test but those that repeat themselves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUBJECT = """
def once() -> int:
    return 1


def property_alone() -> int:
    return 2


def marked_alone() -> int:
    return 3


def afterwards() -> int:
    return 4


def from_outside() -> int:
    return 5


def in_a_child() -> int:
    return 6


def in_a_child_of_one_from_outside() -> int:
    return 7
"""
TESTS = """
import subprocess
import sys

import hypothesis
import pytest
from hypothesis import strategies

import subject


def test_a_plain_one():
    assert subject.once() == 1


@hypothesis.given(strategies.integers())
def test_b_property(number):
    assert subject.property_alone() == 2


@pytest.mark.unmeasured
def test_c_machine():
    assert subject.marked_alone() == 3


def test_d_plain_one():
    assert subject.afterwards() == 4


def test_e_child():
    subprocess.run([sys.executable, "-c", "import subject; subject.in_a_child()"], check=True)
"""
FROM_OUTSIDE = """
import subprocess
import sys

import subject


def test_from_outside():
    assert subject.from_outside() == 5
    run = "import subject; subject.in_a_child_of_one_from_outside()"
    subprocess.run([sys.executable, "-c", run], check=True)
"""
CONFIGURATION = """
[run]
source = .
parallel = true
patch = subprocess
disable_warnings = no-data-collected
"""


def test_what_drives_from_outside_and_what_repeats_itself_is_not_measured_and_all_else_is(
    tmp_path: Path,
) -> None:
    (tmp_path / "tests/e2e").mkdir(parents=True)
    (tmp_path / "subject.py").write_text(SUBJECT, encoding="utf-8")
    (tmp_path / "tests/e2e/test_pages.py").write_text(FROM_OUTSIDE, encoding="utf-8")
    (tmp_path / "tests/test_subject.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = unmeasured\n", encoding="utf-8")
    (tmp_path / "coveragerc").write_text(CONFIGURATION, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment |= {"PYTHONPATH": f"{ROOT}:{tmp_path}", "PYTHONDONTWRITEBYTECODE": "1"}

    def coverage(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "coverage", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    plugins = ("-p", "tests.measuring", "-p", "no:cacheprovider", "--import-mode=importlib")
    assert "6 passed" in coverage("run", "--rcfile=coveragerc", "-m", "pytest", "-q", *plugins)
    coverage("combine", "-q", "--rcfile=coveragerc")
    coverage("json", "-q", "--rcfile=coveragerc", "-o", "report.json")
    files = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["files"]
    missed = set(files["subject.py"]["missing_lines"])
    lines = SUBJECT.splitlines()
    assert {lines[number - 1].strip() for number in missed} == {
        "return 2",
        "return 3",
        "return 5",
        "return 7",
    }
