"""Reading the flight recorder: its archive first, then the stream, without a gap or a repeat.

The stream holds the newest entries, and all that the archive does not have yet. Scripts alone
write it, in the step that makes the transition; the archivist alone trims it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from chimera.core.event import BEGINNING, Position, expand
from chimera.errors import CorruptRecord, StoreUnavailable
from chimera.store.archive import Archive
from chimera.store.connection import Redis, translated
from chimera.store.epochs import Epochs, order
from chimera.store.keys import TenantKeys
from chimera.store.segments import Line

PAGE = 500
FEW = 64
"""Entries that are asked for where few events are wanted: one entry may be of many."""
AT_ONCE = 500
"""Events that are made of entries before others on the loop have their turn."""
Row = tuple[str, dict[str, str]]
"""A stream entry: its id and its fields."""


@dataclass(frozen=True, slots=True)
class Page:
    """What the stream has behind a position.

    Attributes:
        start: that position, under the epoch that its entry is of now.
        joined: between it and the first line lies nothing that the stream does not have.
        ended: there is no more.
    """

    start: Position
    lines: list[Line]
    joined: bool
    ended: bool = True


class Recorder:
    """One tenant's flight recorder."""

    def __init__(self, redis: Redis, tenant: str, archive: Archive) -> None:
        self._redis = redis
        self._archive = archive
        self.keys = TenantKeys(tenant)

    async def read(self, *, after: Position = BEGINNING, mission_id: str = "") -> AsyncIterator[Line]:
        """Events behind a position, oldest first, each with its own. Raises as `pages` does."""
        async for _, lines in self.pages(after=after, mission_id=mission_id):
            for line in lines:
                yield line

    async def pages(
        self, *, after: Position = BEGINNING, mission_id: str = "", most: int = 0
    ) -> AsyncIterator[tuple[Position, list[Line]]]:
        """The same by the page: how far it was read, and what is there of the events that are wanted.

        Args:
            most: a page of the stream ends with the entry that reaches so many events; 0: `PAGE` entries.

        The archive is read only where the stream does not reach back, and where an epoch ends: what
        the store lost there, it may have kept.

        Raises:
            CorruptRecord: events are missing.
            StoreUnavailable: the store just came back, or the blob store is away.
        """
        searched = False  # the archive has nothing behind `after`
        while True:
            page = await self._page(after, searched=searched, most=most)
            if page.joined:
                lines = _up_to_the_epochs_end(page, searched)
                after = lines[-1][0] if lines else page.start
                yield after, [line for line in lines if mission_id in {"", line[1].mission_id}]
                searched = searched and not lines
                if len(lines) == len(page.lines):
                    if page.ended:
                        return
                    continue
            elif searched:
                raise await self._missing(after)
            before = after
            async for reached, found in self._archive.read(after, mission_id):
                yield reached, found
                after = reached
            # While it was read it may have grown, and the stream have been trimmed up to there.
            searched = after == before

    async def wait(self, *, after: Position, timeout_s: float) -> bool:
        """Whether there is an entry behind a position, within the time. For a blocking client."""
        with translated():
            found = await self._redis.xread(
                {self.keys.log: after.entry}, count=1, block=max(1, round(timeout_s * 1000))
            )
        return bool(found)

    async def last(self) -> Position:
        """The newest event's position; `BEGINNING` when the stream is empty."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(self.keys.epochs)
                pipe.xrevrange(self.keys.log, count=1)
                epochs, newest = await pipe.execute()
            if not newest:
                return BEGINNING
            entry, fields = newest[0]
            return Position(Epochs(epochs).of(entry), int(fields["seq"]), entry)

    async def _page(self, after: Position, *, searched: bool, most: int) -> Page:
        """What the stream has behind a position, all of one instant."""
        keys, count = self.keys, FEW if most else PAGE
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.hgetall(self.keys.epochs)
                pipe.xrange(self.keys.log, count=1)
                pipe.xrange(self.keys.log, min=after.entry, count=count)
                fields, oldest, rows = await pipe.execute()
            epochs = Epochs(fields)
            if rows and rows[0][0] == after.entry and int(rows[0][1]["seq"]) >= after.seq:
                # The very entry is there, so nothing behind it was trimmed or lost.
                start = Position(epochs.of(after.entry), after.seq, after.entry)
                return await _made_of(rows, start, epochs, keys.tenant, count, most, joined=True)
            if after.epoch == 0:
                joined = _reaches_back(after, oldest, epochs, searched)
                return await _made_of(rows, after, epochs, keys.tenant, count, most, joined=joined)
            following = epochs.after(after.epoch)
            if not searched or following is None:
                return Page(after, [], joined=False)
            # All of its epoch is read, or lost: on with the next, if its beginning is there.
            rows = await self._redis.xrange(self.keys.log, min=f"({following.entry}", count=count)
            joined = bool(rows) and _first(rows[0]) == following.seq + 1
            if following.epoch == after.epoch + 1:
                joined = joined and after.seq >= following.seq
            return await _made_of(rows, after, epochs, keys.tenant, count, most, joined=joined)

    async def _missing(self, after: Position) -> CorruptRecord | StoreUnavailable:
        """Why it does not go on behind a position where the archive ends."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.info("server")
                pipe.hget(self.keys.epochs, "run")
                server, run = await pipe.execute()
        if server["run_id"] != run:
            return StoreUnavailable(
                "Redis came back, and its flight recorder is not joined to the archive yet: the "
                "orchestrator does it within seconds; try again"
            )
        return CorruptRecord(
            f"the events behind {after} are neither in Redis nor in the recorder's archive: every hub node "
            "needs the same CHIMERA_BLOB_URL"
        )


async def _made_of(
    rows: list[Row], start: Position, epochs: Epochs, tenant: str, count: int, most: int, *, joined: bool
) -> Page:
    lines: list[Line] = []
    pause, made = AT_ONCE, 0
    for entry, fields in rows if joined else ():
        epoch = epochs.of(entry)
        found = [(Position(epoch, event.seq, entry), event) for event in expand(fields, epoch, tenant)]
        # The first entry may have been given in part.
        lines += [line for line in found if line[0] > start]
        made += 1
        if most and len(lines) >= most:
            break
        if len(lines) > pause:
            pause = len(lines) + AT_ONCE
            await asyncio.sleep(0)  # a page of large entries is a hundred thousand events
    return Page(start, lines, joined, ended=len(rows) < count and made == len(rows))


def _reaches_back(after: Position, oldest: list[Row], epochs: Epochs, searched: bool) -> bool:
    """Whether the stream has all that was written since an instant; or all that the archive has not."""
    if not oldest:
        return searched
    entry = oldest[0][0]
    if order(entry) <= order(after.entry):
        return True
    # Without a known run it may be that the store came back empty, and nobody has noticed yet.
    alone = epochs.of(entry) == 1 and epochs.run != ""
    return _first(oldest[0]) == 1 and (searched or alone)


def _up_to_the_epochs_end(page: Page, searched: bool) -> list[Line]:
    """A page's lines of one epoch; none of a new one before the archive was searched for the last."""
    if not page.lines:
        return []
    epoch = page.lines[0][0].epoch
    if page.start.epoch not in {0, epoch} and not searched:
        return []
    return [line for line in page.lines if line[0].epoch == epoch]


def _first(row: Row) -> int:
    return next(expand(row[1])).seq
