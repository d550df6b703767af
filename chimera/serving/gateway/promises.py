"""How well high priority was served, for Prometheus."""

from __future__ import annotations

from collections.abc import Sequence

from chimera.core.histogram import Histogram
from chimera.store.connection import Redis
from chimera.store.promises import served
from chimera.telemetry.figures import Figure


async def kept(redis: Redis, tenants: Sequence[str]) -> list[Figure]:
    """Of every tenant with an accepted task of high priority.

    Raises:
        StoreError: the store is away.
    """
    said = []
    for tenant, one in (await served(redis, tenants)).items():
        if any(one.within):
            times = Histogram(one.within, round(1000 * one.seconds))
            said += [
                Figure("chimera_slo_seconds", (tenant,), times),
                Figure("chimera_slo_breaches_total", (tenant,), one.breaches),
            ]
    return said
