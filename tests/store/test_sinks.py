"""Sinks: cursors move once what was read is stored, and the stream is trimmed to the slowest of them."""

from __future__ import annotations

import pytest

from chimera.core.event import Position, expand
from chimera.runtime.base import Base
from chimera.store.archive import FIRST
from chimera.store.sinks import MCP, Cursor, Sink
from tests.store import drive, history


async def begun(base: Base, tenant: str, entries: int) -> tuple[Sink, list[Position]]:
    """A recorder with so many entries and an archive that has none of them; where each entry ends."""
    sink = base.of(tenant).sink
    await history.write(base, tenant, entries)
    run = (await sink.stand()).run
    assert await sink.open_epoch(FIRST, "", run=run, lost=0, term=drive.TERM, by="hub")
    return sink, [at for at, _ in await history.read(base, tenant)]


async def entries(base: Base, tenant: str) -> int:
    return int(await base.redis.xlen(base.of(tenant).sink.keys.log))


async def test_a_cursor_moves_from_where_it_stands_and_nowhere_else(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 3)
    assert not await sink.advance(Cursor(ends[1]), Cursor(ends[2]), term=drive.TERM)
    assert await sink.advance(Cursor(), Cursor(ends[1], "ab"), term=drive.TERM)
    stand = await sink.stand()
    assert (stand.cursor, stand.behind) == (Cursor(ends[1], "ab"), 1)
    assert stand.cursor is not None
    assert stand.cursor.at.entry == ends[1].entry


async def test_a_cursor_moves_only_to_an_entry_that_the_stream_has(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 3)
    for wrong in (Position(1, 3, ends[1].entry), Position(1, 2, "99-0")):
        assert not await sink.advance(Cursor(), Cursor(wrong), term=drive.TERM)
    assert (await sink.stand()).cursor == Cursor()


async def test_an_older_term_moves_trims_and_opens_nothing(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 3)
    old = drive.TERM - 1
    assert not await sink.advance(Cursor(), Cursor(ends[2]), term=old)
    run = (await sink.stand()).run
    assert not await sink.open_epoch(Position(2, 0, "0-0"), "", run=run, lost=0, term=old, by="hub")
    assert await sink.advance(Cursor(), Cursor(ends[2]), term=drive.TERM)
    assert await sink.trim(keep=0, term=old) == 0
    assert await entries(base, tenant) == 3


async def test_nothing_is_trimmed_that_is_not_archived_and_another_sink_keeps_nothing(
    base: Base, tenant: str
) -> None:
    sink, ends = await begun(base, tenant, 10)
    other = Sink(base.redis, tenant, MCP)
    assert await other.advance(None, Cursor(ends[2]), term=drive.TERM)
    assert (await sink.trim(keep=0, term=drive.TERM), await entries(base, tenant)) == (0, 10)
    assert await sink.advance(Cursor(), Cursor(ends[7]), term=drive.TERM)
    assert await sink.trim(keep=0, term=drive.TERM) == 7
    # The entry that the archive stands at is still there.
    assert await sink.holds(ends[7])
    assert await entries(base, tenant) == 3


async def test_a_stream_that_is_not_archived_is_not_trimmed(base: Base, tenant: str) -> None:
    await history.write(base, tenant, 5)
    assert await base.of(tenant).sink.trim(keep=0, term=drive.TERM) == 0
    assert await entries(base, tenant) == 5


@pytest.mark.parametrize(("keep", "left"), [(0, 1), (4, 4), (9, 9), (50, 10)])
async def test_a_live_window_of_the_newest_stays(base: Base, tenant: str, keep: int, left: int) -> None:
    sink, ends = await begun(base, tenant, 10)
    assert await sink.advance(Cursor(), Cursor(ends[9]), term=drive.TERM)
    while await sink.trim(keep=keep, term=drive.TERM, most=3):
        pass
    assert await entries(base, tenant) == left


async def test_one_call_trims_no_more_than_it_may(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 10)
    assert await sink.advance(Cursor(), Cursor(ends[9]), term=drive.TERM)
    assert await sink.trim(keep=0, term=drive.TERM, most=4) == 4


async def test_ids_are_compared_as_numbers(base: Base, tenant: str) -> None:
    """Entries of one millisecond: -9 comes before -10."""
    sink = base.of(tenant).sink
    for number in range(1, 13):
        fields = {"seq": number, "at": 1, "by": "t", "events": '[["limits.set","","",{}]]'}
        await base.redis.xadd(sink.keys.log, fields, id=f"5-{number}")
    assert await sink.advance(None, Cursor(Position(1, 9, "5-9")), term=drive.TERM)
    assert await sink.trim(keep=0, term=drive.TERM) == 8


async def test_an_epoch_begins_behind_the_last_shared_event_and_is_an_event(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 5)
    run = (await sink.stand()).run
    assert await sink.open_epoch(
        Position(2, 3, ends[2].entry), "ab", run=run, lost=4, term=drive.TERM, by="hub-1"
    )
    lines = await history.read(base, tenant)
    assert history.numbers(lines) == [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5), (2, 6)]
    last = lines[-1][1]
    assert (last.kind, last.by, last.details) == (
        "recorder.epoch",
        "hub-1",
        {"epoch": 2, "after": 3, "lost": 4},
    )
    stand = await sink.stand()
    assert (stand.cursor, stand.epochs.current, stand.behind) == (Cursor(Position(2, 3, ""), "ab"), 2, 3)


async def test_an_epoch_is_not_opened_on_a_store_that_changed_meanwhile(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 3)
    run = (await sink.stand()).run
    second, first = Position(2, 1, ends[0].entry), Position(1, 1, ends[0].entry)
    opened = [
        await sink.open_epoch(second, "", run="0" * 40, lost=0, term=drive.TERM, by="hub"),
        await sink.open_epoch(Position(2, 2, "99-0"), "", run=run, lost=0, term=drive.TERM, by="hub"),
        await sink.open_epoch(first, "", run=run, lost=0, term=drive.TERM, by="hub"),
    ]
    assert opened == [False] * 3
    assert (await sink.stand()).epochs.current == 1


async def test_an_epoch_that_the_store_forgot_is_told_again(base: Base, tenant: str) -> None:
    sink, ends = await begun(base, tenant, 5)
    run = (await sink.stand()).run
    forgotten = [Position(2, 1, ends[0].entry), Position(3, 3, ends[2].entry)]
    begins = Position(4, 4, ends[3].entry)
    assert await sink.open_epoch(begins, "", run=run, lost=0, term=drive.TERM, by="hub", forgotten=forgotten)
    assert [epoch for epoch, _ in history.numbers(await history.read(base, tenant))] == [1, 2, 2, 3, 4, 4]


async def test_what_is_taken_are_whole_entries_up_to_a_bound(base: Base, tenant: str) -> None:
    sink = base.of(tenant).sink
    await history.mission(base, tenant, "m1", inputs=6)
    stand = await sink.stand()
    whole = await sink.take(stand, Cursor(), events=10_000, size=1 << 20)
    assert whole
    events = [event for entry in whole for event in expand(entry.fields, entry.epoch, tenant)]
    assert events == [event for _, event in await history.read(base, tenant)]
    some = await sink.take(stand, Cursor(), events=4, size=1 << 20)
    assert some == whole[: len(some or ())], "an entry is never cut"
    assert some[-2].last.seq < 4 <= some[-1].last.seq < whole[-1].last.seq
    assert await sink.take(stand, Cursor(), events=10_000, size=1) == whole[:1]
