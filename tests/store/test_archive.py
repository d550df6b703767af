"""A tenant's segments: whole or absent, read from any place, by name, time and mission."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.core.event import BEGINNING, Position
from chimera.errors import BlobsUnavailable, CorruptRecord
from chimera.store import archive as archive_module
from chimera.store.archive import Archive, Segment, following
from chimera.store.blobs import Blobs
from chimera.store.segments import Line
from tests.store.history import events, numbers, written


class Counted(Blobs):
    """Counts what is read."""

    def __init__(self, location: str) -> None:
        super().__init__(location)
        self.heads: list[str] = []
        self.whole: list[str] = []

    async def read(self, path: str, *, most: int | None = None) -> bytes:
        (self.whole if most is None else self.heads).append(path)
        return await super().read(path, most=most)


async def filled(blobs: Blobs, *cuts: int, epoch: int = 1, missions: int = 1, first: int = 1) -> Archive:
    """Segments of so many events each, the chain unbroken."""
    archive, link = Archive(blobs, "acme"), ""
    for count in cuts:
        contents = await archive.write(
            written(events(count, epoch=epoch, first=first, missions=missions)), link
        )
        first, link = first + count, contents.after
    return archive


async def lines(archive: Archive, after: Position = BEGINNING, mission_id: str = "") -> list[Line]:
    return [line async for _, some in archive.read(after, mission_id) for line in some]


async def test_it_gives_all_events_in_order_from_any_place(tmp_path: Path) -> None:
    archive = await filled(Blobs(str(tmp_path)), 3, 1, 5)
    whole = await lines(archive)
    assert whole == events(9)
    for at, event in whole:
        assert await lines(archive, at) == whole[event.seq :]
    assert await archive.count(whole[3][0]) == 5


async def test_a_segments_name_says_what_it_holds(tmp_path: Path) -> None:
    await filled(Blobs(str(tmp_path)), 3, 2)
    (tmp_path / "acme" / "recorder" / "notes.txt").write_text("not ours")
    assert sorted(path.name for path in (tmp_path / "acme" / "recorder").iterdir()) == [
        "000001-0000000000000001-0000000000000003.ndjson.zst",
        "000001-0000000000000004-0000000000000005.ndjson.zst",
        "notes.txt",
    ]
    assert await Archive(Blobs(str(tmp_path)), "acme").segments() == [Segment(1, 1, 3), Segment(1, 4, 5)]


async def test_a_tenant_without_an_archive_has_none(tmp_path: Path) -> None:
    archive = Archive(Blobs(str(tmp_path)), "acme")
    assert await archive.tail() is None
    assert await lines(archive) == []


async def test_segments_that_overlap_are_read_once(tmp_path: Path) -> None:
    archive = await filled(Blobs(str(tmp_path)), 4, 4)
    await archive.write(written(events(2)), "")
    await archive.write(written(events(8)), "")
    await archive.write(written(events(4, first=3)), "00" * 32)
    assert await lines(archive) == events(8)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 30), st.integers(0, 10)), max_size=12))
def test_following_covers_what_any_segments_cover_and_repeats_none(spans: list[tuple[int, int, int]]) -> None:
    segments = [Segment(epoch, first, first + more) for epoch, first, more in spans]
    covered = {(s.epoch, seq) for s in segments for seq in range(s.first, s.last + 1)}
    given_once: list[tuple[int, int]] = []
    for one in following(segments, (0, 0)):
        fresh = [(one.epoch, seq) for seq in range(one.first, one.last + 1)]
        given_once += [place for place in fresh if not given_once or place > given_once[-1]]
    assert given_once == sorted(covered)


async def test_missing_segments_are_named(tmp_path: Path) -> None:
    archive = await filled(Blobs(str(tmp_path)), 3, 3, 3)
    (tmp_path / "acme" / "recorder" / Segment(1, 4, 6).name).unlink()
    with pytest.raises(CorruptRecord, match="events 4 to 6 of epoch 1 are missing"):
        await lines(archive)
    (tmp_path / "acme" / "recorder" / Segment(1, 1, 3).name).unlink()
    with pytest.raises(CorruptRecord, match="events 1 to 6"):
        await lines(archive)


async def test_a_damaged_segment_is_named_and_nothing_of_it_is_given(tmp_path: Path) -> None:
    archive = await filled(Blobs(str(tmp_path)), 3, 3)
    path = tmp_path / "acme" / "recorder" / Segment(1, 4, 6).name
    path.write_bytes(path.read_bytes()[:-5])
    pages = archive.read(BEGINNING)
    assert (await anext(pages))[1] == events(3)
    with pytest.raises(CorruptRecord, match=Segment(1, 4, 6).name):
        await anext(pages)


async def test_the_chain_is_followed_through_every_segment(tmp_path: Path) -> None:
    archive = await filled(Blobs(str(tmp_path)), 3, 4, 5)
    second = tmp_path / "acme" / "recorder" / Segment(1, 4, 7).name
    true = second.read_bytes()
    assert await archive.verify() == (12, [])
    # One that overlaps, as after a crash, is part of the same chain.
    link = (await archive.contents(Segment(1, 1, 3))).after
    await archive.write(written(events(6, first=4)), link)
    await archive.write(written(events(9, first=4)), link)
    assert await archive.verify() == (12, [])
    for span in ((4, 9), (4, 12)):
        (second.parent / Segment(1, *span).name).unlink()
    # Somebody rewrites a segment, and makes it whole in itself.
    forged = [(at, event.model_copy(update={"by": "nobody"})) for at, event in events(4, first=4)]
    second.unlink()
    await archive.write(written(forged), link)
    count, wrong = await archive.verify()
    assert (count, len(wrong)) == (12, 1)
    assert "the hash chain is broken before event 8" in wrong[0]
    second.unlink()
    assert "events 4 to 7 are missing" in (await archive.verify())[1][0]
    second.write_bytes(true[:-9])
    assert any("damaged or cut short" in one for one in (await archive.verify())[1])


async def test_one_mission_costs_the_heads_since_its_start_and_the_segments_that_hold_it(
    tmp_path: Path,
) -> None:
    blobs = Counted(str(tmp_path))
    archive, link, first = Archive(blobs, "acme"), "", 1
    for number in range(64):
        some = [
            (at, event.model_copy(update={"mission_id": f"m{number // 4}"}))
            for at, event in events(10, first=first)
        ]
        link, first = (await archive.write(written(some), link)).after, first + 10
    reader = Archive(blobs, "acme")
    found = await lines(reader, Position.before(1_790_000_000_000 + 601), "m15")
    assert [event.seq for _, event in found] == list(range(601, 641))
    assert len(blobs.whole) == 4
    assert len(blobs.heads) <= 6 + 4  # a bisection of 64, and the four behind it
    before = len(blobs.heads)
    await lines(reader, Position.before(1_790_000_000_000 + 601), "m15")
    assert len(blobs.heads) == before, "heads are remembered"


async def test_by_time_every_epoch_is_looked_at_though_clocks_differ(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    archive = await filled(blobs, 5, 5, first=100)
    # The next server's clock is behind: its ids are lower than those of the epoch before.
    await archive.write(written(events(5, epoch=2, first=50)), "")
    found = await lines(archive, Position.before(1_790_000_000_000 + 52), "m0")
    assert numbers(found) == [*((1, n) for n in range(100, 110)), *((2, n) for n in range(50, 55))]


async def test_a_head_larger_than_usual_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "HEAD_BYTES", 64)
    await filled(Blobs(str(tmp_path)), 50, missions=50)
    tail = await Archive(Blobs(str(tmp_path)), "acme").tail()
    assert tail is not None
    assert len(tail.missions) == 50


async def test_a_write_that_fails_leaves_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "acme").write_text("a file where the folder should be")
    archive = Archive(Blobs(str(tmp_path)), "acme")
    with pytest.raises(BlobsUnavailable, match="CHIMERA_BLOB_URL"):
        await archive.write(written(events(1)), "")


async def test_what_a_dead_writer_left_is_no_segment_and_is_cleared(tmp_path: Path) -> None:
    archive = await filled(Blobs(str(tmp_path)), 3)
    left = tmp_path / "acme" / "recorder" / f".{Segment(1, 4, 9).name}.1f2e"
    left.write_bytes(b"half a segm")
    assert await archive.segments() == [Segment(1, 1, 3)]
    for _ in range(2):
        await archive.clear_unfinished()
        assert not left.exists()


@pytest.fixture
def memory() -> Any:
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


async def test_it_lives_in_any_fsspec_location(memory: Any) -> None:
    archive = await filled(Blobs("memory://fleet/blobs"), 3, 4)
    await archive.clear_unfinished()
    assert await lines(Archive(Blobs("memory://fleet/blobs"), "acme")) == events(7)
    assert [path for path in memory.find("/fleet") if path.endswith(".zst")]
