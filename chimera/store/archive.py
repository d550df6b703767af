"""The archive of one tenant's flight recorder: its segments in the blob store.

A segment's name says which events it holds, so a listing is the table of all there is::

    <location>/<tenant>/recorder/000001-0000000000000042-0000000000000961.ndjson.zst
                                 epoch  first            last

Beside them stands a small file for each epoch, written before the epoch begins: no number of an epoch
is given twice, whatever the store forgets.

Segments are written once and never changed. After a crash, or while two archivists live, some may
overlap: a reader passes over what it has read.

What reading costs: one listing; for one mission, also the first 16 KiB of each segment since the
mission was submitted (found by bisection, so about log2 of those before), and the whole of those
that hold events of it. Heads that were read are remembered.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from chimera.core.event import BEGINNING, Position
from chimera.errors import CorruptRecord
from chimera.store.blobs import Blobs
from chimera.store.epochs import order
from chimera.store.segments import (
    HEAD_BYTES,
    Contents,
    Entry,
    Line,
    contents_of,
    decode,
    encode,
    head_size,
    links,
)

AT_ONCE = 16
"""Heads read side by side."""
REMEMBERED = 256
"""Heads kept in memory; one may name a thousand missions."""
FIRST = Position(1, 0, BEGINNING.entry)
"""Before the first event there ever was."""
_NAME = re.compile(r"(\d{6,})-(\d{16,})-(\d{16,})\.ndjson\.zst")
_CLAIM = re.compile(r"(\d{6,})\.epoch\.json")


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its name. Its events are those numbered `first` to `last` of an epoch."""

    epoch: int
    first: int
    last: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.epoch:06d}-{self.first:016d}-{self.last:016d}.ndjson.zst"

    @classmethod
    def named(cls, name: str) -> Segment | None:
        """The segment of a file's name; None when it is none."""
        match = _NAME.fullmatch(name)
        return cls(int(match[1]), int(match[2]), int(match[3])) if match else None


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment on the way along the chain.

    Attributes:
        again: of its lines, those that an earlier one had too.
        lines: as they were written; none of one that is damaged.
        links: the chain's hash before the first line, and behind each.
        wrong: in words; "" when nothing is.
    """

    segment: Segment
    path: str
    again: int
    lines: list[bytes]
    links: list[str]
    wrong: str

    @property
    def fresh(self) -> int:
        """Events that it brings."""
        return max(0, len(self.lines) - self.again)


def following(segments: Iterable[Segment], after: tuple[int, int]) -> Iterator[Segment]:
    """The segments to read on from an epoch and number, in order, none that brings nothing new."""
    for segment in sorted(segments, key=lambda one: (one.epoch, one.first, -one.last)):
        if (segment.epoch, segment.last) > after:
            yield segment
            after = (segment.epoch, segment.last)


class Archive:
    """One tenant's segments."""

    def __init__(self, blobs: Blobs, tenant: str) -> None:
        self._blobs = blobs
        self._tenant = tenant
        self._folder = f"{tenant}/recorder"
        self._heads: dict[Segment, Contents] = {}

    async def write(self, entries: Sequence[Entry], before: str) -> Contents:
        """Store a segment, durably; the same again changes nothing. See `segments.encode`.

        Raises:
            BlobsUnavailable: there is no room, or no way to the place; nothing of it is there.
        """
        contents, body = await asyncio.to_thread(encode, entries, before)
        segment = Segment(contents.first.epoch, contents.first.seq, contents.last.seq)
        await self._blobs.write(self._path(segment), body)
        return contents

    async def segments(self) -> list[Segment]:
        """All there are."""
        return [segment for name in await self._blobs.names(self._folder) if (segment := Segment.named(name))]

    async def claim_epoch(self, epoch: int, about: Mapping[str, Any]) -> None:
        """Note, durably, that an epoch is about to begin; the same again changes nothing.

        Raises:
            BlobsUnavailable: there is no room, or no way to the place.
        """
        path = f"{self._folder}/{epoch:06d}.epoch.json"
        await self._blobs.write(path, json.dumps({"epoch": epoch, **about}).encode() + b"\n")

    async def last_epoch(self) -> int:
        """The last epoch that was claimed, or has a segment; 0 when there is none."""
        names = await self._blobs.names(self._folder)
        matches = [_CLAIM.fullmatch(name) or _NAME.fullmatch(name) for name in names]
        return max((int(match[1]) for match in matches if match), default=0)

    async def begins(self) -> list[Position]:
        """The first event of each epoch that has a segment."""
        firsts: dict[int, Segment] = {}
        for segment in sorted(await self.segments(), key=lambda one: (one.epoch, one.first)):
            firsts.setdefault(segment.epoch, segment)
        return [(await self.contents(segment)).first for segment in firsts.values()]

    async def tail(self) -> Contents | None:
        """The contents of the segment that reaches furthest; None when there is none."""
        segments = await self.segments()
        if not segments:
            return None
        return await self.contents(max(segments, key=lambda one: (one.epoch, one.last)))

    async def contents(self, segment: Segment) -> Contents:
        """What a segment holds; only its head is read. Raises CorruptRecord."""
        if (known := self._heads.get(segment)) is None:
            path = self._path(segment)
            start = await self._blobs.read(path, most=HEAD_BYTES)
            with damaged(path):
                if (size := head_size(start)) > len(start):
                    start = await self._blobs.read(path, most=size)
                known = contents_of(start)
            if len(self._heads) >= REMEMBERED:
                del self._heads[next(iter(self._heads))]
            self._heads[segment] = known
        return known

    async def load(self, segment: Segment, mission_id: str = "") -> list[Line]:
        """A segment's events, all of them or one mission's.

        Raises:
            CorruptRecord: it is damaged: nothing of it is given.
        """
        path = self._path(segment)
        body = await self._blobs.read(path)
        with damaged(path):
            return await asyncio.to_thread(decode, body, mission_id, self._tenant)

    async def read(self, after: Position, mission_id: str = "") -> AsyncIterator[tuple[Position, list[Line]]]:
        """What follows a position, a segment at a time: where that ends, and its events.

        Raises:
            CorruptRecord: events are missing, or a segment is damaged.
        """
        if after == BEGINNING and after.entry != BEGINNING.entry:
            segments = await self._since(order(after.entry))
        else:
            segments = await self.segments()
            after = await self._filed(segments, max(after, FIRST))
            segments = list(following(segments, (after.epoch, after.seq)))
        for start in range(0, len(segments), AT_ONCE):
            some = segments[start : start + AT_ONCE]
            heads = await asyncio.gather(*map(self.contents, some))
            for segment, contents in zip(some, heads, strict=True):
                if segment.epoch == after.epoch and segment.first > after.seq + 1:
                    raise CorruptRecord(
                        f"events {after.seq + 1} to {segment.first - 1} of epoch {after.epoch} are missing "
                        f"from {self._folder}: bring their segments back, and see who removes them"
                    )
                lines: list[Line] = []
                if not mission_id or mission_id in contents.missions:
                    lines = [one for one in await self.load(segment, mission_id) if one[0] > after]
                after = contents.last
                yield after, lines

    async def count(self, after: Position) -> int:
        """How many events follow a position."""
        count, reached = 0, (after.epoch, after.seq)
        for segment in following(await self.segments(), reached):
            fresh = reached[1] if segment.epoch == reached[0] else 0
            count += segment.last - max(segment.first - 1, fresh)
            reached = (segment.epoch, segment.last)
        return count

    async def verify(self) -> tuple[int, list[str]]:
        """Follow the hash chain through every segment: how many events, and what is wrong, in words."""
        wrong: list[str] = []
        count = 0
        async for piece in self.follow():
            count += piece.fresh
            wrong += [piece.wrong] if piece.wrong else []
        return count, wrong

    async def follow(self) -> AsyncIterator[Piece]:
        """The hash chain, a segment at a time: what each brings, and what is wrong with it."""
        epoch, reached, link = 1, 0, ""
        for segment in following(await self.segments(), (0, 0)):
            path, wrong, found = self._path(segment), "", [""]
            lines: list[bytes] = []
            # One that overlaps the last must have had the same link where that ended.
            again = reached - segment.first + 1 if segment.epoch == epoch else 0
            try:
                with damaged(path):
                    body = await self._blobs.read(path)
                    contents, lines, found = await asyncio.to_thread(links, body)
                    if (contents.first.epoch, contents.first.seq) != (segment.epoch, segment.first):
                        raise CorruptRecord("a segment holds other events than its name says")
            except CorruptRecord as exc:
                wrong, again = str(exc), 0
            else:
                if again < 0:
                    wrong = f"{path}: events {reached + 1} to {segment.first - 1} are missing before it"
                elif found[again] != link:
                    wrong = f"{path}: the hash chain is broken before event {segment.first + again}"
                link = found[-1]
            yield Piece(segment, path, max(again, 0), lines, found, wrong)
            epoch, reached = segment.epoch, segment.last

    async def clear_unfinished(self) -> None:
        """Remove what archivists that died left behind. Idempotent."""
        await self._blobs.clear_unfinished(self._folder)

    async def _filed(self, segments: list[Segment], after: Position) -> Position:
        """A position under the epoch that its event was archived in.

        What was written under an epoch and not archived when the store restarted is of the next one.
        """
        holding = [one for one in segments if one.epoch >= after.epoch and one.first <= after.seq <= one.last]
        if any(one.epoch == after.epoch for one in holding):
            return after
        for one in holding:
            for at, _ in await self.load(one):
                if (at.seq, at.entry) == (after.seq, after.entry):
                    return at
        return after

    async def _since(self, at: tuple[int, int]) -> list[Segment]:
        """Without those that end before an instant: stream ids only grow within an epoch."""
        found: list[Segment] = []
        for _, group in groupby(following(await self.segments(), (0, 0)), key=lambda one: one.epoch):
            epoch = list(group)
            low, high = 0, len(epoch)
            while low < high:
                middle = (low + high) // 2
                if order((await self.contents(epoch[middle])).last.entry) < at:
                    low = middle + 1
                else:
                    high = middle
            found += epoch[low:]
        return found

    def _path(self, segment: Segment) -> str:
        return f"{self._folder}/{segment.name}"


@contextmanager
def damaged(path: str) -> Iterator[None]:
    """Names the file that is damaged."""
    try:
        yield
    except CorruptRecord as exc:
        raise CorruptRecord(f"{path}: {exc}: bring it back from a copy") from exc
