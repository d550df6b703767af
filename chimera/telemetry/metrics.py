"""Metrics: every name there is, and the maker of its instrument.

Names, labels and meanings are API: dashboards and alerts are built on them. Labels are few and
bounded: the tenant and a status, never a mission, a task or a worker.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from chimera.core.histogram import BOUNDS_MS

SECONDS = tuple(ms / 1000 for ms in BOUNDS_MS)

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. Money is in µ$, time in seconds."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric("chimera_missions_total", "counter", ("tenant", "status"), "Missions that reached a status."),
    Metric("chimera_tasks_total", "counter", ("tenant", "status"), "Tasks that reached a status."),
    Metric("chimera_attempts_total", "counter", ("tenant", "outcome"), "Attempts by how they ended."),
    Metric("chimera_verdicts_total", "counter", ("tenant", "decision"), "Verdicts of the judge."),
    Metric("chimera_spend_microusd_total", "counter", ("tenant",), "Money spent, µ$."),
    Metric("chimera_refusals_total", "counter", ("tenant", "kind"), "Reservations refused."),
    Metric("chimera_rescues_total", "counter", ("tenant",), "Tasks taken back from workers that died."),
    Metric("chimera_model_tokens_total", "counter", ("tenant", "direction"), "Tokens of models."),
    Metric("chimera_slo_breaches_total", "counter", ("tenant",), "High-priority tasks accepted too late."),
    Metric("chimera_http_requests_total", "counter", ("route", "method", "code"), "Requests to the API."),
    Metric("chimera_missions_active", "gauge", ("tenant",), "Missions that are not over."),
    Metric("chimera_queue_depth", "gauge", ("tenant", "priority"), "Tasks that may be claimed now."),
    Metric("chimera_tasks_pending", "gauge", ("tenant",), "Tasks under a worker's lease."),
    Metric("chimera_reviews_waiting", "gauge", ("tenant", "by"), "Results that wait for `judge` or `human`."),
    Metric("chimera_held_microusd", "gauge", ("tenant",), "Money held for calls under way, µ$."),
    Metric("chimera_workers", "gauge", ("tenant",), "Live workers."),
    Metric("chimera_slots", "gauge", ("tenant", "state"), "Slots of live workers, `busy` or `free`."),
    Metric("chimera_recorder_unarchived", "gauge", ("tenant",), "Events that are in Redis only."),
    Metric("chimera_archive_failures", "gauge", ("tenant",), "Failed writes since the last good one."),
    Metric("chimera_export_behind", "gauge", ("tenant",), "Events that the MCP server was not told yet."),
    Metric("chimera_export_dead", "gauge", ("tenant",), "Events that the MCP server would not take."),
    Metric("chimera_export_failures", "gauge", (), "Failures in a row to reach the MCP server."),
    Metric("chimera_missions_finished", "gauge", ("tenant",), "Finished missions that are in Redis."),
    Metric("chimera_retention_failures", "gauge", ("tenant",), "Failed tries since a mission was archived."),
    Metric("chimera_brake_state", "gauge", ("tenant",), "The brake: 0 open, 1 throttled, 2 frozen."),
    Metric("chimera_brake_burn", "gauge", ("tenant", "window"), "Spending over plan, `short` or `long`."),
    Metric("chimera_brake_notices", "gauge", ("tenant",), "Changes that the webhook was not told yet."),
    Metric("chimera_canary_well", "gauge", (), "1 while what must be refused is refused, else 0."),
    Metric("chimera_task_seconds", "histogram", ("tenant", "priority"), "From ready to accepted."),
    Metric("chimera_slo_seconds", "histogram", ("tenant",), "High priority, from submit to accepted."),
    Metric("chimera_attempt_seconds", "histogram", ("tenant",), "One attempt of an agent."),
    Metric("chimera_verdict_seconds", "histogram", ("tenant",), "From submit of a result to its verdict."),
    Metric("chimera_model_seconds", "histogram", ("tenant",), "One call of a model."),
    Metric("chimera_http_seconds", "histogram", ("route",), "One request to the API."),
)
"""Every metric."""

BY_NAME = {metric.name: metric for metric in METRICS}

I = TypeVar("I", Counter, Gauge, Histogram)  # noqa: E741  (an instrument)


class Metrics:
    """The instruments, made on first use in a registry of the caller's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._made: dict[str, Counter | Gauge | Histogram] = {}

    def counter(self, name: str) -> Counter:
        """A counter of the table.

        Raises:
            KeyError: the table has no counter of that name.
        """
        return self._instrument(name, "counter", Counter)

    def gauge(self, name: str) -> Gauge:
        """A gauge of the table; raises KeyError as `counter` does."""
        return self._instrument(name, "gauge", Gauge)

    def histogram(self, name: str) -> Histogram:
        """A histogram of the table; raises KeyError as `counter` does."""
        return self._instrument(name, "histogram", Histogram)

    def _instrument(self, name: str, kind: Kind, make: type[I]) -> I:
        if (made := self._made.get(name)) is None:
            metric = BY_NAME[name]
            if metric.kind != kind:
                raise KeyError(f"{name} is a {metric.kind}, not a {kind}")
            options: dict[str, Any] = {"buckets": SECONDS} if kind == "histogram" else {}
            made = make(name, metric.meaning, metric.labels, registry=self.registry, **options)
            self._made[name] = made
        if not isinstance(made, make):
            raise KeyError(f"{name} is a {BY_NAME[name].kind}, not a {kind}")
        return made
