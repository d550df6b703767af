"""A test that no exception ends is ended with its process; where it stood is told, and the others go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

TESTS = """
import asyncio
import pytest
import tests.overdue

tests.overdue.GRACE_S = 0.5


@pytest.mark.timeout(1)
def test_a_swallows_whatever_interrupts_it():
    async def for_ever():
        loop = asyncio.get_running_loop()
        def again():
            loop.call_soon(again)
            for _ in range(100_000):
                pass
        again()
        await asyncio.Event().wait()
    while True:
        try:
            asyncio.run(for_ever())
        except BaseException:
            pass


def test_b_another():
    pass
"""


def test_what_cannot_be_interrupted_is_ended_and_named_and_the_others_are_run(tmp_path: Path) -> None:
    (tmp_path / "test_subject.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntimeout = 30\nmarkers = none\n", encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    plugins = ("-p", "tests.overdue", "-p", "no:cacheprovider")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses", "1", *plugins, "test_subject.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    told = ran.stdout + ran.stderr
    assert "1 failed, 1 passed" in ran.stdout, told
    assert "crashed while running 'test_subject.py::test_a_swallows_whatever_interrupts_it'" in told
    assert "in for_ever" in told or "in again" in told or "in test_a_swallows" in told
