"""Figures of one tenant: its tally and what stands now, by the names of the metrics. Pure.

Prometheus is told them by every gateway, Ray by the hub's leader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, TypeAlias

from chimera.core.event import KINDS
from chimera.core.gauges import Gauges
from chimera.core.histogram import Histogram
from chimera.core.tally import Tally

Sources: TypeAlias = Mapping[str, tuple[str, ...]]
"""Value of the metric's second label ("" where it has none) → what adds up to it."""


class Figure(NamedTuple):
    """One metric's value under its labels, in the order of the table."""

    name: str
    labels: tuple[str, ...]
    value: float | Histogram


COUNTED: Mapping[str, Sources] = {
    "chimera_missions_total": {
        name: (f"mission.{name}",)
        for name in ("submitted", "completed", "failed", "cancelled", "paused", "resumed", "archived")
    },
    "chimera_tasks_total": {
        "claimed": ("task.claimed",),
        "accepted": ("task.accepted", "task.approved"),
        "escalated": ("task.escalated",),
        "failed": ("task.failed",),
        "cancelled": ("task.cancelled",),
        "redriven": ("task.redriven",),
    },
    "chimera_attempts_total": {
        "submitted": ("task.submitted",),
        "error": ("task.erred",),
        "timeout": ("task.timed_out",),
        "returned": ("task.returned",),
        "rescued": ("task.rescued",),
    },
    "chimera_verdicts_total": {
        name: (f"task.{name}",)
        for name in ("accepted", "rejected", "escalated", "stale", "approved", "declined")
    },
    "chimera_calls_total": {name: (f"spend.{name}",) for name in ("settled", "released", "expired")},
    "chimera_refusals_total": {name: (f"refused:{name}",) for name in ("contended", "window", "exhausted")},
    "chimera_model_tokens_total": {
        name: (f"{name}_tokens",) for name in ("input", "cached", "output", "reasoning")
    },
    "chimera_actions_total": {name: (f"action.{name}",) for name in ("queued", "done", "retried", "failed")},
    "chimera_workers_total": {name: (f"worker.{name}",) for name in ("started", "ended")},
    "chimera_brake_changes_total": {"": ("brake.changed",)},
    "chimera_events_total": {"": tuple(KINDS)},
}
"""Counters that are sums of the tally's totals."""

STANDING: Mapping[str, Mapping[str, str]] = {
    "chimera_missions_active": {"": "missions_active"},
    "chimera_missions_finished": {"": "missions_finished"},
    "chimera_queue_depth": {"high": "ready_high", "medium": "ready_medium", "low": "ready_low"},
    "chimera_tasks_pending": {"": "leases"},
    "chimera_reviews_waiting": {"judge": "reviews", "human": "inbox"},
    "chimera_actions_waiting": {"": "actions"},
    "chimera_workers": {"": "workers"},
    "chimera_slots": {"busy": "slots_busy", "free": "slots_free"},
    "chimera_settled_microusd": {"": "settled_microusd"},
    "chimera_held_microusd": {"": "held_microusd"},
}
"""Gauges that are attributes of a tenant's `Gauges`."""

TIMED: Mapping[str, Mapping[str, str]] = {
    "chimera_task_seconds": {name: f"task:{name}" for name in ("high", "medium", "low")},
    "chimera_attempt_seconds": {"": "attempt"},
    "chimera_verdict_seconds": {"": "verdict"},
    "chimera_model_seconds": {"": "model"},
}
"""Histograms of the tally's times."""


def of_tenant(tenant: str, tally: Tally, gauges: Gauges) -> Iterator[Figure]:
    """All of one tenant. A histogram of no times is left out: it would be fifteen lines of zeros."""
    total = tally.totals.get
    for name, sources in COUNTED.items():
        for value, fields in sources.items():
            yield Figure(name, _labels(tenant, value), sum([total(one, 0) for one in fields]))
    for name, attributes in STANDING.items():
        for value, attribute in attributes.items():
            yield Figure(name, _labels(tenant, value), getattr(gauges, attribute))
    for name, timed in TIMED.items():
        for value, what in timed.items():
            times = tally.times(what)
            if times.count:
                yield Figure(name, _labels(tenant, value), times)


def _labels(tenant: str, value: str) -> tuple[str, ...]:
    return (tenant, value) if value else (tenant,)
