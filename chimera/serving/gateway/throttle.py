"""The throttle: a tenant's requests, at its rate over all gateways.

The bucket is in Redis. A gateway takes a few requests' worth from it at a time and spends them on its own, so
that a request seldom costs a round trip more; what it does not spend within a moment it throws away. So
the rate is never passed, however many gateways there are.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field

from chimera.core.tenant import Quota
from chimera.errors import RateLimited
from chimera.store.connection import Redis
from chimera.store.rates import Rates

AHEAD_S = 0.05
"""A gateway takes what this much time brings at once."""
KEEP_S = 1.0
"""What it took and did not spend counts no more after this; a changed quota binds within it."""
MOST = 1_000
"""The most it takes at once."""


@dataclass(slots=True)
class Purse:
    """What one tenant may still send through this gateway; times by the local monotonic clock."""

    left: float = 0.0
    good_until: float = 0.0
    shut_until: float = 0.0
    per_s: float = 0.0
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Throttle:
    """One gateway's.

    Args:
        defaults: for tenants whose quota does not say.
    """

    def __init__(self, redis: Redis, defaults: Quota) -> None:
        self._rates = Rates(redis, uuid.uuid4().hex[:12], defaults)
        self._purses: dict[str, Purse] = {}

    async def admit(self, tenant: str) -> None:
        """Let one request of the tenant pass.

        Raises:
            RateLimited: it comes too soon; `retry_after_s` says when one may.
        """
        purse = self._purses.setdefault(tenant, Purse())
        if not _spend(purse):
            async with purse.taking:
                # Another request may have taken for both while this one waited.
                if not _spend(purse):
                    await self._take(tenant, purse)

    async def _take(self, tenant: str, purse: Purse) -> None:
        now = time.monotonic()
        if now >= purse.shut_until:
            most = max(1, min(MOST, int(purse.per_s * AHEAD_S)))
            passes = await self._rates.take(tenant, uuid.uuid4().hex, most)
            purse.per_s, purse.good_until = passes.per_s, time.monotonic() + KEEP_S
            purse.left = passes.count if passes.per_s else float("inf")
            if _spend(purse):
                return
            now = time.monotonic()
            purse.shut_until = now + passes.wait_s
        raise RateLimited(
            f"this tenant sends more than {purse.per_s:g} requests a second: send fewer, or ask the operator "
            f"for more (`chimera tenant quota {tenant} --requests-per-s N`)",
            round(max(0.001, purse.shut_until - now), 3),
        )


def _spend(purse: Purse) -> bool:
    if purse.left >= 1 and time.monotonic() < purse.good_until:
        purse.left -= 1
        return True
    return False
