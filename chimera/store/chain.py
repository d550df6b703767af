"""Whether a tenant's flight recorder is whole: no gap, no edit, in its archive and in its stream.

The archive is a hash chain (`chimera.store.segments`). Two things tie it to the store: the archivist's
cursor, which has the chain's hash where the archive ended when it was last written; and the events that the
stream still has though they are archived, each compared with its line. What is only in the stream is checked
by its numbers, and chained as it will be once it is archived.

What a chain without a signature cannot show: that somebody who may write both archive and store wrote all of
it anew from some place on. Who notes its `anchor` elsewhere can ask later whether history still leads there.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

from chimera.core.chainviews import MOST_WRONG, ChainView, Mark, Place
from chimera.errors import CorruptRecord, StoreUnavailable
from chimera.store.archive import Archive, Piece
from chimera.store.connection import Redis, translated
from chimera.store.epochs import Epochs
from chimera.store.keys import TenantKeys
from chimera.store.segments import Entry, chained, lines_of
from chimera.store.sinks import ARCHIVE, Cursor

PAGE = 500
MOST_COMPARED = 500_000
"""Archived events, the newest, that are compared with the stream."""

Progress = Callable[[int], None]
"""Hears how many events were gone through."""


@dataclass
class _Walk:
    """One verification under way."""

    tenant: str
    since: Mark | None
    cursor: Cursor | None
    oldest: Place | None
    """Of the stream's first event."""
    wrong: list[str] = field(default_factory=list)
    archived: int = 0
    streamed: int = 0
    compared: int = 0
    segments: int = 0
    epochs: set[int] = field(default_factory=set)
    at: Place = (1, 0)
    """The last event that was gone through."""
    link: str = ""
    archive_ends: Mark | None = None
    cursor_link: str | None = None
    since_link: str | None = None
    hashes: dict[Place, bytes] = field(default_factory=dict)

    def fault(self, what: str) -> None:
        if len(self.wrong) < MOST_WRONG:
            self.wrong.append(what)

    def piece(self, piece: Piece) -> None:
        """A segment of the archive."""
        if piece.wrong:
            self.fault(piece.wrong)
        segment = piece.segment
        self.segments += 1
        self.archived += piece.fresh
        self.epochs.add(segment.epoch)
        self._pass((segment.epoch, segment.first - 1), piece.links[0])
        for number, line in enumerate(piece.lines):
            place = segment.epoch, segment.first + number
            self._pass(place, piece.links[number + 1])
            if self.oldest is not None and place >= self.oldest and len(self.hashes) < MOST_COMPARED:
                self.hashes[place] = hashlib.sha256(line).digest()
        self.at = segment.epoch, segment.last
        if piece.lines:
            self.link = piece.links[-1]
            self.archive_ends = Mark(position=f"{segment.epoch}/{segment.last}", hash=self.link)

    def _pass(self, place: Place, link: str) -> None:
        if self.cursor is not None and place == (self.cursor.at.epoch, self.cursor.at.seq):
            self.cursor_link = link
        if self.since is not None and place == self.since.place:
            self.since_link = link

    def archive_is_over(self) -> None:
        """The archive reaches as far as the store says that it does, and ends as it did."""
        if self.cursor is None:
            return
        at, link = self.cursor.at, self.cursor_link
        if link is None and at.epoch > self.at[0]:
            link = self.link  # the cursor stands at the beginning of an epoch of which nothing is archived
        if link is None and (self.archived or at.seq):
            self.fault(
                f"{self.tenant}/recorder: the store has it archived up to event {at.epoch}/{at.seq}, "
                f"and the archive goes to {self.at[0]}/{self.at[1]}: segments are missing at its end"
            )
        elif link is not None and link != self.cursor.link:
            self.fault(
                f"{self.tenant}/recorder: the archive up to event {at.epoch}/{at.seq} is not what was "
                "archived: its hash is another than the store has"
            )

    def entry(self, entry: Entry, before: Place | None, epochs: Epochs) -> Place:
        """An entry of the stream; the place of its last event."""
        try:
            lines = lines_of(entry)
        except CorruptRecord as exc:
            self.fault(f"stream of {self.tenant}: {exc}")
            return before or (entry.epoch, 0)
        place = before
        first = entry.last.seq - len(lines) + 1
        for number, line in enumerate(lines, start=first):
            place = entry.epoch, number
            if before is not None:
                self._follows(before, place, epochs, entry.name)
            before = place
            if place <= self.at:
                self._compare(place, line, entry.name)
            else:
                self.streamed += 1
                self.link = chained(self.link, [line])
                self._pass(place, self.link)
        self.epochs.add(entry.epoch)
        return place or (entry.epoch, 0)

    def _follows(self, before: Place, place: Place, epochs: Epochs, name: str) -> None:
        expected = before[1] + 1
        if place[0] != before[0] and (begin := epochs.after(before[0])) is not None:
            expected = begin.seq + 1
        if place[1] > expected:
            self.fault(
                f"stream of {self.tenant}: events {expected} to {place[1] - 1} of epoch {place[0]} are "
                f"missing before entry {name}"
            )
        elif place[1] < expected:
            self.fault(
                f"stream of {self.tenant}: entry {name} has event {place[0]}/{place[1]}, where {expected} "
                "comes next: it was put in, or its place was changed"
            )

    def _compare(self, place: Place, line: bytes, name: str) -> None:
        if (archived := self.hashes.get(place)) is None:
            return
        self.compared += 1
        if archived != hashlib.sha256(line).digest():
            self.fault(
                f"event {place[0]}/{place[1]} of {self.tenant} is one thing in the archive and another in "
                f"entry {name} of the stream: one of them was edited"
            )


