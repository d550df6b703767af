"""What a service of the leader's cannot store, tenant by tenant.

It is told to whoever looks after the hub, and tried again ever more seldom until it succeeds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chimera.runtime.service import backoff_s
from chimera.store.sinks import Troubles

RETRY_S = 30.0
"""A blob store that cannot be written is tried again at least this often."""


@dataclass
class Trouble:
    """A tenant's."""

    since: datetime
    failures: int = 0
    retry_at: float = 0.0


class TroubleBook:
    """All tenants' troubles of one service: kept in the store, so that the next leader knows of them."""

    def __init__(self, told: Troubles) -> None:
        self._told = told
        self._of: dict[str, Trouble] = {}

    def waits(self, tenant: str) -> bool:
        """Whether it is too soon to try again."""
        return tenant in self._of and time.monotonic() < self._of[tenant].retry_at

    async def read(self) -> None:
        """What the leader before found; all of it may be tried at once."""
        self._of = {
            tenant: Trouble(datetime.fromisoformat(said["since"]), int(said["failures"]))
            for tenant, said in (await self._told.all()).items()
        }

    async def well(self, tenant: str) -> int:
        """It succeeded: how often it had failed until then."""
        if (trouble := self._of.get(tenant)) is None:
            return 0
        await self._told.clear(tenant)
        del self._of[tenant]
        return trouble.failures

    async def forget_all_but(self, tenants: Sequence[str]) -> None:
        """Tenants that are gone have no troubles."""
        for tenant in self._of.keys() - set(tenants):
            await self.well(tenant)

    async def failed(self, tenant: str, reason: str) -> None:
        """It failed once more."""
        trouble = self._of.setdefault(tenant, Trouble(datetime.now(UTC)))
        trouble.failures += 1
        trouble.retry_at = time.monotonic() + backoff_s(trouble.failures, base_s=0.5, most_s=RETRY_S)
        await self._told.report(tenant, reason, since=trouble.since, failures=trouble.failures)


def why(error: BaseException) -> str:
    """A failure of the blob store in a few words, without a path."""
    return getattr(error.__cause__, "strerror", None) or "it cannot be reached"
