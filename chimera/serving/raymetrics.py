"""Counters and gauges of all tenants for Ray's own metrics: its endpoint, and whatever reads that, has them.

The hub's leader tells them as it samples. Another leader takes over in a process of its own, and what a
process has said to Ray stays said while it lives: so a counter here counts what happened while this process
led, and all processes together are the sum; a gauge goes to 0 when it leads no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ray.util.metrics import Counter, Gauge

from chimera.core.series import Sample
from chimera.core.tally import Tally
from chimera.telemetry.figures import COUNTED, STANDING, of_tenant
from chimera.telemetry.metrics import BY_NAME

NAMES = (*COUNTED, *STANDING)
"""Metrics that Ray is told. Times are not: it takes them one by one alone."""


class Instruments(Protocol):
    """Where figures go."""

    def count(self, name: str, labels: Mapping[str, str], more: float) -> None:
        """So much more of a counter."""
        ...

    def stand(self, name: str, labels: Mapping[str, str], at: float) -> None:
        """What a gauge stands at."""
        ...


class RayInstruments:
    """Ray's, made on first use."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def count(self, name: str, labels: Mapping[str, str], more: float) -> None:
        """So much more of a counter."""
        self._of(name, Counter).inc(more, tags=dict(labels))

    def stand(self, name: str, labels: Mapping[str, str], at: float) -> None:
        """What a gauge stands at."""
        self._of(name, Gauge).set(at, tags=dict(labels))

    def _of(self, name: str, make: type[Counter | Gauge]) -> Any:
        if name not in self._made:
            metric = BY_NAME[name]
            said = metric.meaning.replace("µ$", "micro-dollars")  # Ray takes ASCII alone
            self._made[name] = make(name, description=said, tag_keys=metric.labels)
        return self._made[name]


class RayMetrics:
    """Tells Ray what the sampler saw."""

    def __init__(self, instruments: Instruments | None = None) -> None:
        self._instruments = instruments or RayInstruments()
        self._seen: dict[str, Tally] | None = None
        """Each tenant's tally as of the last look; None before the first."""
        self._stood: set[tuple[str, tuple[str, ...]]] = set()
        """Gauges that are not 0."""

    def tell(self, now: Mapping[str, Sample]) -> None:
        """Of one look at all tenants; of none: this process leads no more."""
        standing: set[tuple[str, tuple[str, ...]]] = set()
        for tenant, sample in now.items():
            # What was there before it led is another's to tell; who comes later comes with all it has.
            before = sample.tally if self._seen is None else self._seen.get(tenant, Tally())
            for name, labels, value in of_tenant(tenant, sample.tally - before, sample.gauges):
                named = dict(zip(BY_NAME[name].labels, labels, strict=True))
                if name in COUNTED and isinstance(value, int) and value > 0:
                    self._instruments.count(name, named, value)
                elif name in STANDING and isinstance(value, int):
                    self._instruments.stand(name, named, value)
                    standing.add((name, labels))
        for name, labels in self._stood - standing:
            self._instruments.stand(name, dict(zip(BY_NAME[name].labels, labels, strict=True)), 0)
        self._stood = standing
        self._seen = {tenant: sample.tally for tenant, sample in now.items()} if now else None