async def verify(
    redis: Redis,
    tenant: str,
    archive: Archive,
    *,
    since: Mark | None = None,
    progress: Progress = lambda count: None,
) -> ChainView:
    """Follow a tenant's chain from its first event to its newest.

    Works beside a fleet at work; reads the whole archive.

    Args:
        since: an anchor that history must still lead through.
        progress: hears of each segment, and of each page of the stream.
    Raises:
        StoreUnavailable: the store just came back, and its recorder is not joined to the archive yet.
        BlobsUnavailable: the archive cannot be reached.
    """
    keys = TenantKeys(tenant)
    with translated():
        async with redis.pipeline(transaction=True) as pipe:
            pipe.info("server")
            pipe.hgetall(keys.epochs)
            pipe.hget(keys.sinks, ARCHIVE)
            pipe.xrange(keys.log, count=1)
            server, fields, cursor, oldest = await pipe.execute()
    epochs = Epochs(fields)
    if epochs.run and epochs.run != server["run_id"]:
        raise StoreUnavailable(
            "Redis came back, and its flight recorder is not joined to the archive yet: the orchestrator "
            "does it within seconds; try again"
        )
    first = None
    if oldest:
        name, entry = oldest[0]
        first = epochs.of(name), Entry(1, name, entry).last.seq - len(lines_of(Entry(1, name, entry))) + 1
    walk = _Walk(tenant, since, Cursor.parse(cursor) if cursor else None, first)
    async for piece in archive.follow():
        walk.piece(piece)
        progress(walk.archived)
        await asyncio.sleep(0)
    walk.archive_is_over()
    await _stream(redis, keys, walk, epochs, progress)
    if since is not None and walk.since_link != since.hash:
        said = "is not there (any more)" if walk.since_link is None else f"has {walk.since_link}"
        walk.fault(
            f"history does not lead through the anchor {since.position} {since.hash}: that event {said}: "
            "what came before it was written anew, or the store lost it before it was archived"
        )
    return ChainView(
        tenant=tenant,
        events=walk.archived + walk.streamed,
        archived=walk.archived,
        segments=walk.segments,
        epochs=len(walk.epochs),
        compared=walk.compared,
        anchor=walk.archive_ends,
        head=Mark(position=f"{walk.at[0]}/{walk.at[1]}", hash=walk.link) if walk.link else None,
        since=since,
        wrong=tuple(walk.wrong),
    )


async def _stream(redis: Redis, keys: TenantKeys, walk: _Walk, epochs: Epochs, progress: Progress) -> None:
    """What the stream has: compared with the archive where both have it, and followed beyond."""
    ends, after = walk.at, "-"
    before: Place | None = None
    while True:
        with translated():
            async with redis.pipeline(transaction=True) as pipe:
                pipe.xrange(keys.log, min=after if after == "-" else f"({after}", count=PAGE)
                pipe.get(keys.sequence)
                pipe.hgetall(keys.epochs)
                rows, newest, fields = await pipe.execute()
        epochs = Epochs(fields)
        for name, entry in rows:
            if before is None:
                _joins(walk, Entry(epochs.of(name), name, entry), epochs)
            before = walk.entry(Entry(epochs.of(name), name, entry), before, epochs)
            after = name
        progress(walk.archived + walk.streamed)
        if len(rows) < PAGE:
            break
        await asyncio.sleep(0)
    reached = max(before or ends, ends)
    if int(newest or 0) > reached[1]:
        walk.fault(
            f"stream of {walk.tenant}: events {reached[1] + 1} to {newest} are missing at its end: the store "
            "has given these numbers"
        )
    elif before is not None and before[1] > int(newest or 0):
        walk.fault(
            f"stream of {walk.tenant}: events {int(newest or 0) + 1} to {before[1]} were put in at its end: "
            "the store has given no such numbers"
        )
    walk.at = reached


def _joins(walk: _Walk, entry: Entry, epochs: Epochs) -> None:
    """The stream's first entry goes on where the archive ends, or before."""
    try:
        first = entry.last.seq - len(lines_of(entry)) + 1
    except CorruptRecord:
        return  # it is told with the entry itself
    epoch, seq = walk.at
    if entry.epoch != epoch and (begin := epochs.after(epoch)) is not None:
        seq = begin.seq
    if entry.epoch >= epoch and first > seq + 1:
        walk.fault(
            f"stream of {walk.tenant}: events {seq + 1} to {first - 1} of epoch {entry.epoch} are neither in "
            "the archive nor in the stream"
        )
