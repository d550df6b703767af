"""Reports and estimates read much: a few at once in one process, one of a tenant, each within its time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chimera.errors import HubBusy, RateLimited, StoreTimeout

AT_ONCE = 4
"""Reports under way in one process."""
REPORT_S = 60.0
"""A report is there within this time, or given up."""
RETRY_AFTER_S = 2.0


class Reports:
    """Those under way."""

    def __init__(self) -> None:
        self._of: set[str] = set()

    @asynccontextmanager
    async def one(self, tenant: str) -> AsyncIterator[None]:
        """Around one report of a tenant.

        Raises:
            RateLimited: another of the tenant is under way.
            HubBusy: as many as there may be are.
            StoreTimeout: it took too long.
        """
        if tenant in self._of:
            raise RateLimited("a report of this tenant is being made: one at a time", RETRY_AFTER_S)
        if len(self._of) >= AT_ONCE:
            raise HubBusy(f"{AT_ONCE} reports are being made", RETRY_AFTER_S)
        self._of.add(tenant)
        try:
            async with asyncio.timeout(REPORT_S):
                yield
        except TimeoutError as exc:
            raise StoreTimeout(
                f"the report was not there after {REPORT_S:g} s: ask for a shorter span (since, until), or "
                "for "
                "one mission"
            ) from exc
        finally:
            self._of.discard(tenant)
