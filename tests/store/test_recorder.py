"""Reading the recorder: what was written, whole and once, wherever it lies by now."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chimera.core.event import BEGINNING, Position
from chimera.errors import CorruptRecord, StoreUnavailable
from chimera.runtime.base import Base
from chimera.store import recorder as recorder_module
from chimera.store.archive import FIRST
from chimera.store.sinks import Cursor
from tests.store import drive, history

_numbers = itertools.count(1)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
async def test_reading_equals_what_was_written_however_it_was_cut(base: Base, data: st.DataObject) -> None:
    """Writes, segments of any size, some never acknowledged to Redis, and trims, in any order."""
    tenant = f"cut{next(_numbers)}"
    stores, sink = base.of(tenant), base.of(tenant).sink
    run = (await sink.stand()).run
    assert await sink.open_epoch(FIRST, "", run=run, lost=0, term=drive.TERM, by="hub")
    written: list[tuple[str, str]] = []
    reached = "-"
    steps = st.lists(
        st.sampled_from(["write", "mission", "archive", "crash", "trim"]), min_size=3, max_size=14
    )
    for number, step in enumerate(data.draw(steps)):
        stand = await sink.stand()
        assert stand.cursor
        match step:
            case "write":
                await history.write(base, tenant, data.draw(st.integers(1, 20)))
            case "mission":
                await history.mission(base, tenant, f"m{number}", data.draw(st.integers(1, 5)))
            case "trim":
                await sink.trim(keep=data.draw(st.integers(0, 5)), term=drive.TERM, most=50)
            case _:
                bound = data.draw(st.integers(1, 30))
                if entries := await sink.take(stand, stand.cursor, events=bound, size=1 << 20):
                    made = await stores.archive.write(entries, stand.cursor.link)
                    if step == "archive":
                        to = Cursor(made.last, made.after)
                        assert await sink.advance(stand.cursor, to, term=drive.TERM)
        rows = await base.redis.xrange(sink.keys.log, min=reached)
        written += [(entry, fields["events"]) for entry, fields in rows]
        reached = f"({rows[-1][0]}" if rows else reached
    lines = await history.read(base, tenant)
    assert [event.seq for _, event in lines] == list(range(1, len(lines) + 1))
    assert list(dict.fromkeys(at.entry for at, _ in lines)) == [entry for entry, _ in written]
    most = data.draw(st.integers(1, 12))
    by_few = [page async for _, page in stores.recorder.pages(most=most)]
    assert [line for page in by_few for line in page] == lines
    for mission in {event.mission_id for _, event in lines if event.mission_id}:
        own = [line for line in lines if line[1].mission_id == mission]
        start = Position.before((await stores.missions.get(mission)).submitted_at_us // 1000)
        assert await history.read(base, tenant, after=start, mission_id=mission) == own
    if lines:
        index = data.draw(st.integers(0, len(lines) - 1))
        assert await history.read(base, tenant, after=lines[index][0]) == lines[index + 1 :]


async def test_a_position_between_two_events_of_one_entry_goes_on_with_the_second(
    base: Base, tenant: str
) -> None:
    await history.mission(base, tenant, "m1", inputs=5)
    whole = await history.read(base, tenant)
    shared = [line for line in whole if [at.entry for at, _ in whole].count(line[0].entry) > 1]
    assert shared
    await history.archive(base, tenant)
    assert await base.of(tenant).sink.trim(keep=0, term=drive.TERM) > 0
    for at, event in shared:
        assert await history.read(base, tenant, after=at) == whole[event.seq :]


async def test_a_page_of_few_events_ends_with_the_entry_that_reaches_them(base: Base, tenant: str) -> None:
    for number in range(4):
        await history.mission(base, tenant, f"m{number}", inputs=5)
    whole = await history.read(base, tenant)
    entries = list(dict.fromkeys(at.entry for at, _ in whole))
    pages = [page async for _, page in base.of(tenant).recorder.pages(most=2) if page]
    assert [line for page in pages for line in page] == whole
    assert all(len({at.entry for at, _ in page[:-1]}) <= 2 for page in pages)
    assert 2 < len(pages) <= len(entries)


async def test_a_stream_that_reaches_back_is_read_without_the_archive(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history.mission(base, tenant, "m1")
    await history.archive(base, tenant)

    async def never() -> list[object]:
        raise AssertionError("the archive was read")

    monkeypatch.setattr(base.of(tenant).archive, "segments", never)
    whole = await history.read(base, tenant)
    assert await history.read(base, tenant, after=whole[3][0]) == whole[4:]


async def test_events_that_are_nowhere_are_an_error_not_a_gap(base: Base, tenant: str) -> None:
    await history.write(base, tenant, 6)
    await history.archive(base, tenant)
    log = base.of(tenant).recorder.keys.log
    whole = await history.read(base, tenant)
    await base.redis.xtrim(log, minid=whole[4][0].entry, approximate=False)
    assert await history.read(base, tenant) == whole
    await base.blobs.delete_inputs(tenant, "recorder")  # the whole folder
    for after in (BEGINNING, whole[1][0]):
        with pytest.raises(CorruptRecord, match="neither in Redis nor in the recorder's archive"):
            await history.read(base, tenant, after=after)
    assert await history.read(base, tenant, after=whole[4][0]) == whole[5:]


async def test_a_store_that_came_back_empty_is_told_until_its_epoch_is_open(base: Base, tenant: str) -> None:
    await history.write(base, tenant, 5)
    await history.archive(base, tenant)
    before = await history.read(base, tenant)
    async for key in base.redis.scan_iter(match=f"{{{tenant}}}:*"):
        await base.redis.delete(key)
    await history.write(base, tenant, 2)
    with pytest.raises(StoreUnavailable, match="not joined to the archive yet"):
        await history.read(base, tenant)
    await history.archive(base, tenant)
    after = await history.read(base, tenant)
    assert after[:5] == before
    assert history.numbers(after)[5:] == [(2, 1), (2, 2), (2, 3)]


async def test_what_was_lost_and_archived_comes_where_its_epoch_ends(base: Base, tenant: str) -> None:
    """Redis has 1 to 3 of what the archive has to 6; then another epoch."""
    await history.write(base, tenant, 3)
    keys = base.of(tenant).recorder.keys
    shared = await history.read(base, tenant)
    await history.write(base, tenant, 3)
    await history.archive(base, tenant)
    lost = (await history.read(base, tenant))[3:]
    # The rewind by hand, as an older append-only file would give it.
    for at, _ in lost:
        await base.redis.xdel(keys.log, at.entry)
    await base.redis.set(keys.sequence, 3)
    await base.redis.delete(keys.epochs, keys.sinks)
    await history.write(base, tenant, 2)
    await history.archive(base, tenant)
    lines = await history.read(base, tenant)
    assert lines[:6] == [*shared, *lost]
    assert history.numbers(lines)[6:] == [(2, 4), (2, 5), (2, 6)]
    # From before the fork, from the lost branch, and from behind it.
    for index in (1, 2, 4, 5, 6):
        assert await history.read(base, tenant, after=lines[index][0]) == lines[index + 1 :]


async def test_a_page_of_large_entries_lets_others_on_the_loop_go_on(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await history.mission(base, tenant, "m1", inputs=100)
    recorder = base.of(tenant).recorder

    async def turns_of_a_neighbour(at_once: int) -> int:
        monkeypatch.setattr(recorder_module, "AT_ONCE", at_once)
        turns = 0

        async def neighbour() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        beside = asyncio.create_task(neighbour())
        async for _, found in recorder.pages():
            beside.cancel()
            assert len(found) > 400
            return turns
        raise AssertionError("there is a page")

    entries = len({at.entry for at, _ in await history.read(base, tenant)})
    reading = min([await turns_of_a_neighbour(1 << 30) for _ in range(5)])
    assert await turns_of_a_neighbour(0) >= reading + entries - 2
