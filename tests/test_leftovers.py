"""A run that leaves a process behind fails and names it; so does a test that leaves a connection."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

CONFTEST = """
from tests.leftovers import closing, pytest_collection_finish, pytest_configure
import tests.leftovers
tests.leftovers.GRACE_S = 0.2
"""
LEAVES_ONE = """
import subprocess, sys
def test_leaves_one():
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
    print("left", child.pid)
    child.returncode = 0  # so that no warning speaks of it
"""
LEAVES_NONE = """
import subprocess, sys
def test_leaves_none():
    subprocess.run([sys.executable, "-c", ""], check=True)
"""
LEAVES_A_CONNECTION = """
import socket
def leave(port):
    left = socket.create_connection(("127.0.0.1", port))
    round_in_circles = [left]
    round_in_circles.append(round_in_circles)
def test_leaves_a_connection():
    with socket.create_server(("127.0.0.1", 0)) as server:
        leave(server.getsockname()[1])
def test_is_not_to_blame():
    pass
"""


def run(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_one.py").write_text(test)
    ini = f"[pytest]\npythonpath = {Path(__file__).parents[1]}\nfilterwarnings = error\n"
    (folder / "pytest.ini").write_text(ini)
    # Nothing but the plug-in under test: other plug-ins and the measurement only cost time.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-s", "-p", "no:cacheprovider", str(folder)],
        env={**environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


def test_a_process_left_behind_is_named_ended_and_fails_the_run(tmp_path: Path) -> None:
    outcome = run(tmp_path, LEAVES_ONE)
    pid = int(outcome.stdout.split("left ")[1].split()[0])
    assert outcome.returncode == pytest.ExitCode.TESTS_FAILED, outcome.stdout
    assert f"pid {pid}" in outcome.stdout
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_run_that_ends_what_it_starts_passes(tmp_path: Path) -> None:
    outcome = run(tmp_path, LEAVES_NONE)
    assert outcome.returncode == pytest.ExitCode.OK, outcome.stdout


def test_a_connection_left_behind_fails_the_test_that_left_it(tmp_path: Path) -> None:
    outcome = run(tmp_path, LEAVES_A_CONNECTION)
    assert outcome.returncode == pytest.ExitCode.TESTS_FAILED, outcome.stdout
    assert "ERROR at teardown of test_leaves_a_connection" in outcome.stdout
    assert "unclosed <socket.socket" in outcome.stdout
    assert "2 passed, 1 error" in outcome.stdout
