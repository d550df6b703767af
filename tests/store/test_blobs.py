"""Inputs in segments: written once, read by the window, missing ones named."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.errors import BlobsUnavailable, CorruptRecord, StoreUnavailable
from chimera.store.blobs import SEGMENT, Blobs
from chimera.store.uploads import upload


async def test_inputs_come_back_by_the_window(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    items = [{"n": number, "text": "ü\n"} for number in range(SEGMENT * 2 + 5)]
    await upload(blobs, "acme", "m1", items)
    assert await blobs.read_inputs("acme", "m1", SEGMENT - 2, 4) == items[SEGMENT - 2 : SEGMENT + 2]
    assert await blobs.read_inputs("acme", "m1", SEGMENT * 2, 100) == items[SEGMENT * 2 :]
    assert [item async for item in blobs.iter_inputs("acme", "m1", len(items))] == items


async def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptRecord, match=r"m9.*CHIMERA_BLOB_URL"):
        await Blobs(str(tmp_path)).read_inputs("acme", "m9", 0, 1)


async def test_a_place_that_cannot_be_written_is_an_error_before_the_acknowledgement(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="CHIMERA_BLOB_URL"):
        await upload(Blobs(str(tmp_path / "file")), "acme", "m1", [1])


async def test_forgetting_is_idempotent(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    await upload(blobs, "acme", "m1", [1])
    for _ in range(2):
        await blobs.delete_inputs("acme", "m1")
    assert not (tmp_path / "acme" / "m1").exists()


@pytest.mark.parametrize("location", ["{}", "memory://{}"])
async def test_a_file_that_is_written_by_the_piece_is_there_once_it_is_whole(
    location: str, tmp_path: Path
) -> None:
    blobs = Blobs(location.format(tmp_path))
    assert await blobs.tail("acme/folder/name", 9) is None
    async with blobs.writing("acme/folder/name") as write:
        for piece in (b"one", b"two", b"three"):
            await write(piece)
        if location == "{}":  # in memory it is seen as it grows
            assert await blobs.names("acme/folder") == []
    assert await blobs.names("acme/folder") == ["name"]
    assert await blobs.read("acme/folder/name") == b"onetwothree"
    assert await blobs.tail("acme/folder/name", 5) == b"three"
    assert await blobs.tail("acme/folder/name", 500) == b"onetwothree"
    assert await blobs.part("acme/folder/name", 3, 3) == b"two"
    assert await blobs.part("acme/folder/name", 0, 3) == b"one"


async def test_a_file_that_breaks_off_leaves_the_one_before(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))

    async def break_off() -> None:
        async with blobs.writing("acme/name") as write:
            await write(b"half")
            raise ZeroDivisionError

    for left in ([], ["name"]):
        with pytest.raises(ZeroDivisionError):
            await break_off()
        assert [path.name for path in (tmp_path / "acme").iterdir()] == left
        await blobs.write("acme/name", b"whole")
    assert await blobs.read("acme/name") == b"whole"


async def test_a_piece_that_finds_no_room_is_said(tmp_path: Path) -> None:
    async def write() -> None:
        async with Blobs(str(tmp_path)).writing("acme/name") as append:
            (tmp_path / "acme").rename(tmp_path / "elsewhere")  # the place goes away under it
            await append(b"body")

    with pytest.raises(BlobsUnavailable, match=r"acme/name cannot be stored .*CHIMERA_BLOB_URL"):
        await write()
