"""The throttle: a tenant's requests, and a key's, at their rates over all gateways; and who is suspended.

The bucket is in Redis. A gateway takes a few requests' worth from it at a time and spends them on its own, so
that a request seldom costs a round trip more; what it does not spend within a moment it throws away. So
the rate is never passed, however many gateways there are.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from chimera.core.tenant import Quota
from chimera.errors import RateLimited
from chimera.store.apikeys import Principal
from chimera.store.connection import Redis
from chimera.store.rates import Pass, Rates

AHEAD_S = 0.05
"""A gateway takes what this much time brings at once."""
KEEP_S = 1.0
"""What it took and did not spend counts no more after this; a changed quota binds within it."""
LOGINS_PER_S = 0.5
LOGINS_AT_ONCE = 10
"""Attempts to log in with a key, from one address. Nobody guesses a key: this bounds what attempts cost."""
MOST = 1_000
"""The most it takes at once."""


class Take(Protocol):
    """Takes from one bucket."""

    async def __call__(self, *, take_id: str, most: int) -> Pass: ...


@dataclass(slots=True)
class Purse:
    """What a tenant, or a key, may still send through this gateway; times by the local monotonic clock."""

    left: float = 0.0
    good_until: float = 0.0
    shut_until: float = 0.0
    per_s: float = 0.0
    suspended: str | None = None
    taking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Throttle:
    """One gateway's.

    Args:
        defaults: for tenants whose quota does not say.
    """

    def __init__(self, redis: Redis, defaults: Quota) -> None:
        self._rates = Rates(redis, uuid.uuid4().hex[:12], defaults)
        self._purses: dict[str, Purse] = {}

    async def admit(self, tenant: str) -> str | None:
        """Let one request of the tenant pass. Why the tenant is suspended; None: it is not.

        Raises:
            RateLimited: it comes too soon; `retry_after_s` says when one may.
        """
        purse = await self._admit(
            tenant,
            partial(self._rates.take, tenant),
            f"this tenant sends more than {{}} requests a second: send fewer, or ask the operator for more "
            f"(`chimera tenant set {tenant} --requests-per-s N`)",
        )
        return purse.suspended

    async def admit_key(self, principal: Principal) -> None:
        """Let one request pass that is made with this key, if the key has a rate of its own.

        Raises:
            RateLimited: it comes too soon; `retry_after_s` says when one may.
        """
        tenant, key_id, per_s = principal.tenant, principal.key_id, principal.requests_per_s
        if per_s:
            await self._admit(
                f"{tenant} {key_id}",
                partial(self._rates.take_of_key, tenant, key_id, per_s=per_s),
                f"key {key_id} sends more than {{}} requests a second, which is its own rate, not the "
                "tenant's: send fewer, or use another key",
            )

    async def admit_session(self, tenant: str, key_digest: str, per_s: float) -> None:
        """Let one request of a page pass, at the rate of a key's sessions, beside the tenant's own.

        Raises:
            RateLimited: it comes too soon; `retry_after_s` says when one may.
        """
        name = f"page {key_digest}"
        await self._admit(
            f"{tenant} {name}",
            partial(self._rates.take_of_key, tenant, name, per_s=per_s),
            "the pages that are open with this key ask more than {} times a second: close some",
        )

    async def admit_login(self, address: str) -> None:
        """Let one attempt to log in from an address pass.

        Raises:
            RateLimited: there were too many; `retry_after_s` says when one may.
        """
        passes = await self._rates.take_of_login(
            address, uuid.uuid4().hex, per_s=LOGINS_PER_S, burst=LOGINS_AT_ONCE
        )
        if not passes.count:
            raise RateLimited("too many attempts to log in from this address: wait a moment", passes.wait_s)

    async def _admit(self, whose: str, take: Take, said: str) -> Purse:
        purse = self._purses.setdefault(whose, Purse())
        if not _spend(purse):
            async with purse.taking:
                # Another request may have taken for both while this one waited.
                if not _spend(purse):
                    await self._take(take, purse, said)
        return purse

    async def _take(self, take: Take, purse: Purse, said: str) -> None:
        now = time.monotonic()
        if now >= purse.shut_until:
            most = max(1, min(MOST, int(purse.per_s * AHEAD_S)))
            passes = await take(take_id=uuid.uuid4().hex, most=most)
            purse.per_s, purse.good_until = passes.per_s, time.monotonic() + KEEP_S
            purse.suspended = passes.reason if passes.suspended else None
            purse.left = passes.count if passes.per_s else float("inf")
            if _spend(purse):
                return
            now = time.monotonic()
            purse.shut_until = now + passes.wait_s
        wait_s = round(max(0.001, purse.shut_until - now), 3)
        raise RateLimited(said.format(f"{purse.per_s:g}"), wait_s)


def _spend(purse: Purse) -> bool:
    if purse.left >= 1 and time.monotonic() < purse.good_until:
        purse.left -= 1
        return True
    return False
