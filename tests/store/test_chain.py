"""`recorder verify`: whatever is done to archive or stream is found.

That restarts of the store are no alarm is tested with them: tests/runtime/test_archivist.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from chimera.core.chainviews import ChainView, Mark
from chimera.errors import InvalidRequest
from chimera.runtime.base import Base
from chimera.store.archive import Segment
from chimera.store.chain import verify
from chimera.store.segments import Line
from tests.store import history


async def checked(base: Base, tenant: str, since: Mark | None = None) -> ChainView:
    stores = base.of(tenant)
    return await verify(base.redis, tenant, stores.archive, since=since)


async def recorded(base: Base, tenant: str, *, archived: int = 3, more: int = 5) -> Path:
    """A recorder of five events a segment, some of them archived, all of them in the stream. Its folder."""
    for _ in range(archived):
        await history.write(base, tenant, 5)
        await history.archive(base, tenant)
    await history.write(base, tenant, more)
    return Path(base.settings.blob_location) / tenant / "recorder"


async def forge(base: Base, tenant: str, segment: Segment, lines: Sequence[Line]) -> None:
    """Put another segment in a segment's place: whole in itself, its checksums and its head right."""
    archive = base.of(tenant).archive
    before = (await archive.contents(segment)).before
    (Path(base.settings.blob_location) / tenant / "recorder" / segment.name).unlink()
    await archive.write(history.written(lines), before)


async def rows(base: Base, tenant: str) -> list[tuple[str, dict[str, str]]]:
    return list(await base.redis.xrange(base.of(tenant).recorder.keys.log))


async def rewrite(base: Base, tenant: str, entries: Sequence[tuple[str, dict[str, str]]]) -> None:
    """Make the stream these entries, as somebody with a login of Redis's could."""
    log = base.of(tenant).recorder.keys.log
    await base.redis.delete(log)
    for name, fields in entries:
        await base.redis.xadd(log, fields, id=name)


