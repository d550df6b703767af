"""Bulkheads: what is damaged of one tenant or mission is named and passed over, and the others are served."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager

import structlog

from chimera.errors import StoreTimeout, StoreUnavailable
from chimera.store.scripts import OldTerm

log = structlog.get_logger(__name__)

SAY_AGAIN_S = 60.0
"""A damage that lasts is logged this often, not each time it is met."""
AT_ONCE = 16
"""Tenants a loop looks at together: their calls wait on the network side by side."""


class Bulkhead:
    """One service's: keeps the trouble of one from the others.

    The store's absence and the end of a term are everybody's and go through: the service as a whole backs
    off, or stops.
    """

    def __init__(self, service: str) -> None:
        self._service = service
        self._said: dict[tuple[str, str, str], float] = {}

    @contextmanager
    def of(self, tenant: str, mission_id: str = "") -> Iterator[None]:
        """Around one tenant's, or one mission's, share of the work."""
        try:
            yield
        except (StoreUnavailable, StoreTimeout, OldTerm):
            raise
        except Exception as exc:  # noqa: BLE001  (whatever it is, it is named and the others are served)
            self.name(exc, tenant, mission_id)

    def name(self, exc: Exception, tenant: str, mission_id: str = "", task_id: str = "") -> None:
        """Say in the log what is damaged, unless that was said just now."""
        key, now = (tenant, mission_id, task_id), time.monotonic()
        if now - self._said.get(key, float("-inf")) >= SAY_AGAIN_S:
            self._said[key] = now
            log.error(
                "mission.damaged" if mission_id else "tenant.damaged",
                service=self._service,
                tenant=tenant,
                mission_id=mission_id,
                **({"task_id": task_id} if task_id else {}),
                error=str(exc),
                exc_info=exc,
            )

    async def each(self, tenants: Sequence[str], do: Callable[[str], Awaitable[None]]) -> None:
        """Do it for every tenant, a few at once.

        Raises:
            StoreUnavailable, StoreTimeout: the store is away.
        """

        async def one(tenant: str) -> None:
            with self.of(tenant):
                await do(tenant)

        for start in range(0, len(tenants), AT_ONCE):
            together = (one(tenant) for tenant in tenants[start : start + AT_ONCE])
            for failed in await asyncio.gather(*together, return_exceptions=True):
                if isinstance(failed, BaseException):
                    raise failed
