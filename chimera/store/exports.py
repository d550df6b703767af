"""What the exporter keeps in Redis: its cursor, the dead letters, and how far all sinks are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chimera.core.event import Event, Position
from chimera.core.sinkviews import DeadLetter
from chimera.errors import CorruptRecord
from chimera.store.connection import Redis, translated
from chimera.store.epochs import Epochs
from chimera.store.keys import TenantKeys
from chimera.store.recorder import Recorder
from chimera.store.scripts import Scripts, under_term
from chimera.store.sinks import MCP, Cursor

MOST_DEAD = 1_000
"""With so many dead letters a tenant's events wait, until somebody has them tried again or drops some."""
EVERY = "*"
"""In place of ids: every dead letter."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """How far a tenant's sinks are.

    Attributes:
        newest: number of the last event there is.
        cursors: by the sink's name.
        dead, again: dead letters; those of them that are to be tried again.
        run: the store's process under which its last epoch was opened.
        waiting: tasks that wait for a place, and results that wait for a judge.
    """

    newest: int
    cursors: Mapping[str, Cursor]
    dead: int
    again: int
    run: str = ""
    waiting: int = 0

    def behind(self, sink: str) -> int:
        """Events that a sink does not have yet."""
        cursor = self.cursors.get(sink)
        return max(0, self.newest - (cursor.at.seq if cursor else 0))


@dataclass(frozen=True, slots=True)
class Place:
    """Where the exporter is.

    Attributes:
        cursor: None before it began.
        joined: the recorder's epoch is that of the store's process, so numbers are for good.
    """

    cursor: Cursor | None
    joined: bool


class Exports:
    """One tenant's."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def place(self) -> Place:
        """Where it is now."""
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.info("server")
                pipe.hgetall(self.keys.epochs)
                pipe.hget(self.keys.sinks, MCP)
                server, epochs, cursor = await pipe.execute()
            joined = str(server["run_id"]) == Epochs(epochs).run
            return Place(Cursor.parse(cursor) if cursor else None, joined)

    async def advance(
        self, before: Cursor | None, to: Position, dead: Sequence[DeadLetter], *, term: int
    ) -> Cursor | None:
        """Move the cursor on, and put events aside. The cursor as it is then; None: it stands elsewhere.

        Raises:
            OldTerm: a newer leader acts.
        """
        after = Cursor(to)
        letters = [field for one in dead for field in (one.id, one.model_dump_json(exclude={"retrying"}))]
        answer = await self._scripts.run(
            "advance_export", [self.keys.root], term, MCP, str(before or ""), str(after), *letters
        )
        return after if under_term(answer) == 1 else None

    async def dead(self, most: int = 100, after: str = "") -> list[DeadLetter]:
        """Dead letters, in the order of their events, behind an id."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.hgetall(self.keys.dead)
                pipe.smembers(self.keys.again)
                found, again = await pipe.execute()
        letters = sorted((self._letter(text, one in again) for one, text in found.items()), key=_order)
        behind = _order_of(after) if after else (0, 0)
        return [one for one in letters if _order(one) > behind][:most]

    async def retries(self, most: int) -> list[DeadLetter]:
        """Some that are to be tried again."""
        with translated():
            ids = sorted(await self._redis.smembers(self.keys.again), key=_order_of)[:most]
            texts = await self._redis.hmget(self.keys.dead, ids) if ids else []
        return [self._letter(text, True) for text in texts if text is not None]

    async def settle(self, letter: DeadLetter, *, delivered: bool, term: int) -> None:
        """Say what came of trying one again. Raises OldTerm."""
        said = "" if delivered else letter.model_dump_json(exclude={"retrying"})
        under_term(await self._scripts.run("settle_dead", [self.keys.root], term, letter.id, said))

    async def answer(
        self, word: str, ids: Sequence[str], operation: str, *, by: str, reason: str = ""
    ) -> int:
        """Have dead letters tried again, or drop them; once for an operation. Returns how many.

        Args:
            word: ``retry`` or ``drop``.
            ids: of events; `EVERY` alone for all.
        """
        return int(
            await self._scripts.run("answer_dead", [self.keys.root], operation, by, word, reason, *ids)
        )

    async def event_of(self, letter: DeadLetter, recorder: Recorder) -> Event | None:
        """The event of a dead letter, from the stream or the archive; None when it is not there any more.

        Raises as `Recorder.pages`.
        """
        at = Position.parse(letter.position)
        # The entry may be of many events, and there may be no event before it.
        async for found, event in recorder.read(after=Position(at.epoch, at.seq - 1, at.entry)):
            return event if found.seq == at.seq else None
        return None

    def _letter(self, text: str, again: bool) -> DeadLetter:
        try:
            return DeadLetter.model_validate_json(text).model_copy(update={"retrying": again})
        except ValueError as exc:
            raise CorruptRecord(f"a dead letter of {self.keys.tenant} cannot be read: {exc}") from exc


async def backlogs(redis: Redis, tenants: Sequence[str]) -> dict[str, Backlog]:
    """How far the sinks of these tenants are, in one round trip."""
    with translated():
        async with redis.pipeline(transaction=False) as pipe:
            for tenant in tenants:
                of = TenantKeys(tenant)
                pipe.get(of.sequence)
                pipe.hgetall(of.sinks)
                pipe.hlen(of.dead)
                pipe.scard(of.again)
                pipe.hget(of.epochs, "run")
                pipe.hvals(of.depth)
                pipe.llen(of.review)
            found = iter(await pipe.execute())
    made = {}
    for tenant in tenants:
        newest, sinks, dead, again, run, depth, review = (next(found) for _ in range(7))
        cursors = {name: Cursor.parse(text) for name, text in sinks.items()}
        waiting = int(review) + sum(max(0, int(one)) for one in depth)
        made[tenant] = Backlog(int(newest or 0), cursors, int(dead), int(again), run or "", waiting)
    return made


def _order(letter: DeadLetter) -> tuple[int, int]:
    return _order_of(letter.id)


def _order_of(event_id: str) -> tuple[int, int]:
    try:
        _, epoch, seq = event_id.rsplit("/", 2)
        return int(epoch), int(seq)
    except ValueError:
        return (0, 0)
