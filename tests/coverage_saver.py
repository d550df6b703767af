"""A plug-in for coverage that saves what Ray's worker processes measured while they live.

Seen with Ray 2.60 and coverage 7.17: an actor that exits by itself, whose handle is dropped, or that
gets SIGTERM saves its data as it ends. One that ends by `ray.kill`, by `ray.shutdown`, or with its
cluster while detached is ended without running any Python; so are Serve's replicas with their
cluster. Only what was saved before counts, hence a thread that saves every second. Other processes
have no such thread: they end in ways that coverage handles (`patch`, `sigterm`).
"""

from __future__ import annotations

import sys
import threading
from typing import Any

import coverage

EVERY_S = 1.0


def coverage_init(reg: Any, options: Any) -> None:
    """Coverage calls this once in every process that it measures, before anything else runs."""
    del reg, options
    if any(argument.endswith("default_worker.py") for argument in sys.orig_argv):
        threading.Thread(target=_save, name="coverage-saver", daemon=True).start()


def _save() -> None:
    never = threading.Event()
    while not never.wait(EVERY_S):
        running = coverage.Coverage.current()
        if running is not None:
            running.save()
