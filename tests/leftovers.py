"""A plug-in for pytest: a run that leaves a process, and a test that leaves a connection, fail and are named.

Every process that a test starts, however deep, inherits a mark in its environment. When the last
test is over, whatever still carries the mark gets a short time to end; what does not is named, ended,
and makes the run fail. Processes of a fleet that runs beside the tests carry no mark.

A connection that nobody closed is told of (a ResourceWarning, an error here) when it is collected as
garbage: some other test's failure, minutes later. So garbage is collected after each test that ends with
more open files than it began with: then the failure is that test's.
"""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pytest

MARK = "PYTEST_RUN_MARK"
GRACE_S = 15.0
FRESH_S, LOOK_S = 2.0, 0.01
"""A process that has just become another program has no environment yet, for a moment or for longer."""


@dataclass(frozen=True)
class Leftover:
    """A process that outlived the tests."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"pid {self.pid}: {self.command[:200]}"


class Leftovers:
    """Marks the run, and looks for the mark at its end."""

    def __init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.found: list[Leftover] = []
        # A run inside a run adds its own, so that the outer one still sees what the inner one left.
        os.environ[MARK] = " ".join([*os.environ.get(MARK, "").split(), self.mark])

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After the fixtures, and after xdist's workers, are gone."""
        _, alive = psutil.wait_procs(self._marked(), timeout=GRACE_S)
        self.found = [Leftover(process.pid, _command(process)) for process in alive]
        for process in alive:
            process.kill()
        if self.found and session.exitstatus in {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name them."""
        if self.found:
            terminalreporter.section("processes left by tests", red=True)
            for leftover in self.found:
                terminalreporter.line(str(leftover))

    def _marked(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_marked(process)]

    def _is_marked(self, process: psutil.Process) -> bool:
        try:
            return (
                process.pid != os.getpid()
                and self.mark in _environment(process).get(MARK, "").split()
                and process.status() != psutil.STATUS_ZOMBIE
            )
        except psutil.Error:
            return False  # it has ended, or is another user's


def _environment(process: psutil.Process) -> dict[str, str]:
    while True:
        found: dict[str, str] = process.environ()
        if found or time.time() - process.create_time() > FRESH_S:
            return found
        time.sleep(LOOK_S)  # nothing tells when it is there


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()) or process.name()
    except psutil.Error:
        return "(ended while it was looked at)"


def pytest_collection_finish() -> None:
    """What was imported by now stays: to collect garbage later need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Around each test and all its fixtures."""
    before = _open_files()
    yield
    if _open_files() > before:
        gc.collect()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def pytest_configure(config: pytest.Config) -> None:
    """The run's own process looks; xdist's workers only inherit the mark."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Leftovers(), "leftovers-of-this-run")
