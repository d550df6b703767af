"""Metrics: every name there is, and the maker of the instruments that a process counts with itself.

Names, labels and meanings are API: dashboards and alerts are built on them. Labels are few and bounded: the
tenant and one of a few values, never a mission, a task or a worker. What a process counts itself are its
requests; all else is what Redis counts (`chimera.telemetry.figures`), so every gateway tells the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Histogram

from chimera.core.histogram import BOUNDS_MS

SECONDS = tuple(ms / 1000 for ms in BOUNDS_MS)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Money is in µ$, time in seconds.

    Attributes:
        values: of a label that is not the tenant: the values it has, where these are few and known.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


PRIORITIES = {"priority": ("high", "medium", "low")}
WINDOWS = {"window": ("minute", "hour", "day", "month", "year", "lifetime")}
T = ("tenant",)

METRICS: tuple[Metric, ...] = (
    Metric(
        "chimera_missions_total",
        "counter",
        (*T, "status"),
        "Missions that reached a status, each time they did.",
        {"status": ("submitted", "completed", "failed", "cancelled", "paused", "resumed", "archived")},
    ),
    Metric(
        "chimera_tasks_total",
        "counter",
        (*T, "status"),
        "Tasks that reached a status, each time they did.",
        {"status": ("claimed", "accepted", "escalated", "failed", "cancelled", "redriven")},
    ),
    Metric(
        "chimera_attempts_total",
        "counter",
        (*T, "outcome"),
        "Attempts by how they ended: with a result, an error, out of time, handed back, or rescued.",
        {"outcome": ("submitted", "error", "timeout", "returned", "rescued")},
    ),
    Metric(
        "chimera_verdicts_total",
        "counter",
        (*T, "decision"),
        "What was decided of results: by the judge, and (approved, declined) by people.",
        {"decision": ("accepted", "rejected", "escalated", "stale", "approved", "declined")},
    ),
    Metric(
        "chimera_calls_total",
        "counter",
        (*T, "outcome"),
        "Paid calls by how their hold ended.",
        {"outcome": ("settled", "released", "expired")},
    ),
    Metric(
        "chimera_refusals_total",
        "counter",
        (*T, "kind"),
        "Reservations refused, by a limit or the brake.",
        {"kind": ("contended", "window", "exhausted")},
    ),
    Metric(
        "chimera_model_tokens_total",
        "counter",
        (*T, "direction"),
        "Tokens of settled calls. Input includes the cached, output those of reasoning.",
        {"direction": ("input", "cached", "output", "reasoning")},
    ),
    Metric(
        "chimera_actions_total",
        "counter",
        (*T, "outcome"),
        "Accepted actions: queued, and by what came of carrying them out.",
        {"outcome": ("queued", "done", "retried", "failed")},
    ),
    Metric(
        "chimera_workers_total",
        "counter",
        (*T, "event"),
        "Workers that came and went.",
        {"event": ("started", "ended")},
    ),
    Metric("chimera_brake_changes_total", "counter", T, "Moves of the brake."),
    Metric("chimera_events_total", "counter", T, "Events that the recorder got."),
    Metric("chimera_slo_breaches_total", "counter", T, "High-priority tasks accepted too late."),
    Metric(
        "chimera_http_requests_total",
        "counter",
        ("route", "method", "code"),
        "Requests to this gateway, by the path's template.",
    ),
    Metric("chimera_missions_active", "gauge", T, "Missions that are not over."),
    Metric("chimera_missions_finished", "gauge", T, "Finished missions that are in Redis."),
    Metric(
        "chimera_queue_depth",
        "gauge",
        (*T, "priority"),
        "READY tasks, also those that wait for a time or a pause.",
        PRIORITIES,
    ),
    Metric("chimera_tasks_pending", "gauge", T, "Tasks under a worker's lease."),
    Metric(
        "chimera_reviews_waiting",
        "gauge",
        (*T, "by"),
        "Results that wait for, or are with, the judge, and those that wait for a human.",
        {"by": ("judge", "human")},
    ),
    Metric("chimera_actions_waiting", "gauge", T, "Accepted actions that are not carried out yet."),
    Metric("chimera_workers", "gauge", T, "Live workers."),
    Metric(
        "chimera_slots",
        "gauge",
        (*T, "state"),
        "Slots of live workers; in each that is busy an agent runs.",
        {"state": ("busy", "free")},
    ),
    Metric(
        "chimera_settled_microusd",
        "gauge",
        T,
        "Money spent since the first call, µ$. A correction may lower it: so it is no counter.",
    ),
    Metric("chimera_held_microusd", "gauge", T, "Money held for calls under way, µ$."),
    Metric(
        "chimera_limit_microusd",
        "gauge",
        (*T, "window"),
        "The tenant's own limits, where it has any, µ$.",
        WINDOWS,
    ),
    Metric(
        "chimera_limit_settled_microusd",
        "gauge",
        (*T, "window"),
        "Settled in the window that runs, of those that have a limit, µ$.",
        WINDOWS,
    ),
    Metric("chimera_recorder_unarchived", "gauge", T, "Events that are in Redis only."),
    Metric("chimera_export_behind", "gauge", T, "Events that the MCP server was not told yet."),
    Metric("chimera_export_dead", "gauge", T, "Events that the MCP server would not take."),
    Metric("chimera_export_failures", "gauge", (), "Failures in a row to reach the MCP server."),
    Metric(
        "chimera_archive_failures", "gauge", T, "Failed writes since the last good one; 0 when all is well."
    ),
    Metric(
        "chimera_retention_failures",
        "gauge",
        T,
        "Failed tries since a finished mission was archived; 0 when all is well.",
    ),
    Metric("chimera_brake_state", "gauge", T, "The brake: 0 open, 1 throttled, 2 frozen."),
    Metric(
        "chimera_brake_burn",
        "gauge",
        (*T, "window"),
        "Spending as a multiple of the plan; 0 without a plan.",
        {"window": ("short", "long")},
    ),
    Metric("chimera_brake_notices", "gauge", T, "Changes of the brake that the webhook was not told yet."),
    Metric("chimera_canary_well", "gauge", (), "1 while what must be refused is refused, else 0."),
    Metric(
        "chimera_part_well",
        "gauge",
        ("part",),
        "1 while a part of the hub is well, as `/readyz` says it, else 0.",
        {"part": ("redis", "orchestrator", "judge", "governor", "recorder", "retention", "canary")},
    ),
    Metric(
        "chimera_task_seconds",
        "histogram",
        (*T, "priority"),
        "From ready to accepted, whatever the task waited for.",
        PRIORITIES,
    ),
    Metric(
        "chimera_slo_seconds",
        "histogram",
        T,
        "High priority, from submit to accepted, without what a human or a pause took.",
    ),
    Metric("chimera_attempt_seconds", "histogram", T, "One attempt of an agent, from its claim to its end."),
    Metric("chimera_verdict_seconds", "histogram", T, "From when a judge took a result to its verdict."),
    Metric("chimera_model_seconds", "histogram", T, "One settled call of a model."),
    Metric(
        "chimera_http_seconds", "histogram", ("route",), "From a request to the first byte of its answer."
    ),
)
"""Every metric."""

BY_NAME = {metric.name: metric for metric in METRICS}

I = TypeVar("I", Counter, Histogram)  # noqa: E741  (an instrument)


class Metrics:
    """The instruments, made on first use in a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._made: dict[str, Counter | Histogram] = {}

    def counter(self, name: str) -> Counter:
        """A counter of the table.

        Raises:
            KeyError: the table has no counter of that name.
        """
        return self._instrument(name, "counter", Counter)

    def histogram(self, name: str) -> Histogram:
        """A histogram of the table; raises KeyError as `counter` does."""
        return self._instrument(name, "histogram", Histogram)

    def _instrument(self, name: str, kind: Kind, make: type[I]) -> I:
        metric = BY_NAME[name]
        if metric.kind != kind:
            raise KeyError(f"{name} is a {metric.kind}, not a {kind}")
        if name not in self._made:
            options: dict[str, Any] = {"buckets": SECONDS} if kind == "histogram" else {}
            self._made[name] = make(name, metric.meaning, metric.labels, registry=self.registry, **options)
        made = self._made[name]
        assert isinstance(made, make)
        return made
