"""Sinks of the flight recorder: who stores the stream elsewhere, and how far each has read.

A sink reads entries behind its cursor, stores them, and only then moves the cursor on, so a crash
repeats and never skips. Cursors stand in one hash by the sink's name: another sink joins by having one. The
stream is trimmed no further than the archive's; a sink that is behind it reads on in the archive, so
that one which cannot deliver does not fill Redis.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chimera.core.event import Position, expand
from chimera.store import keys
from chimera.store.archive import FIRST
from chimera.store.connection import Redis, ask, translated
from chimera.store.epochs import Epochs
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts
from chimera.store.segments import Entry

ARCHIVE = "archive"
"""The sink that writes segments to the blob store."""
MCP = "mcp"
"""The sink that calls a tool of an MCP server."""
PAGE = 500


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a sink has read: a position, and the hash chain's link there."""

    at: Position = FIRST
    link: str = ""

    def __str__(self) -> str:
        return f"{self.at.epoch} {self.at.seq} {self.at.entry} {self.link}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """From what `str` made. Raises ValueError."""
        epoch, seq, entry, link = text.split(" ")
        return cls(Position(int(epoch), int(seq), entry), link)


@dataclass(frozen=True, slots=True)
class Stand:
    """What one look shows, all of one instant.

    Attributes:
        run: the store's process (`run_id`).
        cursor: None when the sink has none.
        newest: number of the last event there is.
        now_us: the store's clock.
    """

    run: str
    epochs: Epochs
    cursor: Cursor | None
    newest: int
    now_us: int

    @property
    def behind(self) -> int:
        """Events that the sink has not read."""
        return self.newest - self.cursor.at.seq if self.cursor else self.newest


class Sink:
    """One sink's hold on a tenant's stream."""

    def __init__(self, redis: Redis, tenant: str, name: str = ARCHIVE) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)
        self.name = name

    async def stand(self) -> Stand:
        """Where it stands, and where the store does."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.info("server")
                pipe.hgetall(self.keys.epochs)
                pipe.hget(self.keys.sinks, self.name)
                pipe.get(self.keys.sequence)
                pipe.time()
                server, epochs, cursor, newest, (seconds, micros) = await pipe.execute()
            return Stand(
                run=str(server["run_id"]),
                epochs=Epochs(epochs),
                cursor=Cursor.parse(cursor) if cursor else None,
                newest=int(newest or 0),
                now_us=int(seconds) * 1_000_000 + int(micros),
            )

    async def waiting_since_us(self, cursor: Cursor) -> int | None:
        """When the oldest entry behind the cursor was written; None when there is none."""
        with translated():
            found = await self._redis.xrange(self.keys.log, min=f"({cursor.at.entry}", count=1)
            return int(found[0][1]["at"]) if found else None

    async def take(self, stand: Stand, cursor: Cursor, *, events: int, size: int) -> list[Entry] | None:
        """What follows the cursor, in whole entries, up to about so many events and bytes.

        None: the store became another process meanwhile, so they may be of two histories.
        """
        entries: list[Entry] = []
        taken = 0
        reached = cursor.at
        while reached.seq - cursor.at.seq < events and taken < size:
            with translated():
                page = await self._redis.xrange(self.keys.log, min=f"({reached.entry}", count=PAGE)
                for name, fields in page:
                    entries.append(Entry(stand.epochs.of(name), name, fields))
                    reached = entries[-1].last
                    taken += len(fields["events"])
                    if reached.seq - cursor.at.seq >= events or taken >= size:
                        break
            if len(page) < PAGE:
                break
        with translated():
            # A process never comes back under its old id: still the same means the same all along.
            run = str((await self._redis.info("server"))["run_id"])
        return entries if run == stand.run else None

    async def holds(self, at: Position) -> bool:
        """Whether the stream holds this event, in this entry."""
        with translated():
            found = await self._redis.xrange(self.keys.log, min=at.entry, max=at.entry)
            return bool(found) and any(event.seq == at.seq for event in expand(found[0][1]))

    async def advance(self, before: Cursor | None, to: Cursor, *, term: int) -> bool:
        """Move the cursor on. False: it stands elsewhere, the store is another, or the term is old."""
        answer = await self._scripts.run(
            "advance_sink",
            [self.keys.root],
            term,
            self.name,
            str(before or ""),
            str(to),
            to.at.seq,
            to.at.entry,
        )
        return bool(answer == 1)

    async def open_epoch(
        self,
        begins: Position,
        link: str,
        *,
        run: str,
        lost: int,
        term: int,
        by: str,
        forgotten: Sequence[Position] = (),
    ) -> bool:
        """Begin an epoch behind the last event that archive and stream share.

        Args:
            begins: the new epoch, and that event's number and entry.
            link: the hash chain's link at the archive's end, where the new epoch goes on.
            lost: events that the archive has and the stream lost.
            forgotten: the same of epochs that the archive knows and the store does not any more.

        False: the store is no longer as it was looked at, or the term is old.
        """
        answer = await self._scripts.run(
            "open_epoch",
            [self.keys.root],
            term,
            begins.epoch,
            run,
            begins.seq,
            begins.entry,
            str(Cursor(begins, link)),
            lost,
            by,
            *(field for one in forgotten for field in (one.epoch, f"{one.seq} {one.entry}")),
        )
        return bool(answer == 1)

    async def trim(self, *, keep: int, term: int, most: int = 200) -> int:
        """Take off what is archived, save the newest `keep` entries. Returns how many went."""
        answer = await self._scripts.run("trim_log", [self.keys.root], term, keep, most)
        return 0 if answer == Refusal.OLD_TERM else int(answer)


async def unread(redis: Redis, tenants: Sequence[str], name: str = ARCHIVE) -> dict[str, int]:
    """Events of each tenant that a sink has not read, in one round trip."""
    if not tenants:
        return {}
    asked: list[tuple[str | int, ...]] = []
    for of in map(TenantKeys, tenants):
        asked += [("HGET", of.sinks, name), ("GET", of.sequence)]
    with translated():
        found = await ask(redis, asked)
        return {
            tenant: int(newest or 0) - (Cursor.parse(cursor).at.seq if cursor else 0)
            for tenant, cursor, newest in zip(tenants, found[::2], found[1::2], strict=True)
        }


class Troubles:
    """Which tenants' archives cannot be written, for whoever looks after the hub.

    Args:
        key: where it is said: `keys.ARCHIVE` of the recorder's, `keys.RETENTION` of finished missions.
    """

    def __init__(self, redis: Redis, key: str = keys.ARCHIVE) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._key = key

    async def report(self, tenant: str, reason: str, *, since: datetime, failures: int) -> None:
        """Say what is wrong."""
        said = json.dumps({"reason": reason, "since": since.isoformat(), "failures": failures})
        await self._scripts.run("report_archive", [self._key], tenant, said)

    async def clear(self, tenant: str) -> None:
        """Say that all is well; idempotent."""
        await self._scripts.run("report_archive", [self._key], tenant, "")

    async def all(self) -> dict[str, dict[str, Any]]:
        """What was said, by tenant: ``since``, ``failures``, ``reason``."""
        with translated():
            found = await self._redis.hgetall(self._key)
            return {tenant: json.loads(said) for tenant, said in sorted(found.items())}
