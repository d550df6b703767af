"""A plug-in for pytest: a test that is over its time and cannot be interrupted ends its process.

pytest-timeout interrupts a test once, by an exception. Thrown into a callback of an event loop it is logged
and forgotten; thrown into a task it is that task's alone; and what cleans up afterwards has no time set at
all. Such a test would wait for ever, and the run with it. This tells where every thread is, and ends the
process: under xdist the test counts as failed and is named, and the others go on in a new one.
"""

from __future__ import annotations

import faulthandler
import os
from collections.abc import Generator
from typing import Any

import pytest

GRACE_S = 60.0
"""For what a test that was interrupted has to clean up."""


class Overdue:
    """Sets a second alarm for each test, that no test can catch."""

    def __init__(self, config: pytest.Config) -> None:
        # The stream that nobody captures.
        capture: Any = config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            self.stream = os.fdopen(os.dup(2), "w", encoding="utf-8")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Setup, the test and teardown together."""
        limit = _limit_s(item)
        if limit:
            faulthandler.dump_traceback_later(limit + GRACE_S, exit=True, file=self.stream)
        try:
            return (yield)
        finally:
            faulthandler.cancel_dump_traceback_later()

    def pytest_unconfigure(self) -> None:
        """Gives the stream back."""
        self.stream.close()


def _limit_s(item: pytest.Item) -> float:
    """As pytest-timeout finds it: the marker's, else the option's, else the configuration's; 0: none."""
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        limit = marker.args[0] if marker.args else marker.kwargs["timeout"]
    else:
        limit = item.config.getoption("timeout")
        limit = item.config.getini("timeout") if limit is None else limit
    return float(limit or 0)


def pytest_configure(config: pytest.Config) -> None:
    """Once in each process."""
    config.pluginmanager.register(Overdue(config), "overdue")
