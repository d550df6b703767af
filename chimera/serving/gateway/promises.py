"""How well high priority was served, for Prometheus: Redis counts it, so every gateway tells the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from chimera.core.histogram import BOUNDS_MS
from chimera.store.promises import Served
from chimera.telemetry.metrics import BY_NAME

SECONDS, BREACHES = "chimera_slo_seconds", "chimera_slo_breaches_total"


class Promises(Collector):
    """Shows what was read last."""

    def __init__(self) -> None:
        self.served: Mapping[str, Served] = {}
        """By tenant."""

    def collect(self) -> Iterator[Metric]:
        """Both metrics, of every tenant with an accepted task of high priority."""
        seconds = HistogramMetricFamily(SECONDS, BY_NAME[SECONDS].meaning, labels=["tenant"])
        breaches = CounterMetricFamily(BREACHES, BY_NAME[BREACHES].meaning, labels=["tenant"])
        bounds = [*(f"{ms / 1000:g}" for ms in BOUNDS_MS), "+Inf"]
        for tenant, one in self.served.items():
            if any(one.within):
                counts = [float(count) for count in accumulate(one.within)]
                seconds.add_metric([tenant], list(zip(bounds, counts, strict=True)), one.seconds)
                breaches.add_metric([tenant], one.breaches)
        yield seconds
        yield breaches
