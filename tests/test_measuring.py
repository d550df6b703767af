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
"""
TESTS = """
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
"""


def test_properties_and_marked_tests_are_not_measured_and_the_others_are(tmp_path: Path) -> None:
    (tmp_path / "subject.py").write_text(SUBJECT, encoding="utf-8")
    (tmp_path / "test_subject.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = unmeasured\n", encoding="utf-8")
    measured = [sys.executable, "-m", "coverage", "run", "--source=.", "-m", "pytest", "-q"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = str(ROOT)
    ran = subprocess.run(
        [*measured, "-p", "tests.measuring", "-p", "no:cacheprovider", "test_subject.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed" in ran.stdout, ran.stdout + ran.stderr
    report = [sys.executable, "-m", "coverage", "json", "-q", "-o", "report.json"]
    subprocess.run(report, cwd=tmp_path, env=environment, check=True)
    files = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["files"]
    missed = set(files["subject.py"]["missing_lines"])
    lines = SUBJECT.splitlines()
    assert {lines[number - 1].strip() for number in missed} == {"return 2", "return 3"}
