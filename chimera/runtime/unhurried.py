"""Going through a long history beside other work: who shares the event loop has a turn every few events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from chimera.core.event import BEGINNING, Event, Position
from chimera.store.recorder import Recorder

AT_ONCE = 200
"""Events between two turns: a few milliseconds of whatever is made of them."""


async def events(
    recorder: Recorder, *, after: Position = BEGINNING, mission_id: str = ""
) -> AsyncIterator[Event]:
    """A recorder's events behind a position. Raises as `Recorder.pages` does."""
    count = 0
    async for _, event in recorder.read(after=after, mission_id=mission_id):
        yield event
        count += 1
        if count % AT_ONCE == 0:
            await asyncio.sleep(0)
