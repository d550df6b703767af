"""Whether high priority is served as fast as promised: 99 of 100 tasks within a bound, lately."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from chimera.core.views import View
from chimera.runtime.base import Base
from chimera.store.promises import lately, served

WINDOW_S = 300.0
SHARE = 0.99
"""Of tasks that must be within the bound."""


class PromisePanel(View):
    """The promise to high priority, and how it is kept."""

    slo_s: float = Field(description="A task shall take no longer (CHIMERA_SLO_S).")
    window_s: float = Field(description="Looked at: so far back.")
    kept: bool | None = Field(
        description="99 of 100 were within the bound, a human's time subtracted; null: none was accepted."
    )
    accepted: int = Field(description="Tasks of high priority, in that time.")
    breaches: int = Field(description="Of these, those that took longer, a human's time subtracted.")
    p99_s: float | None = Field(
        description="From ready to accepted, a human's time included, as nearly as buckets tell; null: none."
    )
    ever_accepted: int = Field(description="Since the first.")
    ever_breaches: int = Field(description="The same.")


async def promise_panel(base: Base, tenants: Sequence[str]) -> PromisePanel:
    """Of the tenants together; in three round trips."""
    now = await lately(base.redis, tenants, WINDOW_S)
    ever = (await served(base.redis, tenants)).values()
    accepted, p99_ms = now.times.count, now.times.percentile(SHARE)
    return PromisePanel(
        slo_s=base.settings.slo_s,
        window_s=WINDOW_S,
        kept=now.breaches <= (1 - SHARE) * accepted if accepted else None,
        accepted=accepted,
        breaches=now.breaches,
        p99_s=None if p99_ms is None else p99_ms / 1000,
        ever_accepted=sum(sum(one.within) for one in ever),
        ever_breaches=sum(one.breaches for one in ever),
    )
