"""The audit: who did what to a tenant, its keys and limits, and why.

An act on a tenant is an event of its flight recorder, kept and archived as all others are. An act on the
whole fleet (its keys) is one of a stream of the fleet's, of which the newest are kept. Where the effect is in
another slot of Redis the entry is written first, under the operation's id: a crash between the two leaves an
entry of an act that its repetition completes, and never an act without an entry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chimera.core.event import ADMINISTRATIVE, BEGINNING, Event, Position, expand
from chimera.core.scope import FLEET
from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.recorder import Recorder
from chimera.store.scripts import Scripts

KEPT = 10_000
"""So many of the fleet's entries are kept, at least."""
PAGES = 10
"""One question goes through this many pages of a tenant's recorder at most: some thousand events."""


class Audit:
    """Every tenant's, and the fleet's."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def note(
        self, tenant: str, kind: str, operation: str, *, by: str, reason: str = "", **details: Any
    ) -> bool:
        """Record an act on a tenant, or on `FLEET`; once for an operation. Whether it was not before."""
        said: Mapping[str, Any] = {**details, **({"reason": reason} if reason else {})}
        root = keys_for(tenant).root
        kept = KEPT if tenant == FLEET else 0
        answer = await self._scripts.run("note_act", [root], operation, kind, by, json.dumps(said), kept)
        return bool(answer)

    async def of_fleet(self, *, after: str = "", most: int = 100) -> tuple[list[Event], str | None]:
        """Acts on the fleet, oldest first, and where to go on; None at the end."""
        log = TenantKeys(keys.FLEET).log
        with translated():
            rows = await self._redis.xrange(log, min=f"({after}" if after else "-", count=most + 1)
        events = [event for _, fields in rows[:most] for event in expand(fields, tenant=FLEET)]
        return events, rows[most - 1][0] if len(rows) > most else None

    async def of_tenant(
        self, recorder: Recorder, *, after: Position = BEGINNING, most: int = 100
    ) -> tuple[list[Event], Position | None]:
        """Acts on a tenant, oldest first, and where to go on; None at the end.

        There may be fewer than `most`, even none, and more to come: a question goes through so many events.
        """
        events: list[Event] = []
        pages = 0
        async for reached, lines in recorder.pages(after=after):
            pages += 1
            for at, event in lines:
                if event.kind.startswith(ADMINISTRATIVE):
                    events.append(event)
                    if len(events) == most:
                        return events, at
            if pages == PAGES:
                return events, reached
        return events, None


def keys_for(tenant: str) -> TenantKeys:
    """The keys of a tenant, or of `FLEET`."""
    return TenantKeys(keys.FLEET if tenant == FLEET else tenant)
