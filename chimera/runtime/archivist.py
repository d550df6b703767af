"""The archivist: keeps the flight recorder in the blob store, and Redis free of what is kept there.

For each tenant: read what the stream has behind the cursor, write it as a segment, move the cursor
on, trim what lies before the live window. A crash anywhere repeats a step and skips none. While the
archive cannot be written nothing is trimmed: the recorder grows in Redis, and work goes on.

It joins archive and stream before it writes: at each new term, and whenever the store is another
process than before. Only then can what it reads differ from what was archived under these numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from chimera.core.event import Position
from chimera.errors import BlobsUnavailable, CorruptRecord
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service
from chimera.runtime.troubles import TroubleBook, why
from chimera.store.archive import following
from chimera.store.epochs import just_before
from chimera.store.removed import Gone, Removed, Seen
from chimera.store.segments import Contents
from chimera.store.sinks import Cursor, Stand

log = structlog.get_logger(__name__)

SEGMENT_EVENTS = 10_000
"""A segment is written as soon as so many events wait, whatever their age."""
SEGMENT_BYTES = 8 << 20
"""A segment ends here, before compression, however few its events are."""


@dataclass(frozen=True, slots=True)
class Joint:
    """Where a tenant's archive and its stream part.

    Attributes:
        shared: the last event that both have, or had.
        link: the hash chain's link at the archive's end.
        lost: events that the archive has behind `shared`.
    """

    shared: Position
    link: str
    lost: int


class Archivist(Service):
    """The leader's: every tenant's recorder in turn, a segment at a time."""

    name = "archivist"
    sweep_s = 1.0
    hung_s = 3_600.0  # a store of blobs may be slow, and a mission large

    def __init__(self, base: Base, elector: Elector) -> None:
        super().__init__()
        self._base = base
        self._elector = elector
        self._term = 0
        self._joined: dict[str, tuple[str, Cursor]] = {}
        self._troubles = TroubleBook(base.troubles)
        self._removed = Removed(base.redis)
        self._seen = Seen()

    async def run_once(self) -> None:
        term = self._elector.term
        if term is None:
            return
        if term != self._term:
            # What another leader did meanwhile is not known here.
            self._joined.clear()
            self._seen.clear()
            await self._troubles.read()
            self._term = term
        gone, there = await self._removed.gone(), await self._base.tenants.names()
        left = [tenant for tenant in self._seen.left(gone) if tenant not in there]
        due = [*there, *left]
        await self._troubles.forget_all_but(due)
        while due and self._elector.term == term:
            # Of one that was removed nothing more comes that it could wait for.
            due = [tenant for tenant in due if await self.tend(tenant, term=term, flush=tenant in left)]
        for tenant in left:
            await self._look(tenant, gone)

    async def _look(self, tenant: str, gone: Gone) -> None:
        """See whether a removed tenant's recorder is archived to its end, and joined."""
        stand = await self._base.of(tenant).sink.stand()
        cursor = stand.cursor
        if cursor and self._joined.get(tenant) == (gone.run, cursor) and not stand.behind:
            self._seen.over(tenant, gone)

    async def tend(self, tenant: str, *, term: int, flush: bool = False) -> bool:
        """Do one tenant's next step; whether there may be another at once.

        Args:
            flush: archive what there is, however little and young.
        """
        if self._troubles.waits(tenant):
            return False
        try:
            went_on = await self._step(tenant, term=term, flush=flush)
        except CorruptRecord:
            # Nothing is trimmed, so nothing is lost; but somebody must look at it.
            log.exception("archive.damaged", tenant=tenant)
            await self._troubles.failed(tenant, "a segment is damaged or missing")
            return False
        except BlobsUnavailable as exc:
            log.error(
                "archive.failing",
                tenant=tenant,
                error=str(exc),
                message="Nothing is lost: the recorder stays in Redis until the archive can be written.",
            )
            await self._troubles.failed(tenant, why(exc))
            return False
        if failures := await self._troubles.well(tenant):
            log.info("archive.recovered", tenant=tenant, failures=failures)
        return went_on

    async def _step(self, tenant: str, *, term: int, flush: bool) -> bool:
        stores = self._base.of(tenant)
        stand = await stores.sink.stand()
        if stand.cursor is None or self._joined.get(tenant) != (stand.run, stand.cursor):
            return await self._join(tenant, stores, stand, term)
        moved = False
        if stand.behind and (flush or await self._due(stores, stand, stand.cursor)):
            moved = await self._archive(tenant, stores, stand, stand.cursor, term)
        # Bounded batches, one after another: each lets others at the store between.
        while await stores.sink.trim(keep=self._base.settings.recorder_live, term=term):
            pass
        return moved

    async def _due(self, stores: TenantStores, stand: Stand, cursor: Cursor) -> bool:
        if stand.behind >= SEGMENT_EVENTS:
            return True
        since = await stores.sink.waiting_since_us(cursor)
        return since is not None and stand.now_us - since >= self._base.settings.recorder_flush_s * 1e6

    async def _archive(
        self, tenant: str, stores: TenantStores, stand: Stand, cursor: Cursor, term: int
    ) -> bool:
        entries = await stores.sink.take(stand, cursor, events=SEGMENT_EVENTS, size=SEGMENT_BYTES)
        if not entries:
            return entries is None
        contents = await stores.archive.write(entries, cursor.link)
        to = Cursor(contents.last, contents.after)
        moved = await stores.sink.advance(cursor, to, term=term)
        if moved:
            self._joined[tenant] = (stand.run, to)
            log.debug("archive.written", tenant=tenant, events=contents.lines, last=str(contents.last))
        return moved

    async def _join(self, tenant: str, stores: TenantStores, stand: Stand, term: int) -> bool:
        """Find out what archive and stream share, and say so where they part."""
        await stores.archive.clear_unfinished()
        tail = await stores.archive.tail()
        cursor = stand.cursor or Cursor()
        shared = await self._shared(stores, cursor, tail)
        joint = Joint(shared, tail.after if tail else "", await stores.archive.count(shared))
        if stand.cursor is None or stand.run != stand.epochs.run:
            return await self._open_epoch(tenant, stores, stand, joint, term)
        if cursor.link == joint.link:
            self._joined[tenant] = (stand.run, cursor)
            return True
        if tail and shared == tail.last:
            # A segment was written, and whoever wrote it died before the cursor was moved on. Or the last
            # segments are gone, and the stream still has what was in them.
            return await stores.sink.advance(cursor, Cursor(shared, joint.link), term=term)
        if joint.lost:
            return await self._open_epoch(tenant, stores, stand, joint, term)
        log.error(
            "archive.missing",
            tenant=tenant,
            message="Segments before the cursor are gone: bring them back, and see CHIMERA_BLOB_URL.",
        )
        self._joined[tenant] = (stand.run, cursor)
        return True

    async def _open_epoch(
        self, tenant: str, stores: TenantStores, stand: Stand, joint: Joint, term: int
    ) -> bool:
        shared, by = joint.shared, self._elector.replica
        known = await stores.archive.last_epoch()
        first_ever = not known and not stand.epochs.run
        epoch = 1 if first_ever else max(known, stand.epochs.current) + 1
        about = {"after": shared.seq, "lost": joint.lost, "run": stand.run, "by": by}
        await stores.archive.claim_epoch(epoch, about)
        forgotten = [
            Position(first.epoch, first.seq - 1, just_before(first.entry))
            for first in await stores.archive.begins()
            if first.epoch not in stand.epochs and await stores.sink.holds(first)
        ]
        opened = await stores.sink.open_epoch(
            Position(epoch, shared.seq, shared.entry),
            joint.link or (stand.cursor.link if stand.cursor else ""),
            run=stand.run,
            lost=joint.lost,
            term=term,
            by=by,
            forgotten=forgotten,
        )
        if opened and not first_ever:
            tell = log.warning if joint.lost else log.info
            tell("recorder.epoch", tenant=tenant, epoch=epoch, after=shared.seq, lost=joint.lost)
        return opened

    async def _shared(self, stores: TenantStores, cursor: Cursor, tail: Contents | None) -> Position:
        """The last event that the archive has and the stream has too, or had when it was archived."""
        shared = cursor.at
        if tail is None or tail.after == cursor.link:
            return shared
        if await stores.sink.holds(tail.last):
            return tail.last
        # The stream is older. Of each epoch it has the beginning, all, or nothing. They part where what it
        # has of the last of these ends.
        parted = 0
        for segment in following(await stores.archive.segments(), (shared.epoch, shared.seq)):
            if segment.epoch == parted:
                continue
            last = (await stores.archive.contents(segment)).last
            if await stores.sink.holds(last):
                shared = last
                continue
            parted = segment.epoch
            ends = {at.entry: at for at, _ in await stores.archive.load(segment)}
            for at in ends.values():
                if not await stores.sink.holds(at):
                    break
                shared = at
        return shared
