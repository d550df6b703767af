"""Tenants that were removed: what is left to do is to bring their recorders to their end.

Removing and purging are the last acts of a recorder. They are archived and told of like all others, though no
list of tenants has its name any more; and after a restart of the store, its chain must be joined again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts


@dataclass(frozen=True, slots=True)
class Gone:
    """Who was removed.

    Attributes:
        run: the store's process (`run_id`).
        acts: tenant → the last act on it. Another act, or another process, means another look at it.
    """

    run: str
    acts: dict[str, str]

    def look(self, tenant: str) -> Look:
        """What a look at a removed tenant saw is good for as long as this stays the same."""
        return self.run, self.acts[tenant]


Look = tuple[str, str]


class Removed:
    """All of them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def gone(self) -> Gone:
        """Who they are now."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.info("server")
                pipe.hgetall(keys.REMOVED)
                server, acts = await pipe.execute()
            return Gone(str(server["run_id"]), dict(acts))

    async def note(self, tenant: str, act: str) -> None:
        """One more, or one more act on it, which its recorder has already; idempotent."""
        await self._scripts.run("note_removed", [keys.REMOVED], tenant, act)


@dataclass
class Seen:
    """Removed tenants with whom a service has come to the end."""

    _looks: dict[str, Look] = field(default_factory=dict)

    def left(self, gone: Gone) -> list[str]:
        """Those that there may be something left of."""
        return sorted(tenant for tenant in gone.acts if self._looks.get(tenant) != gone.look(tenant))

    def over(self, tenant: str, gone: Gone) -> None:
        """Nothing is left of this one, as it stood then."""
        self._looks[tenant] = gone.look(tenant)

    def clear(self) -> None:
        """Look at all of them again."""
        self._looks.clear()
