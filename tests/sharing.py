"""A plug-in for pytest-xdist: under `--dist loadscope`, tests that share a fleet run in one process.

A fleet takes tens of seconds to start. The acceptance tests share one, those of any other file at most that
file's own.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]  # (it ships no types)

SHARED = "tests/acceptance/"
ALONE = {"tests/acceptance/test_demo.py"}
"""Files there with fleets of their own."""


def scope(test: str) -> str:
    """What a test, named by its node id, is run together with: a folder or a file."""
    file = test.partition("::")[0]
    return SHARED if file.startswith(SHARED) and file not in ALONE else file


class Sharing(LoadScopeScheduling):  # type: ignore[misc]  # (as above)
    """Gives whole scopes to processes; those of most tests first."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


@contextmanager
def starting() -> Iterator[None]:
    """While a fleet starts no other does: together they might miss the 30 s that Ray gives a node."""
    lock = Path(__file__).parents[1] / "build/fleet-starts.lock"
    lock.parent.mkdir(exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Sharing | None:
    """Only where scopes were asked for; else the tests are handed out one by one."""
    return Sharing(config, log) if config.getvalue("dist") == "loadscope" else None
