"""What a ledger says of every level, in one step: for whoever reports it and writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from chimera.core.replay import TENANT
from chimera.store.connection import Redis, translated
from chimera.store.cuts import money
from chimera.store.keys import TenantKeys


@dataclass(frozen=True, slots=True)
class Standing:
    """A ledger at one instant.

    Attributes:
        at: the store's clock.
        limits: in force: ``day``, ``agent/NAME/day`` … → µ$.
        subjects: figures by subject, as `chimera.core.audit.Cut` has them: the tenant's, and those of each
            agent and model that has a limit.
    """

    at: datetime
    limits: dict[str, int]
    subjects: dict[str, dict[str, int]]


class Spending:
    """One tenant's ledger, to be read."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self.keys = TenantKeys(tenant)

    async def standing(self) -> Standing:
        """The ledger as it stands."""
        keys = self.keys
        with translated():
            limited = {name.rpartition("/")[0] for name in await self._redis.hkeys(keys.limits)} - {TENANT}
            names = [TENANT, *sorted(limited)]
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.time()
                pipe.hgetall(keys.limits)
                for name in names:
                    pipe.hgetall(keys.ledger if name == TENANT else keys.of("subject", name))
                now, limits, *figures = await pipe.execute()
            return Standing(
                at=datetime.fromtimestamp(now[0] + now[1] / 1e6, UTC),
                limits={name: int(limit) for name, limit in limits.items()},
                subjects={name: money(found) for name, found in zip(names, figures, strict=True)},
            )
