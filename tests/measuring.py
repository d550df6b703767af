"""Which tests coverage measures: those from which it learns something, for it doubles what they compute.

Left out is what goes over the same lines thousands of times (`@pytest.mark.unmeasured`, and every property),
and rooms of tests that drive from outside, or piece by piece, what others measure. So what is reported is the
least that is covered.
"""

from __future__ import annotations

import os
from collections.abc import Generator

import coverage
import hypothesis
import pytest

UNMEASURED = tuple(
    f"tests/{room}"
    for room in (
        *("bench/", "chaos/", "ci/", "deploy/", "e2e/", "kuberay/", "store/"),
        *("test_docs.py", "test_documented.py"),
    )
)
"""Of `tests.store` each script is also run by the rooms above it, which are measured."""
INHERITED = "COVERAGE_PROCESS_CONFIG"
"""Set, it has a child measured too."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Suspends the measurement, of this process and of those it starts, while such a test runs."""
    running = coverage.Coverage.current()
    if running is None or not _unmeasured(item):
        return (yield)
    inherited = os.environ.pop(INHERITED, None)
    running.stop()
    try:
        return (yield)
    finally:
        running.start()
        if inherited is not None:
            os.environ[INHERITED] = inherited


def _unmeasured(item: pytest.Item) -> bool:
    return (
        item.nodeid.startswith(UNMEASURED)
        or item.get_closest_marker("unmeasured") is not None
        or hypothesis.is_hypothesis_test(getattr(item, "obj", None))
    )
