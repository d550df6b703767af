"""The exporter: tells an MCP server of every event of the flight recorder.

    read behind the cursor → call the tool → put aside what it refuses → move the cursor on

The leader's. A crash anywhere repeats calls and skips none: at least once, and a repeated event bears the
same id. A server that is away costs nothing: the stream is trimmed as if there were no exporter, and what it
has not told it reads in the archive later. Calls are few at once, and no tenant has all of them. While tasks
wait for a place or results for a judge, telling takes `CHIMERA_MCP_SHARE` of a processor: what it takes they
lack.

An event that the server refuses `CHIMERA_MCP_TRIES` times is put aside, with what was said; at `MOST_DEAD`
of these a tenant's events wait. While the server is away nothing is put aside.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from chimera.core.arguments import Arguments, Kinds, event_id
from chimera.core.event import BEGINNING, Event, Position
from chimera.core.sinkviews import DeadLetter
from chimera.errors import StoreTimeout, StoreUnavailable
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.exporting import SERVER
from chimera.runtime.mcplink import Down, Link, Refused
from chimera.runtime.pace import Pace
from chimera.runtime.service import Service, backoff_s
from chimera.runtime.troubles import TroubleBook
from chimera.runtime.turns import Gate, Turns
from chimera.store.connection import end
from chimera.store.exports import MOST_DEAD, Backlog, Exports, backlogs
from chimera.store.removed import Removed, Seen
from chimera.store.scripts import OldTerm
from chimera.store.segments import Line
from chimera.store.sinks import MCP

log = structlog.get_logger(__name__)

AT_ONCE = 16
"""Tenants whose events are read and sent side by side."""
HELD = 2_000
"""Events of one tenant in memory, and what else its last entry or segment has."""
TURN_S = 2.0
"""A tenant's turn ends after so long, when others wait."""
PAUSE_S = 0.5
"""The pause before another try of one event doubles from this, to thirty seconds."""


@dataclass
class Turn:
    """What one tenant's turn has done: events that are settled, and those of them that were refused."""

    lines: Sequence[Line]
    settled: list[bool] = field(default_factory=list)
    refused: dict[int, DeadLetter] = field(default_factory=dict)

    def reached(self, room: int) -> int:
        """So many are settled without a gap, up to the first refused one that there is no room for.

        By their order, not by that of the answers: were there no room for the first because later ones were
        refused sooner, the turn would come to nothing, and so would the next.
        """
        gap = next((at for at, one in enumerate(self.settled) if not one), len(self.settled))
        return min([gap, *sorted(self.refused)[room : room + 1]])

    def dead(self, reached: int) -> list[DeadLetter]:
        """Those of the first so many that are put aside."""
        return [letter for at, letter in sorted(self.refused.items()) if at < reached]


