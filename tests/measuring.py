"""Tests that go over the same lines thousands of times are not measured: coverage learns nothing there.

Measured, they take twice the processor: properties, and state machines (`@pytest.mark.unmeasured`).
"""

from __future__ import annotations

from collections.abc import Generator

import coverage
import hypothesis
import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Suspends the measurement in this process while such a test runs."""
    running = coverage.Coverage.current()
    if running is None or not _repeats(item):
        return (yield)
    running.stop()
    try:
        return (yield)
    finally:
        running.start()


def _repeats(item: pytest.Item) -> bool:
    return item.get_closest_marker("unmeasured") is not None or hypothesis.is_hypothesis_test(
        getattr(item, "obj", None)
    )
