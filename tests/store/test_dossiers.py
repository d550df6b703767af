"""A finished mission's file: what went in comes out, from any place; what is damaged is never given."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.core.action import ActionStatus
from chimera.core.judge import RulesPolicy, SchemaPolicy
from chimera.core.mission import MissionBase, MissionStatus
from chimera.core.verdict import Decision, Opinion, Verdict
from chimera.errors import BlobsUnavailable, CorruptRecord, NotFound
from chimera.store import dossiers as dossiers_module
from chimera.store.actions import ActionRecord
from chimera.store.blobs import Blobs
from chimera.store.dossiers import Dossier, Dossiers, Filed
from chimera.store.missionrecord import STATUSES, MissionRecord, MissionState
from chimera.store.tasks import TaskRecord
from tests.store import drive

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MISSION_ID = "m01jdxk4v0a8c3m9q2w7r"
ODD = {"text": "ü\u2028\n\ud800", "figure": 0.1, "none": None, "nan": [1, {"deep": [True]}]}
"""What JSON lets an agent write: a lone surrogate among it, which is no valid Unicode."""


def mission(mission_id: str = MISSION_ID, **changes: Any) -> MissionRecord:
    spec = MissionBase(
        goal="Say.",
        options={"times": 2},
        budget_usd=Decimal("0.10"),
        judge=(SchemaPolicy.model_validate({"policy": "schema", "schema": {}}), RulesPolicy(min_chars=3)),
    )
    made = MissionRecord(
        mission_id=mission_id,
        status=MissionStatus.FAILED,
        reason="min_accepted",
        state=MissionState(3, "Say it.", ODD),
        spec=spec,
        inputs=2,
        planned=2,
        planned_all=True,
        total_tasks=2,
        counts=dict.fromkeys(STATUSES, 0) | {"FAILED": 2},
        tallies={"crashes": 1},
        submitted_at_us=1_790_000_000_000_001,
        finished_at_us=1_790_000_000_000_002,
        deadline_us=None,
        budget_microusd=100_000,
        settled_microusd=7,
        held_microusd=0,
        actions=dict.fromkeys(ActionStatus, 0),
        wanted_microusd=3,
        archived_at_us=1_790_000_000_000_003,
    )
    return replace(made, **changes)


def filed(name: str, actions: int = 0, result: Any = None) -> Filed:
    task_id = f"{MISSION_ID}.{name}"
    opinion = Opinion(policy="rules", confidence=0.95, details={"note": "fine"})
    verdict = Verdict(decision=Decision.ACCEPT, confidence=0.95, opinions=(opinion,), judge="j", at_ms=5)
    task = TaskRecord(
        task_id=task_id,
        mission_id=MISSION_ID,
        stage="map",
        status="ACCEPTED",
        attempt=2,
        reason="",
        worker="",
        input=ODD,
        depends_on=("a", "b"),
        needed_by=("c",),
        result=result,
        has_result=True,
        state_version=1,
        proposed=(),
        actions=actions,
        feedback=("more", str(ODD["text"])),
        verdicts=(verdict,),
        spent_microusd=12,
        last_error="no \x00",
        tallies={"rejections": 1},
        planned_at_us=1,
        finished_at_us=2,
    )
    done = ActionRecord(f"{task_id}/0", ActionStatus.DONE, drive.HOOK, 3, 1, "200: ok", "", 4, 0, 5)
    return task, [replace(done, action_id=f"{task_id}/{index}") for index in range(actions)]


async def write(blobs: Blobs, tasks: Sequence[Filed], window: int = 3) -> str:
    async with Dossiers(blobs, "acme").writing(mission()) as draft:
        for start in range(0, len(tasks), window):
            await draft.add(tasks[start : start + window])
    return draft.sha256


async def opened(blobs: Blobs) -> Dossier:
    found = await Dossiers(blobs, "acme").find(MISSION_ID)
    assert found is not None
    return found


def place(root: Path) -> Path:
    return root / "acme" / "missions" / MISSION_ID[:5] / f"{MISSION_ID}.ndjson.zst"


@pytest.mark.parametrize("location", ["{}", "memory://{}"])
async def test_what_went_in_comes_out(location: str, tmp_path: Path) -> None:
    blobs = Blobs(location.format(tmp_path))
    tasks = [filed("0", result=ODD), filed("r1-0", 2), filed("1", result=None)]
    await write(blobs, tasks)
    dossier = await opened(blobs)
    assert dossier.mission == mission()
    assert await dossier.filed(0, 10) == tasks
    assert await dossier.task(f"{MISSION_ID}.r1-0") == tasks[1]
    with pytest.raises(NotFound):
        await dossier.task(f"{MISSION_ID}.7")


async def test_any_decoder_gives_plain_lines_whose_digest_was_told(tmp_path: Path) -> None:
    sha256 = await write(Blobs(str(tmp_path)), [filed(str(n), n % 3) for n in range(40)])
    plain = zstd.decompress(place(tmp_path).read_bytes())
    assert hashlib.sha256(plain).hexdigest() == sha256
    assert [line[:14] for line in plain.splitlines()] == [b'{"kind":"missi'] + [b'{"kind":"task"'] * 40


@settings(max_examples=60, deadline=None)
@given(st.data())
async def test_every_page_and_every_task_is_where_it_was(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """However frames are cut, wherever a page begins, and however much of the file its end shows."""
    names = data.draw(st.sampled_from([[], ["a", "b", "c"], ["r2-0", "r1-0"]]))
    tasks = [filed(name) for name in names]
    tasks += [
        filed(str(n), data.draw(st.integers(0, 2)), "x" * n) for n in range(data.draw(st.integers(0, 9)))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dossiers_module, "FRAME_TASKS", data.draw(st.integers(1, 4)))
        patch.setattr(dossiers_module, "FRAME_BYTES", data.draw(st.sampled_from([1, 2_000, 1 << 20])))
        patch.setattr(dossiers_module, "TAIL_BYTES", data.draw(st.sampled_from([8, 200, 1_000, 1 << 20])))
        blobs = Blobs(str(tmp_path_factory.mktemp("blobs")))
        await write(blobs, tasks, window=data.draw(st.integers(1, 5)))
        dossier = await opened(blobs)
        assert dossier.mission == mission()
        for size in (1, 3, 100):
            for at in range(len(tasks) + 2):
                assert await dossier.filed(at, size) == tasks[at : at + size]
        actions = [one for _, some in tasks for one in some]
        for at in range(len(actions) + 2):
            assert await dossier.actions(at, 2) == actions[at : at + 2]
        for one in tasks:
            assert await dossier.task(one[0].task_id) == one


async def test_one_that_breaks_off_leaves_nothing_and_the_one_before_stands(tmp_path: Path) -> None:
    blobs = Blobs(str(tmp_path))
    dossiers = Dossiers(blobs, "acme")

    async def break_off(error: type[BaseException]) -> None:
        async with dossiers.writing(mission()) as draft:
            await draft.add([filed("1")])
            raise error

    for error in (ZeroDivisionError, asyncio.CancelledError):
        with pytest.raises(error):
            await break_off(error)
    assert list((tmp_path / "acme").rglob("*zst*")) == []
    await write(blobs, [filed("0")])
    before = place(tmp_path).read_bytes()
    with pytest.raises(asyncio.CancelledError):
        await break_off(asyncio.CancelledError)
    assert [path.read_bytes() for path in (tmp_path / "acme").rglob("*zst*")] == [before]


async def test_what_a_writer_that_died_left_behind_is_no_dossier_and_is_cleared(tmp_path: Path) -> None:
    dossiers = Dossiers(Blobs(str(tmp_path)), "acme")
    await dossiers.clear_unfinished()
    await write(Blobs(str(tmp_path)), [filed("0")])
    left = place(tmp_path).with_name(f".{MISSION_ID}.ndjson.zst.00ff00ff")
    left.write_bytes(b"half")
    assert await dossiers.ids() == [MISSION_ID]
    await dossiers.clear_unfinished()
    assert not left.exists()
    assert await dossiers.ids() == [MISSION_ID]


async def test_a_place_that_cannot_be_written_or_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "missions").write_text("in the way")
    with pytest.raises(BlobsUnavailable, match="make room, or check CHIMERA_BLOB_URL"):
        await write(Blobs(str(tmp_path)), [filed("0")])
    with pytest.raises(BlobsUnavailable):
        await Dossiers(Blobs(str(tmp_path)), "acme").find(MISSION_ID)


async def test_a_damaged_one_is_named_and_nothing_of_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dossiers_module, "FRAME_TASKS", 2)
    blobs = Blobs(str(tmp_path))
    tasks = [filed(str(n)) for n in range(5)]
    await write(blobs, tasks)
    whole = place(tmp_path).read_bytes()
    size = len(whole)
    cut = [whole[:at] for at in (0, 1, size // 2, size - 1)]
    head = len(b"\x28\xb5\x2f\xfd") + 12
    flipped = [
        whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        for at in (head, size // 4, size // 2, size - 30, size - 3)
    ]
    for body in (*cut, *flipped):
        place(tmp_path).write_bytes(body)
        with pytest.raises(CorruptRecord, match=f"{MISSION_ID}.*bring it back from a copy"):
            assert await (await opened(blobs)).filed(0, 10) == []


async def test_another_missions_file_or_a_newer_versions_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = Blobs(str(tmp_path))
    await write(blobs, [filed("0")])
    other = place(tmp_path).with_name(f"{MISSION_ID[:-1]}x.ndjson.zst")
    other.write_bytes(place(tmp_path).read_bytes())
    with pytest.raises(CorruptRecord, match=f"the file of mission {MISSION_ID}"):
        await Dossiers(blobs, "acme").find(f"{MISSION_ID[:-1]}x")
    monkeypatch.setattr(dossiers_module, "VERSION", 0)
    with pytest.raises(CorruptRecord, match="update the hub"):
        await opened(blobs)


@pytest.mark.parametrize("name", ["nowhere", "", ".", "..", "../acme", "a/b", "m1\x00", "x" * 65, "m%2e"])
async def test_what_is_no_missions_id_names_no_file(name: str, tmp_path: Path) -> None:
    assert await Dossiers(Blobs(str(tmp_path)), "acme").find(name) is None


async def test_they_are_listed_newest_first_by_the_page(tmp_path: Path) -> None:
    dossiers = Dossiers(Blobs(str(tmp_path)), "acme")
    assert await dossiers.ids() == []
    ids = [
        f"m{number:020d}" for number in (*range(4), *range(10**16, 10**16 + 4), *range(10**17, 10**17 + 3))
    ]
    for mission_id in ids:
        async with dossiers.writing(mission(mission_id)):
            pass
    assert len(await Blobs(str(tmp_path)).names("acme/missions")) == 3
    newest = ids[::-1]
    assert await dossiers.ids(most=100) == newest
    for size in (1, 2, 3, 5):
        found: list[str] = []
        while page := await dossiers.ids(before=found[-1] if found else "", most=size):
            found += page
        assert found == newest