class Exporter(Service):
    """Every tenant's events, in turn."""

    name = "exporter"
    sweep_s = 0.5

    def __init__(self, base: Base, elector: Elector) -> None:
        super().__init__()
        settings = base.settings
        self._base = base
        self._elector = elector
        self._arguments = Arguments.parse(settings.mcp_arguments)
        self._kinds = Kinds.parse(settings.mcp_kinds)
        self._batch = settings.mcp_batch if self._arguments.batched else 1
        self._begins = _since(settings.mcp_since)
        self._gate = Gate(settings.mcp_concurrency)
        self._pace = Pace(settings.mcp_share)
        self._removed = Removed(base.redis)
        self._seen = Seen()
        self._troubles = TroubleBook(base.export_troubles)
        self._bulkhead = Bulkhead(self.name)
        self._order = Turns()
        self._link: Link | None = None
        self._term = 0
        self._over = 0
        """A newer leader acts since this term, whether the elector has heard of it or not."""
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._waiting = False
        """Tenants wait for a turn."""
        self._ended = asyncio.Event()

    async def stop(self) -> None:
        await super().stop()
        await end(*self._busy.values())
        self._busy.clear()
        link, self._link = self._link, None
        if link is not None:
            await link.aclose()

    async def wait(self) -> None:
        self._ended.clear()
        try:
            async with asyncio.timeout(self.sweep_s):
                await self._ended.wait()
        except TimeoutError:
            return

    async def run_once(self) -> None:
        term = self._elector.term
        if term is None or term <= self._over:
            await end(*self._busy.values())
            return
        if term != self._term:
            # What another leader did meanwhile is not known here.
            await end(*self._busy.values())
            await self._troubles.read()
            self._seen.clear()
            self._term = term
        if self._troubles.waits(SERVER):
            return
        due = await self._due()
        if not due or not await self._is_up():
            return
        free = [tenant for tenant in self._order.of(due) if tenant not in self._busy]
        for tenant in free[: max(0, AT_ONCE - len(self._busy))]:
            task = asyncio.create_task(self._take_turn(tenant, due[tenant], term), name=f"export of {tenant}")
            self._busy[tenant] = task
            task.add_done_callback(lambda _, tenant=tenant: self._done(tenant))  # type: ignore[misc]  # (mypy takes the default for a further argument)
        self._waiting = len(free) > 0 and len(due) > len(self._busy)

    def _done(self, tenant: str) -> None:
        self._busy.pop(tenant, None)
        self._ended.set()

    async def _due(self) -> dict[str, Backlog]:
        """Tenants that there is something to tell of."""
        gone, there = await self._removed.gone(), await self._base.tenants.names()
        known = {*there, *self._seen.left(gone)}
        await self._troubles.forget_all_but([SERVER, *known])
        found = await backlogs(self._base.redis, sorted(known))
        self._pace.crowded = any(found[tenant].waiting for tenant in there)
        for tenant in known - set(there):
            one = found[tenant]
            # One whose epoch is not open yet has an event more to come.
            if not (one.behind(MCP) or one.dead) and one.run == gone.run:
                self._seen.over(tenant, gone)
        return {
            tenant: one
            for tenant, one in found.items()
            if not self._troubles.waits(tenant) and (one.again or (one.behind(MCP) and one.dead < MOST_DEAD))
        }

    async def _is_up(self) -> bool:
        """Whether there is a session. One that cannot be had is told, and tried again ever more seldom."""
        self._link = self._link or Link(self._base.settings)
        try:
            await self._link.open()
        except Down as exc:
            await self._is_down(exc)
            return False
        return True

    async def _is_well(self) -> None:
        """It took something, or nothing was to be told: that it opens a session does not say so much."""
        if failures := await self._troubles.well(SERVER):
            log.info("export.recovered", failures=failures)

    async def _is_down(self, exc: Down) -> None:
        if self._troubles.waits(SERVER):
            return  # several calls met the same outage
        log.error(
            "export.failing",
            error=str(exc),
            message="Nothing is lost: what was not told stays in the recorder and its archive.",
        )
        await self._troubles.failed(SERVER, str(exc))
        if self._link is not None:
            await self._link.aclose()  # whether it is back a new session shows

    async def _take_turn(self, tenant: str, backlog: Backlog, term: int) -> None:
        try:
            if backlog.again:
                await self._retry(tenant, term)
            if backlog.behind(MCP) and backlog.dead < MOST_DEAD:
                await self._tell(tenant, MOST_DEAD - backlog.dead, term)
            await self._troubles.well(tenant)
            await self._is_well()
        except Down as exc:
            await self._is_down(exc)
        except OldTerm:
            self._over = max(self._over, term)
            log.warning("exporter.superseded", term=term)
        except (StoreUnavailable, StoreTimeout) as exc:
            log.warning("store.unavailable", service=self.name, error=str(exc))
        except Exception as exc:  # noqa: BLE001 (whatever it is, it is named and the others are told of)
            self._bulkhead.name(exc, tenant)
            await self._troubles.failed(tenant, str(exc) or type(exc).__name__)

    async def _tell(self, tenant: str, room: int, term: int) -> None:
        """Tell of what is behind the cursor, until there is no more, or others have waited long enough."""
        exports, until = Exports(self._base.redis, tenant), time.monotonic() + TURN_S
        window = self._batch * self._base.settings.mcp_concurrency * 2
        place = await exports.place()
        cursor, held = place.cursor, list[Line]()
        while place.joined and room > 0:
            async with self._pace.turn():
                if not held:
                    last = await self._base.of(tenant).recorder.last()
                    held = await self._read(tenant, cursor.at if cursor else self._begins)
                    # Numbers are for good once an epoch is open for the very process that was read.
                    place = await exports.place()
                    if not place.joined or place.cursor != cursor:
                        return
                    if not held:
                        if (
                            cursor is None and last > BEGINNING
                        ):  # all there is is older than it is to be told of
                            await exports.advance(None, last, (), term=term)
                        return
                turn, held = Turn(held[:window]), held[window:]
                turn.settled = [not self._kinds.wants(event.kind) for _, event in turn.lines]
                try:
                    await self._send(tenant, turn)
                finally:
                    if reached := turn.reached(room):
                        dead = turn.dead(reached)
                        room -= len(dead)
                        cursor = await exports.advance(cursor, turn.lines[reached - 1][0], dead, term=term)
                        for one in dead:
                            log.error(
                                "export.dead", tenant=tenant, id=one.id, kind=one.kind, error=one.reason
                            )
            if cursor is None or reached < len(turn.lines):
                return
            if self._waiting and time.monotonic() > until:
                return

    async def _read(self, tenant: str, after: Position) -> list[Line]:
        """Some of what follows a position. Raises as `Recorder.pages`."""
        async for _, lines in self._base.of(tenant).recorder.pages(after=after, most=HELD):
            if lines:
                return lines
        return []

    async def _send(self, tenant: str, turn: Turn) -> None:
        """Make the calls of a window, a few at once. Raises Down; what is settled until then is noted."""
        wanted = [at for at, done in enumerate(turn.settled) if not done]
        batches = [wanted[start : start + self._batch] for start in range(0, len(wanted), self._batch)]
        await together(self._batch_of(tenant, turn, batch) for batch in batches)

    async def _batch_of(self, tenant: str, turn: Turn, batch: Sequence[int]) -> None:
        """One call. A batch that is refused is told event by event, to find which of them is meant."""
        if len(batch) > 1:
            if await self._try(tenant, [turn.lines[at][1] for at in batch], tries=1):
                await together(self._batch_of(tenant, turn, [at]) for at in batch)
            else:
                for at in batch:
                    turn.settled[at] = True
            return
        (at,) = batch
        position, event = turn.lines[at]
        if said := await self._try(tenant, [event], tries=self._base.settings.mcp_tries):
            turn.refused[at] = self._letter(tenant, position, event, said, await self._now(tenant))
        turn.settled[at] = True

    async def _try(self, tenant: str, events: Sequence[Event], *, tries: int) -> str:
        """Make a call until it is taken; else what was said last. Raises Down."""
        arguments, said = self._arguments.of(tenant, events), ""
        if (link := self._link) is None:
            raise Down("the exporter ends")
        for number in range(tries):
            if number:
                await asyncio.sleep(backoff_s(number - 1, base_s=PAUSE_S, most_s=30.0))
            try:
                async with self._gate.of(tenant):
                    await link.call(arguments)
                await self._is_well()
                return ""
            except Refused as exc:
                said = str(exc)
                log.warning("export.refused", tenant=tenant, events=len(events), tries=number + 1, error=said)
        await link.check()  # a tool that is gone refuses everything, and that is no event's fault
        return said

    async def _retry(self, tenant: str, term: int) -> None:
        """Tell again of dead letters, where somebody said so."""
        exports, tries = Exports(self._base.redis, tenant), self._base.settings.mcp_tries

        async def one(letter: DeadLetter) -> None:
            event = await exports.event_of(letter, self._base.of(tenant).recorder)
            said = "the event is not in the recorder any more: drop this letter"
            if event is not None:
                said = await self._try(tenant, [event], tries=tries)
            now = await self._now(tenant)
            after = {"reason": said, "tries": letter.tries + tries, "dead_at": now}
            await exports.settle(letter.model_copy(update=after), delivered=not said, term=term)

        await together(one(letter) for letter in await exports.retries(AT_ONCE))

    def _letter(self, tenant: str, at: Position, event: Event, reason: str, now: datetime) -> DeadLetter:
        return DeadLetter(
            id=event_id(tenant, event),
            kind=event.kind,
            mission_id=event.mission_id,
            task_id=event.task_id,
            at=event.at,
            position=str(at),
            reason=reason,
            tries=self._base.settings.mcp_tries,
            dead_at=now,
        )

    async def _now(self, tenant: str) -> datetime:
        now_us = await self._base.of(tenant).missions.now_us()
        return datetime.fromtimestamp(now_us / 1_000_000, UTC)


async def together(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do them side by side; the first that fails ends the others, and is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        if tasks:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
    finally:
        await end(*tasks)
        for task in tasks:  # what else failed with it is told with it
            task.cancelled() or task.exception()


def _since(text: str) -> Position:
    return Position.before(int(datetime.fromisoformat(text).timestamp() * 1000)) if text else BEGINNING
