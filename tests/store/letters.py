"""Dead letters: events that an MCP server refused, as an exporter puts them aside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from chimera.core.sinkviews import DeadLetter
from chimera.runtime.base import Base
from chimera.store.exports import Exports
from tests.store import drive, history


async def refuse(base: Base, tenant: str, count: int) -> Exports:
    """So many dead letters."""
    await history.write(base, tenant, count + 1)
    exports, lines = Exports(base.redis, tenant), await history.read(base, tenant)
    letters = [
        DeadLetter(
            id=f"{tenant}/{event.epoch}/{event.seq}",
            kind=event.kind,
            at=event.at,
            position=str(at),
            reason="no",
            tries=5,
            dead_at=datetime.now(UTC) - timedelta(seconds=1),
        )
        for at, event in lines[:count]
    ]
    assert await exports.advance(None, lines[count - 1][0], letters, term=drive.TERM)
    return exports