async def test_a_whole_recorder_is_found_whole(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    found = await checked(base, tenant)
    assert found.sound, found.wrong
    assert (found.events, found.archived, found.segments, found.compared) == (20, 15, 3, 15)
    assert found.anchor is not None and found.anchor.position == "1/15"  # noqa: PT018  # (the second needs the first)
    assert found.head is not None and found.head.position == "1/20"  # noqa: PT018  # (the same)


async def test_the_head_of_what_is_in_the_stream_alone_is_what_the_archive_will_have(
    base: Base, tenant: str
) -> None:
    await recorded(base, tenant)
    before = await checked(base, tenant)
    await history.archive(base, tenant)
    after = await checked(base, tenant)
    assert after.anchor == after.head == before.head


async def test_a_recorder_of_nothing_is_whole(base: Base, tenant: str) -> None:
    found = await checked(base, tenant)
    assert (found.sound, found.events, found.head) == (True, 0, None)


async def test_an_edited_line_in_a_segment_is_found(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    lines = await base.of(tenant).archive.load(Segment(1, 6, 10))
    lines[2] = lines[2][0], lines[2][1].model_copy(update={"by": "nobody"})
    await forge(base, tenant, Segment(1, 6, 10), lines)
    found = await checked(base, tenant)
    assert "the hash chain is broken before event 11" in found.wrong[0]
    assert any(f"event 1/8 of {tenant} is one thing in the archive" in one for one in found.wrong)


async def test_an_edited_last_segment_is_found_by_the_store_alone(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    lines = await base.of(tenant).archive.load(Segment(1, 11, 15))
    lines[0] = lines[0][0], lines[0][1].model_copy(update={"by": "nobody"})
    await forge(base, tenant, Segment(1, 11, 15), lines)
    # Even where the stream has none of it any more.
    await rewrite(base, tenant, (await rows(base, tenant))[15:])
    found = await checked(base, tenant)
    assert "up to event 1/15 is not what was archived" in found.wrong[0]


@pytest.mark.parametrize(
    ("segment", "said"),
    [
        (Segment(1, 1, 5), "events 1 to 5 are missing"),
        (Segment(1, 6, 10), "events 6 to 10 are missing"),
        (Segment(1, 11, 15), "segments are missing at its end"),
    ],
)
async def test_a_removed_segment_is_found(base: Base, tenant: str, segment: Segment, said: str) -> None:
    folder = await recorded(base, tenant)
    (folder / segment.name).unlink()
    assert said in (await checked(base, tenant)).wrong[0]


async def test_a_segment_under_another_name_is_found(base: Base, tenant: str) -> None:
    folder = await recorded(base, tenant)
    (folder / Segment(1, 6, 10).name).rename(folder / Segment(1, 5, 10).name)
    assert "other events than its name says" in (await checked(base, tenant)).wrong[0]


async def test_a_removed_event_of_the_stream_is_found(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    name, _ = (await rows(base, tenant))[17]
    await base.redis.xdel(base.of(tenant).recorder.keys.log, name)
    assert "events 18 to 18 of epoch 1 are missing" in (await checked(base, tenant)).wrong[0]


async def test_a_removed_last_event_of_the_stream_is_found(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    await rewrite(base, tenant, (await rows(base, tenant))[:-2])
    assert "events 19 to 20 are missing at its end" in (await checked(base, tenant)).wrong[0]


@pytest.mark.parametrize(
    ("seq", "said"),
    [("20", "it was put in, or its place was changed"), ("21", "events 21 to 21 were put in at its end")],
)
async def test_an_event_that_was_put_into_the_stream_is_found(
    base: Base, tenant: str, seq: str, said: str
) -> None:
    await recorded(base, tenant)
    await base.redis.xadd(
        base.of(tenant).recorder.keys.log,
        {"seq": seq, "at": "1790000000000000", "by": "eve", "events": '[["task.accepted","m1","m1.0",{}]]'},
    )
    assert said in (await checked(base, tenant)).wrong[0]


async def test_a_swapped_tail_of_the_stream_is_found(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    there = await rows(base, tenant)
    (one, first), (other, second) = there[-2:]
    await rewrite(base, tenant, [*there[:-2], (one, second), (other, first)])
    assert "events 19 to 19 of epoch 1 are missing" in (await checked(base, tenant)).wrong[0]


async def test_an_edited_event_that_is_archived_too_is_found_in_the_stream(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    there = await rows(base, tenant)
    there[3] = there[3][0], there[3][1] | {"by": "eve"}
    await rewrite(base, tenant, there)
    (said,) = (await checked(base, tenant)).wrong
    assert f"event 1/4 of {tenant} is one thing in the archive and another in entry {there[3][0]}" in said


async def test_a_gap_between_archive_and_stream_is_found(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    await rewrite(base, tenant, (await rows(base, tenant))[17:])
    assert "events 16 to 17 of epoch 1 are neither" in (await checked(base, tenant)).wrong[0]


async def test_history_leads_through_an_anchor_until_somebody_writes_it_anew(base: Base, tenant: str) -> None:
    await recorded(base, tenant)
    anchor = (await checked(base, tenant)).anchor
    assert anchor is not None
    await history.write(base, tenant, 5)
    await history.archive(base, tenant)
    assert (await checked(base, tenant, anchor)).sound
    # Who may write both writes all anew, cursor and stream too: only the anchor shows it.
    archive, folder = base.of(tenant).archive, Path(base.settings.blob_location) / tenant / "recorder"
    link = ""
    for segment in sorted(await archive.segments(), key=lambda one: one.first):
        lines = await archive.load(segment)
        (folder / segment.name).unlink()
        forged = [(at, event.model_copy(update={"by": "nobody"})) for at, event in lines]
        link = (await archive.write(history.written(forged), link)).after
    stand = await base.of(tenant).sink.stand()
    assert stand.cursor is not None
    text = f"{stand.cursor.at.epoch} {stand.cursor.at.seq} {stand.cursor.at.entry} {link}"
    await base.redis.hset(base.of(tenant).recorder.keys.sinks, "archive", text)
    await rewrite(base, tenant, [])
    assert (await checked(base, tenant)).sound
    assert "history does not lead through the anchor 1/15" in (await checked(base, tenant, anchor)).wrong[0]


def test_an_anchor_is_read_as_it_was_printed() -> None:
    mark = Mark(position="2/17", hash="a" * 64)
    assert Mark.parse("2/17", "a" * 64) == mark
    assert mark.place == (2, 17)
    for position, hashed in (("17", "a" * 64), ("2/17", "a"), ("2/x", "a" * 64)):
        with pytest.raises(InvalidRequest, match="is no anchor"):
            Mark.parse(position, hashed)
