"""What money went to, kept while somebody looks: reports take up to a minute, panels are asked each second.

A report is made beside the request that asks first, and again once it is old, the old one shown meanwhile.
The longer it took, the longer it is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from chimera.core.usage import By
from chimera.dashboard.breakdown import BreakdownPanel, Days, breakdown_panel, unmade
from chimera.errors import ChimeraError, HubBusy, RateLimited
from chimera.runtime.base import Base
from chimera.serving.gateway.reports import Reports

FRESH_S = 20.0
TIMES = 30
"""A report is kept so many times as long as it took to make."""
WAITS_S = 1.5
"""So long a request waits for one; then it is told that it is being made."""
MOST_KEPT = 200


@dataclass(slots=True)
class Kept:
    """One report, and the making of the next."""

    shown: BreakdownPanel | None = None
    until: float = 0.0
    making: asyncio.Task[BreakdownPanel] | None = None


@dataclass(eq=False)
class Breakdowns:
    """Those of one process."""

    _kept: OrderedDict[tuple[str, By, Days], Kept] = field(default_factory=OrderedDict)

    async def panel(self, base: Base, reports: Reports, tenant: str, by: By, days: Days) -> BreakdownPanel:
        """A tenant's breakdown, or word that it is being made.

        Raises:
            CorruptRecord, StoreError: the recorder cannot be read.
        """
        kept = self._kept.setdefault((tenant, by, days), Kept())
        self._kept.move_to_end((tenant, by, days))
        while len(self._kept) > MOST_KEPT:
            _, oldest = self._kept.popitem(last=False)
            if oldest.making is not None:
                oldest.making.cancel()
        if kept.making is None and time.monotonic() >= kept.until:
            kept.making = asyncio.create_task(
                _make(base, reports, tenant, by, days), name=f"breakdown {tenant}"
            )
            kept.making.add_done_callback(lambda task: task.cancelled() or task.exception())
        if kept.making is not None:
            await asyncio.wait([kept.making], timeout=0 if kept.shown else WAITS_S)
            self._take(kept)
        return kept.shown or unmade(tenant, by, days)

    def _take(self, kept: Kept) -> None:
        """What was made, if it is there."""
        if kept.making is None or not kept.making.done():
            return
        making, kept.making = kept.making, None
        try:
            kept.shown = making.result()
        except (RateLimited, HubBusy):
            return  # others are being made: the next to ask tries again
        except ChimeraError:
            kept.shown = None
            raise
        kept.until = time.monotonic() + max(FRESH_S, TIMES * kept.shown.took_s)


async def _make(base: Base, reports: Reports, tenant: str, by: By, days: Days) -> BreakdownPanel:
    began = time.monotonic()
    async with reports.one(tenant):
        made = await breakdown_panel(base, tenant, by, days)
    return made.model_copy(update={"took_s": round(time.monotonic() - began, 3)})
