"""The table of metrics, and the instruments made from it."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from chimera.telemetry.metrics import METRICS, Metric, Metrics

UNBOUNDED = {"mission", "mission_id", "task", "task_id", "worker", "key", "path"}


def test_names_are_unique() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_is_named_by_its_kind_and_has_bounded_labels(metric: Metric) -> None:
    assert metric.name.startswith("chimera_")
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert not set(metric.labels) & UNBOUNDED
    assert metric.meaning.endswith(".")


def test_an_instrument_is_made_once_and_shown() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.counter("chimera_tasks_total").labels(tenant="acme", status="accepted").inc(3)
    metrics.counter("chimera_tasks_total").labels(tenant="acme", status="accepted").inc()
    metrics.histogram("chimera_http_seconds").labels(route="/v1/missions").observe(0.02)
    text = generate_latest(registry).decode()
    assert 'chimera_tasks_total{status="accepted",tenant="acme"} 4.0' in text
    assert 'chimera_http_seconds_bucket{le="0.025",route="/v1/missions"} 1.0' in text


def test_a_metric_outside_the_table_or_of_another_kind_is_refused() -> None:
    metrics = Metrics(CollectorRegistry())
    with pytest.raises(KeyError):
        metrics.counter("chimera_unheard_of_total")
    with pytest.raises(KeyError, match="is a gauge"):
        metrics.counter("chimera_workers")
    with pytest.raises(KeyError, match="is a gauge"):
        metrics.histogram("chimera_workers")
