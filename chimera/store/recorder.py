"""Reading the flight recorder. Scripts alone write it, in the step that makes the transition."""

from __future__ import annotations

from collections.abc import AsyncIterator

from chimera.core.event import Event, expand
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys

PAGE = 500


class Recorder:
    """One tenant's flight recorder."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self.keys = TenantKeys(tenant)

    async def read(self, *, after: str = "0", mission_id: str = "") -> AsyncIterator[tuple[str, Event]]:
        """Entries after a stream id, oldest first, with the id to go on from.

        The id of an entry covers all events of one script call: resuming at it skips none, for
        the events of a call are given together.
        """
        cursor = after
        while True:
            with translated():
                page = await self._redis.xrange(self.keys.log, min=f"({cursor}", count=PAGE)
            for entry_id, fields in page:
                cursor = entry_id
                for event in expand(fields):
                    if not mission_id or event.mission_id == mission_id:
                        yield entry_id, event
            if len(page) < PAGE:
                return

    async def wait(self, *, after: str, timeout_s: float) -> bool:
        """Whether there is an entry after a stream id, within the time. For a blocking client."""
        with translated():
            found = await self._redis.xread(
                {self.keys.log: after}, count=1, block=max(1, round(timeout_s * 1000))
            )
        return bool(found)

    async def last(self) -> str:
        """The newest entry's stream id; "0" when there is none."""
        with translated():
            newest = await self._redis.xrevrange(self.keys.log, count=1)
        return str(newest[0][0]) if newest else "0"
