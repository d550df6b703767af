"""What Redis counts and holds of every tenant, as Prometheus reads it: the same on every gateway.

A page of metrics is as long as there are tenants, so its text is put together here, a line a figure: the
library's way takes several times as long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from chimera.core.histogram import BOUNDS_MS, Histogram
from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway import archive, braked, promises
from chimera.store.gauges import gauges
from chimera.store.limits import bounds
from chimera.store.tallies import tallies
from chimera.telemetry.figures import Figure, of_tenant
from chimera.telemetry.metrics import BY_NAME

_LE = (*(f"{ms / 1000:g}" for ms in BOUNDS_MS), "+Inf")


async def read(base: Base) -> list[Figure]:
    """All of every tenant, in a constant number of round trips.

    Raises:
        StoreError: the store is away.
    """
    tenants = await base.tenants.names()
    counted, stands = await tallies(base.redis, tenants), await gauges(base.redis, tenants)
    told = [one for tenant in tenants for one in of_tenant(tenant, counted[tenant], stands[tenant])]
    for tenant, limits in (await bounds(base.redis, tenants)).items():
        for window, bound in limits.items():
            told += [
                Figure("chimera_limit_microusd", (tenant, window), bound.limit),
                Figure("chimera_limit_settled_microusd", (tenant, window), bound.settled),
            ]
    told += await archive.figures(base, tenants)
    told += await braked.told(base, tenants)
    told += await promises.kept(base.redis, tenants)
    return told


def of_parts(parts: Mapping[str, Health]) -> list[Figure]:
    """How the hub's parts are."""
    return [Figure("chimera_part_well", (name,), int(health.ok)) for name, health in parts.items()]


def exposition(figures: Iterable[Figure]) -> str:
    """Prometheus' text format (0.0.4). Every value of a label is a name that needs no escape."""
    by_name: dict[str, list[Figure]] = {}
    for one in figures:
        by_name.setdefault(one.name, []).append(one)
    lines: list[str] = []
    for name, several in by_name.items():
        metric = BY_NAME[name]
        lines += [f"# HELP {name} {metric.meaning}", f"# TYPE {name} {metric.kind}"]
        form = ",".join(f'{label}="{{{place}}}"' for label, place in _sorted(metric.labels))
        for _, values, value in several:
            labels = form.format(*values)
            if isinstance(value, Histogram):
                lines += _histogram(name, labels, value)
            else:
                lines.append(f"{name}{{{labels}}} {float(value)}" if labels else f"{name} {float(value)}")
    return "\n".join([*lines, ""]) if lines else ""


def _sorted(labels: Sequence[str]) -> list[tuple[str, int]]:
    """As the library writes them, with the place of each in a figure."""
    return sorted((label, place) for place, label in enumerate(labels))


def _histogram(name: str, labels: str, times: Histogram) -> list[str]:
    reached = list(accumulate(times.within))
    lines = [f'{name}_bucket{{le="{le}",{labels}}} {count}.0' for le, count in zip(_LE, reached, strict=True)]
    lines += [f"{name}_count{{{labels}}} {reached[-1]}.0", f"{name}_sum{{{labels}}} {times.ms / 1000}"]
    return lines
