"""What the benchmark of concurrency reads from the recorder."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from bench.concurrency import lags, peak_of
from chimera.core.event import Event


def told(*steps: tuple[float, str, str]) -> list[Event]:
    """Events at these seconds, of these tasks."""
    return [
        Event(seq=seq, at=datetime.fromtimestamp(1_790_000_000 + at, UTC), kind=kind, by="w", task_id=task)
        for seq, (at, kind, task) in enumerate(steps, 1)
    ]


EVENTS = told(
    (0.0, "task.claimed", "a"),
    (0.5, "task.claimed", "b"),
    (2.25, "task.submitted", "a"),
    (2.25, "task.claimed", "c"),
    (3.0, "task.erred", "b"),
    (4.0, "task.claimed", "b"),
    (4.5, "task.submitted", "c"),
    (6.5, "task.submitted", "b"),
)


def test_a_lag_is_what_a_task_took_beyond_its_agents_wait() -> None:
    assert lags(EVENTS, 2.0) == pytest.approx([0.25, 0.25, 0.5])


def test_the_peak_is_the_most_under_lease_at_once() -> None:
    assert peak_of(EVENTS) == 2
