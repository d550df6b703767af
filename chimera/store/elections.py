"""Elections: one replica leads a role, under a term that only grows."""

from __future__ import annotations

from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts


class Election:
    """The lead of one role."""

    def __init__(self, redis: Redis, role: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.role = role

    async def lead(self, replica: str, *, ttl_s: float) -> int | None:
        """Take or keep the lead. Returns the term, or None when another leads."""
        answer = await self._scripts.run(
            "elect_leader",
            [keys.leader(self.role), keys.last_term(self.role)],
            replica,
            round(ttl_s * 1000),
        )
        return int(answer[1]) if answer[0] == 1 else None

    async def resign(self, replica: str) -> None:
        """Give up the lead, if it is ours, so that another need not wait for its expiry."""
        with translated():
            holder = await self._redis.get(keys.leader(self.role))
            # Should the lead pass on between these two lines, its new holder is elected again under a
            # higher term: a moment lost, nothing else.
            if holder is not None and holder.rpartition(" ")[0] == replica:
                await self._redis.delete(keys.leader(self.role))

    async def leader(self) -> str | None:
        """Who leads now."""
        with translated():
            holder = await self._redis.get(keys.leader(self.role))
        return None if holder is None else str(holder).rpartition(" ")[0]
