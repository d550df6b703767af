"""The films of one process: read from the flight recorder once, then only what is new of them.

A film is read a page of the recorder at a time. Who asks for one waits `PATIENCE_S` at most and is given it
as far as it is read: a large mission's first sight comes at once, and fills up. They are bounded by weight:
the one that was looked at longest ago goes first, and a mission too large for `MOST_BYTES` has none.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

from chimera.core.event import Position
from chimera.dashboard.film import BYTES_A_TASK, Film
from chimera.dashboard.roster import roster_of
from chimera.runtime.base import Base, TenantStores
from chimera.store.missionrecord import MissionRecord

PATIENCE_S = 0.4
"""So long who asks waits for what is new."""
FRESH_S = 0.4
"""What was read is not read on within this time, however many ask."""
MOST_BYTES = 64 << 20
"""Of one film: some 60,000 events of 10,000 tasks are 50 MiB."""
ALL_BYTES = 192 << 20
"""Of all films of a process."""
AT_ONCE = 1_000
"""Events that are taken before others on the loop have their turn."""


class TooLong(Exception):
    """A mission's history is too long to be kept here whole."""


@dataclass(slots=True)
class Reel:
    """A film while it is read."""

    film: Film
    position: Position
    read_at: float = float("-inf")
    whole: bool = False
    """It was read to the end, as of `read_at`."""
    too_long: bool = False
    reading: asyncio.Task[None] | None = field(default=None)


class Films:
    """Those that were looked at lately."""

    def __init__(self, most_bytes: int = MOST_BYTES, all_bytes: int = ALL_BYTES) -> None:
        self._most, self._all = most_bytes, all_bytes
        self._reels: OrderedDict[tuple[str, str], Reel] = OrderedDict()

    @property
    def weight(self) -> int:
        """About how many bytes they take."""
        return sum(reel.film.weight for reel in self._reels.values())

    async def film(self, base: Base, tenant: str, mission: MissionRecord) -> tuple[Film, bool]:
        """A mission's film, and whether it is read to the end.

        Raises:
            TooLong: its history is too long to be kept here.
            StoreError: the recorder cannot be read.
        """
        if BYTES_A_TASK * mission.total_tasks > self._most:
            raise TooLong
        reel = self._reel(base, tenant, mission)
        if reel.too_long:
            raise TooLong
        fresh = reel.whole and time.monotonic() - reel.read_at < FRESH_S
        if not fresh:
            if reel.reading is None or reel.reading.done():
                reel.reading = asyncio.create_task(
                    self._read(base.of(tenant), reel), name=f"film {tenant} {mission.mission_id}"
                )
            # It goes on being read when whoever asked has left, or waits no longer.
            await asyncio.wait({reel.reading}, timeout=PATIENCE_S)
            # One that gave way to another is cut short: what there is of it is shown, and then read anew.
            if reel.reading.done() and not reel.reading.cancelled():
                reel.reading.result()
        if reel.too_long:
            raise TooLong
        return reel.film, reel.whole

    async def close(self) -> None:
        """Stop reading; twice is fine."""
        reading = [reel.reading for reel in self._reels.values() if reel.reading is not None]
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        self._reels.clear()

    def _reel(self, base: Base, tenant: str, mission: MissionRecord) -> Reel:
        key = tenant, mission.mission_id
        if key not in self._reels:
            roster = roster_of(mission.spec, mission.inputs, mission.total_tasks, base.settings.reduce_width)
            film = Film(roster, mission.mission_id)
            self._reels[key] = Reel(film, Position.before(mission.submitted_at_us // 1000))
        self._reels.move_to_end(key)
        return self._reels[key]

    async def _read(self, stores: TenantStores, reel: Reel) -> None:
        """What follows in the recorder. What was taken stays, however this ends, and is gone on from."""
        pages = stores.recorder.pages(after=reel.position, mission_id=reel.film.mission_id)
        async for reached, lines in pages:
            for count, (at, event) in enumerate(lines, 1):
                if len(reel.film) and event.epoch > reel.film.epoch:
                    reel.film.begin_epoch(await stores.cuts.starts())
                reel.film.take(event)
                reel.position = at
                if count % AT_ONCE == 0:
                    self._bound(reel)
                    await asyncio.sleep(0)
            reel.position = reached
            self._bound(reel)
            if reel.too_long:
                return
        reel.whole, reel.read_at = True, time.monotonic()

    def _bound(self, reel: Reel) -> None:
        if reel.film.weight > self._most:
            # What was read of it is let go; that it is too long is remembered.
            reel.too_long = True
            reel.film = Film(reel.film.roster, reel.film.mission_id)
        while self.weight > self._all and len(self._reels) > 1:
            key = next(key for key, one in self._reels.items() if one is not reel)
            gone = self._reels.pop(key)
            if gone.reading is not None:
                gone.reading.cancel()
