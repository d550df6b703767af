"""Inputs in segments: written once, read by the window, missing ones named."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.errors import CorruptRecord, StoreUnavailable
from chimera.store.blobs import SEGMENT, Blobs


async def test_inputs_come_back_by_the_window(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    items = [{"n": number, "text": "ü\n"} for number in range(SEGMENT * 2 + 5)]
    await blobs.write_inputs("acme", "m1", items)
    assert await blobs.read_inputs("acme", "m1", SEGMENT - 2, 4) == items[SEGMENT - 2 : SEGMENT + 2]
    assert await blobs.read_inputs("acme", "m1", SEGMENT * 2, 100) == items[SEGMENT * 2 :]
    assert [item async for item in blobs.iter_inputs("acme", "m1", len(items))] == items


async def test_missing_inputs_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptRecord, match=r"m9.*CHIMERA_BLOB_URL"):
        await Blobs(str(tmp_path)).read_inputs("acme", "m9", 0, 1)


async def test_a_place_that_cannot_be_written_is_an_error_before_the_acknowledgement(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnavailable, match="CHIMERA_BLOB_URL"):
        await Blobs(str(tmp_path / "file")).write_inputs("acme", "m1", [1])


async def test_forgetting_is_idempotent(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    await blobs.write_inputs("acme", "m1", [1])
    for _ in range(2):
        await blobs.delete_inputs("acme", "m1")
    assert not (tmp_path / "acme" / "m1").exists()
