"""What a ledger says of every level, in one step: for whoever reports it and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

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
        return (await standings(self._redis, [self.keys.tenant]))[self.keys.tenant]


async def standings(redis: Redis, tenants: Sequence[str]) -> dict[str, Standing]:
    """The ledgers of many tenants: two round trips, however many. One alone is read at one instant."""
    if not tenants:
        return {}
    many = [TenantKeys(tenant) for tenant in tenants]
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for keys in many:
                pipe.hkeys(keys.limits)
            limited = [
                {name.rpartition("/")[0] for name in names} - {TENANT} for names in await pipe.execute()
            ]
        subjects = [[TENANT, *sorted(names)] for names in limited]
        async with redis.pipeline(transaction=len(many) == 1) as pipe:
            for keys, names in zip(many, subjects, strict=True):
                pipe.time()
                pipe.hgetall(keys.limits)
                for name in names:
                    pipe.hgetall(keys.ledger if name == TENANT else keys.of("subject", name))
            rows = iter(await pipe.execute())
        return {keys.tenant: _standing(rows, names) for keys, names in zip(many, subjects, strict=True)}


def _standing(rows: Iterator[Any], names: Sequence[str]) -> Standing:
    seconds, micros = next(rows)
    limits = {name: int(limit) for name, limit in next(rows).items()}
    subjects = {name: money(next(rows)) for name in names}
    return Standing(datetime.fromtimestamp(seconds + micros / 1e6, UTC), limits, subjects)
