"""Cuts through a tenant's ledger: its figures and the recorder's last number, read in one step.

A ledger is never still. What of it is read together with the number of the recorder's last entry is exactly
what a replay up to that entry must yield.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from chimera.core.audit import SETTLED, Cut
from chimera.core.replay import TENANT
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys

AT_ONCE = 1_000
"""Missions, and other subjects, whose figures are read in one step: a few milliseconds of Redis."""
MOST_HOLDS = 100_000
"""Open holds that are compared one by one; of more only their sum is."""


class Cuts:
    """One tenant's ledger, to be compared."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self.keys = TenantKeys(tenant)

    async def take(self) -> AsyncIterator[Cut]:
        """The whole ledger, in cuts, one after another: every level, every mission that is in the store."""
        with translated():
            subjects = [TENANT, *sorted(await self._redis.zrange(self.keys.subjects, 0, -1))]
            missions = sorted(await self._redis.zrange(self.keys.missions, 0, -1))
        for start in range(0, max(len(subjects), len(missions)), AT_ONCE):
            end = start + AT_ONCE
            yield await self._cut(subjects[start:end], missions[start:end], holds=start == 0)

    async def starts(self) -> dict[int, int]:
        """Epoch → the number that it begins behind: what earlier ones have behind it, the store lost."""
        with translated():
            fields = await self._redis.hgetall(self.keys.epochs)
            return {int(one): int(value.split()[0]) for one, value in fields.items() if one.isdecimal()}

    async def _cut(self, subjects: Sequence[str], missions: Sequence[str], *, holds: bool) -> Cut:
        keys = self.keys
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.get(keys.sequence)
                pipe.time()
                pipe.zrange(keys.subjects, 0, -1)
                pipe.zrange(keys.holds, 0, MOST_HOLDS)
                for subject in subjects:
                    pipe.hgetall(keys.ledger if subject == TENANT else keys.of("subject", subject))
                for mission in missions:
                    pipe.zscore(keys.missions, mission)
                    pipe.hmget(keys.of("spend", mission), "settled", "held")
                seq, now, known, opened, *rest = await pipe.execute()
            figures, of_missions = rest[: len(subjects)], rest[len(subjects) :]
            return Cut(
                seq=int(seq or 0),
                at=datetime.fromtimestamp(now[0] + now[1] / 1e6, UTC),
                subjects={one: money(found) for one, found in zip(subjects, figures, strict=True)},
                missions={
                    mission: (int(spent[0] or 0), int(spent[1] or 0))
                    for mission, there, spent in zip(
                        missions, of_missions[::2], of_missions[1::2], strict=True
                    )
                    if there is not None  # else it was pruned meanwhile
                },
                holds=tuple(opened) if holds and len(opened) <= MOST_HOLDS else None,
                # One that came meanwhile is not among those that were read.
                whole=TENANT in subjects and set(known) <= set(subjects),
            )


def money(fields: dict[str, Any]) -> dict[str, int]:
    """A subject's hash, without what is no figure of money."""
    return {
        name: int(value)
        for name, value in fields.items()
        if name in {"held", "calls"} or name.startswith(SETTLED)
    }
