"""Shelves: accepted tasks of a large mission leave Redis, and are read as if they had not."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chimera.core.plan import next_window
from chimera.core.shelving import BEHIND, BLOCK, most_standing
from chimera.core.verdict import Decision
from chimera.errors import Conflict, CorruptRecord, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.retention import windows
from chimera.runtime.shelver import Shelver
from chimera.store.ledger import Reservation, Settlement
from chimera.store.scripts import OldTerm
from chimera.store.tasks import HandedIn, TaskRecord
from tests.store import drive


class Leader:
    """Stands in for an elector that leads."""

    replica, term = "hub", drive.TERM


def shelver(base: Base) -> Shelver:
    """One that has just begun to lead, and waits for nobody's lease."""
    settings = base.settings.model_copy(update={"lease_s": 0.0})
    return Shelver(replace(base, settings=settings), Leader())  # type: ignore[arg-type]  # (all it asks of one)


async def begin(base: Base, tenant: str, inputs: int = BLOCK + 100, **fields: Any) -> TenantStores:
    """A large mission, planned."""
    mission = drive.spec(inputs=list(range(inputs)), **fields)
    await drive.submit(base, tenant, mission, large=True)
    assert await drive.plan(base, tenant, mission)
    return base.of(tenant)


async def work(
    stores: TenantStores, most: int = BLOCK, *, reject: tuple[int, ...] = (), escalate: tuple[int, ...] = ()
) -> None:
    """Claim tasks, hand in results, judge them."""
    claims = await drive.claim(stores, most, slots=most)
    handed = [HandedIn(one.task_id, one.token, 1, f'{{"n":{one.input_json}}}') for one in claims]
    await stores.tasks.submit("w1", handed, max_stale=5)
    said = []
    for held in await drive.review(stores, most):
        number = held.input
        decision = "reject" if number in reject else "escalate" if number in escalate else "accept"
        said.append((held, drive.verdict(decision, 0.95)))
    await stores.reviews.commit("j1", said, max_stale=5)


async def listed(stores: TenantStores) -> list[TaskRecord]:
    """All tasks, as the API lists them."""
    reading = await stores.readings.open("m1")
    found: list[TaskRecord] = []
    while page := await reading.tasks(len(found), 90):
        found += page
    return found


async def left(base: Base, tenant: str) -> int:
    """Tasks that have keys in Redis."""
    keys = base.of(tenant).tasks.keys
    found = 0
    for family in ("spec", "task", "commit", "verdicts"):
        found = max(
            found, len([key async for key in base.redis.scan_iter(keys.of(family, "*"), count=1_000)])
        )
    return found


def files(base: Base, tenant: str) -> list[Path]:
    return sorted((Path(base.settings.blob_location) / tenant / "m1").glob("tasks-*"))


async def test_what_is_shelved_leaves_redis_and_reads_as_before(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant)
    await work(stores)
    before = await listed(stores)
    assert await left(base, tenant) == BLOCK + 100
    await shelver(base).tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == 100
    assert await listed(stores) == before
    assert [one.task_id for one in before] == [f"m1.{n}" for n in range(BLOCK + 100)]
    one = await stores.tasks.get("m1.7")
    assert (one.status, one.result, len(one.verdicts)) == ("ACCEPTED", {"n": 7}, 1)
    assert (await (await stores.readings.open("m1")).task("m1.499"))[0].result == {"n": 499}
    mission = await stores.missions.get("m1")
    assert (mission.counts["ACCEPTED"], mission.counts["READY"]) == (BLOCK, 100)
    with pytest.raises(NotFound):
        await stores.tasks.get(f"m1.{BLOCK + 100}")
    with pytest.raises((Conflict, NotFound)):
        await stores.reviews.answer(
            "m1.7", "op", verdict=drive.verdict("reject", 0), by="somebody", max_stale=5
        )


async def test_the_recorder_says_what_was_shelved(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant)
    await work(stores)
    await shelver(base).tend(tenant, term=drive.TERM)
    (said,) = [e async for _, e in stores.recorder.read() if e.kind == "mission.shelved"]
    (file,) = files(base, tenant)
    assert said.details["tasks"] == BLOCK
    assert said.details["sha256"] in file.name


async def test_a_block_waits_until_nothing_of_it_is_under_way(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, 2 * BLOCK)
    await work(stores, BLOCK - 1)
    await drive.claim(stores, 1)  # the last of the first block
    await work(stores, BLOCK)
    duty = shelver(base)
    await duty.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == BLOCK
    assert {name.name[6:13] for name in files(base, tenant)} == {f"{BLOCK:07d}"}
    await stores.tasks.release("w1", "hub", died=False)
    await work(stores, 1)
    await duty.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == 0


async def accept(stores: TenantStores, most: int) -> None:
    """Claim a block of tasks, and accept all but the first of them: that one stays under its lease."""
    _, *claims = await drive.claim(stores, most, slots=most, lease_s=600)
    handed = [HandedIn(one.task_id, one.token, 1, f'{{"n":{one.input_json}}}') for one in claims]
    await stores.tasks.submit("w1", handed, max_stale=5)
    said = [(held, drive.verdict()) for held in await drive.review(stores, most)]
    await stores.reviews.commit("j1", said, max_stale=5)


async def test_while_much_stands_in_redis_blocks_do_not_wait_for_their_slow_tasks(
    base: Base, tenant: str
) -> None:
    few = replace(base, settings=base.settings.model_copy(update={"plan_window": BLOCK}))
    blocks = most_standing(BLOCK) * 3 // 4 // (BLOCK - 1) + 1
    stores = await begin(base, tenant, blocks * BLOCK)
    for _ in range(blocks - 1):
        await accept(stores, BLOCK)
    duty = shelver(few)
    await duty.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == blocks * BLOCK
    assert files(base, tenant) == []
    await accept(stores, BLOCK)
    await duty.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == blocks, "the slow ones"
    await stores.tasks.release("w1", "hub", died=False)
    await work(stores, blocks)
    await drive.end(stores)
    assert [one.result for one in await listed(stores)] == [{"n": n} for n in range(blocks * BLOCK)]


@pytest.mark.timeout(300)
async def test_what_blocks_left_behind_leaves_once_much_of_it_stands_in_redis(
    base: Base, tenant: str
) -> None:
    few = replace(base, settings=base.settings.model_copy(update={"plan_window": BLOCK}))
    asked = BLOCK - 2 * BEHIND
    blocks = most_standing(BLOCK) // 2 // asked + 1
    stores = await begin(base, tenant, blocks * BLOCK)
    late = [number for number in range(blocks * BLOCK) if number % BLOCK >= 2 * BEHIND]
    for _ in range(blocks):
        await work(stores, escalate=tuple(late))
    duty = shelver(few)
    await duty.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == len(late)
    for number in late:
        await stores.reviews.answer(
            f"m1.{number}", "op", verdict=drive.verdict("accept", 1), by="somebody", max_stale=5
        )
    before = await listed(stores)
    await duty.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == 0
    assert len(files(base, tenant)) == 2 * blocks
    assert await listed(stores) == before
    await drive.end(stores)
    await drive.archive(stores)
    assert [one.result for one in await listed(stores)] == [{"n": n} for n in range(blocks * BLOCK)]


async def test_one_lease_passes_before_a_block_leaves(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant)
    await work(stores)
    patient = Shelver(
        replace(base, settings=base.settings.model_copy(update={"lease_s": 60})),
        Leader(),  # type: ignore[arg-type]  # (all it asks of one)
    )
    await patient.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == BLOCK + 100


async def test_no_lease_passes_before_blocks_leave_while_much_stands_in_redis(
    base: Base, tenant: str
) -> None:
    settings = base.settings.model_copy(update={"lease_s": 60, "plan_window": BLOCK})
    patient = Shelver(replace(base, settings=settings), Leader())  # type: ignore[arg-type]  # (as above)
    blocks = most_standing(BLOCK) // 2 // BLOCK + 1
    stores = await begin(base, tenant, blocks * BLOCK)
    for _ in range(blocks - 1):
        await work(stores)
    await patient.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == blocks * BLOCK
    await work(stores)
    await patient.tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == 0


async def test_what_is_not_accepted_stays_and_may_be_redriven_or_answered(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, 2 * BLOCK, max_attempts=1)
    await work(stores, reject=(3, 5), escalate=(9,))
    await work(stores)
    await shelver(base).tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == 3
    await drive.end(stores)
    assert await stores.missions.redrive("m1", ["m1.3", "m1.4"], "op", by="somebody") == 1
    await work(stores)
    await stores.reviews.answer("m1.9", "op", verdict=drive.verdict("accept", 1), by="somebody", max_stale=5)
    await drive.end(stores)
    mission = await stores.missions.get("m1")
    assert (mission.status, mission.counts["ACCEPTED"], mission.counts["FAILED"]) == (
        "COMPLETED",
        2 * BLOCK - 1,
        1,
    )
    statuses = {one.task_id: one.status for one in await listed(stores)}
    assert len(statuses) == 2 * BLOCK
    assert [task for task, status in statuses.items() if status != "ACCEPTED"] == ["m1.5"]
    # A leader that comes later finds the blocks done, and does not file again what came late.
    await shelver(base).tend(tenant, term=drive.TERM)
    assert len(await listed(stores)) == 2 * BLOCK
    assert len(files(base, tenant)) == 2


async def test_a_settlement_that_comes_while_a_block_is_written_is_not_lost(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK)
    (one,) = await drive.claim(stores, 1)
    asked = Reservation("h0", one.task_id, one.token, 400, 60)
    assert await stores.ledger.reserve([asked], term=drive.TERM, by="g") == [None]
    assert await drive.hand_in(stores, one, {"n": 0}) is None
    (held,) = await drive.review(stores, 1)
    assert await drive.judge(stores, held) is None
    await work(stores)
    ready = await stores.shelf.ready("m1", 0, BLOCK, quiet_s=0)
    assert ready
    ids, _ = ready
    assert len(ids) == BLOCK
    fetched = stores.shelf.writing("m1")
    for task_id, raw in zip(ids, await stores.tasks.fetch(ids), strict=True):
        await fetched.add(task_id, raw)
    await fetched.end()
    await stores.ledger.settle([Settlement("h0", 123, "ok")], term=drive.TERM, by="g", **drive.KEEP)
    assert not await stores.shelf.shelve("m1", 0, fetched, term=drive.TERM, by="hub")
    assert await left(base, tenant) == BLOCK
    await shelver(base).tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == 0
    assert (await stores.tasks.get("m1.0")).spent_microusd == 123


async def test_files_that_no_step_noted_harm_nobody(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK)
    await work(stores)
    ready = await stores.shelf.ready("m1", 0, BLOCK, quiet_s=0)
    assert ready
    ids, _ = ready
    died = stores.shelf.writing("m1")
    for task_id, raw in zip(ids[:300], await stores.tasks.fetch(ids[:300]), strict=True):
        await died.add(task_id, raw)
    await died.end()
    assert await left(base, tenant) == BLOCK
    await shelver(base).tend(tenant, term=drive.TERM)
    assert [one.result for one in await listed(stores)] == [{"n": n} for n in range(BLOCK)]
    assert len(files(base, tenant)) == 2
    await stores.shelf.clear("m1")
    assert files(base, tenant) == []


async def test_a_leader_of_an_older_term_takes_nothing_out(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK)
    await work(stores)
    await stores.missions.settle("m1", term=drive.TERM + 1, by="newer")
    with pytest.raises(OldTerm):
        await shelver(base).tend(tenant, term=drive.TERM)
    assert await left(base, tenant) == BLOCK


async def test_large_results_are_cut_into_files_of_bounded_size(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK)
    claims = await drive.claim(stores, BLOCK, slots=BLOCK)
    long = json.dumps("x" * 20_000)
    for start in range(0, BLOCK, 100):
        handed = [HandedIn(one.task_id, one.token, 1, long) for one in claims[start : start + 100]]
        await stores.tasks.submit("w1", handed, max_stale=5)
    for _ in range(5):
        said = [(held, drive.verdict()) for held in await drive.review(stores, 100)]
        await stores.reviews.commit("j1", said, max_stale=5)
    await shelver(base).tend(tenant, term=drive.TERM)
    assert len(files(base, tenant)) == 10  # of 10 MB
    assert await left(base, tenant) == 0
    assert all(len(one.result) == 20_000 for one in await listed(stores))


async def test_whoever_reads_meanwhile_finds_every_task_whole(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, 4 * BLOCK)
    for _ in range(4):
        await work(stores)
    done = asyncio.Event()
    reads = 0

    async def read() -> None:
        nonlocal reads
        while not done.is_set():
            tasks = await stores.tasks.get_many([f"m1.{n}" for n in range(0, 4 * BLOCK, 37)])
            assert all(one.status == "ACCEPTED" and one.result and one.verdicts for one in tasks)
            reads += 1

    reading = asyncio.create_task(read())
    await shelver(base).tend(tenant, term=drive.TERM)
    done.set()
    await reading
    assert reads > 3
    assert await left(base, tenant) == 0


@pytest.mark.parametrize("harm", ["gone", "cut", "changed"])
async def test_a_file_that_is_damaged_is_named(base: Base, tenant: str, harm: str) -> None:
    stores = await begin(base, tenant)
    await work(stores)
    await shelver(base).tend(tenant, term=drive.TERM)
    (file,) = files(base, tenant)
    if harm == "gone":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    else:
        other = min(file.parent.glob("inputs-*")).read_bytes()
        file.write_bytes(other)
    with pytest.raises(CorruptRecord, match=r"tasks-0000000"):
        await stores.tasks.get("m1.7")
    assert (await stores.tasks.get(f"m1.{BLOCK}")).status == "READY"


async def test_a_mission_that_ends_early_sweeps_and_revives_its_numbered_tasks(
    base: Base, tenant: str
) -> None:
    stores = await begin(base, tenant, 2 * BLOCK, max_attempts=1, on_task_failure="stop")
    await work(stores)
    await shelver(base).tend(tenant, term=drive.TERM)
    await work(stores, 10, reject=(BLOCK,))
    await drive.end(stores)
    mission = await stores.missions.get("m1")
    assert (mission.status, mission.reason) == ("FAILED", "task_failed")
    assert mission.counts["CANCELLED"] == BLOCK - 10
    assert await stores.missions.redrive("m1", [f"m1.{BLOCK}"], "op", by="somebody") == 1
    while await stores.missions.revive("m1", term=drive.TERM, by="hub"):
        pass
    await work(stores)
    await drive.end(stores)
    mission = await stores.missions.get("m1")
    assert (mission.status, mission.counts["ACCEPTED"]) == ("COMPLETED", 2 * BLOCK)
    await shelver(base).tend(tenant, term=drive.TERM)
    assert [one.result["n"] for one in await listed(stores)] == list(range(2 * BLOCK))


async def test_an_archived_mission_takes_its_shelf_along(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, 2 * BLOCK)
    for _ in range(2):
        await work(stores)
    await shelver(base).tend(tenant, term=drive.TERM)
    await drive.end(stores)
    before = await listed(stores)
    reading = await stores.readings.open("m1")  # begun before it is archived
    mark, sha256 = await drive.write(stores)
    assert await stores.pruning.prune("m1", mark, sha256=sha256, term=drive.TERM, by="hub", most=10)
    await stores.shelf.clear("m1")
    assert await reading.tasks(0, 2 * BLOCK) == before
    while await stores.pruning.prune("m1", mark, term=drive.TERM, by="hub", most=500):
        pass
    assert await listed(stores) == before
    keys = [key async for key in base.redis.scan_iter(f"{stores.tasks.keys.root}*m1*", count=1_000)]
    assert keys == []
    assert await stores.shelf.standings() == []


async def test_windows_of_a_mission_come_from_the_shelf_too(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK)
    await work(stores)
    await shelver(base).tend(tenant, term=drive.TERM)
    mission = await stores.missions.get("m1")
    found = [task for window in [w async for w in windows(stores, mission)] for task, _ in window]
    assert [task.result for task in found] == [{"n": n} for n in range(BLOCK)]
    assert {one.decision for task in found for one in task.verdicts} == {Decision.ACCEPT}


async def test_redis_keeps_as_much_of_four_blocks_as_of_twenty_four(base: Base, tenant: str) -> None:
    """Memory of a mission under way does not grow with what is done of it: less than one byte a task."""
    blocks = 24
    mission = drive.spec(inputs=list(range(blocks * BLOCK)))
    await drive.submit(base, tenant, mission, large=True)
    stores = base.of(tenant)
    duty = shelver(base)
    taken: list[int] = []
    for block in range(blocks):
        items = mission.inputs[block * BLOCK : (block + 1) * BLOCK]
        part = next_window(mission, items, cursor=block * BLOCK, inputs=blocks * BLOCK, width=20)
        assert await stores.missions.plan("m1", part, cursor=block * BLOCK, term=drive.TERM, by="test")
        await work(stores)
        await duty.tend(tenant, term=drive.TERM)
        root = stores.tasks.keys.root
        keys = [
            key
            async for key in base.redis.scan_iter(f"{root}*", count=1_000)
            if not key.startswith(f"{root}r:")  # the recorder is the archivist's to bound
        ]
        taken.append(sum([await base.redis.memory_usage(key, samples=0) for key in keys]))
    assert (taken[-1] - taken[3]) / ((blocks - 4) * BLOCK) < 1, taken
    assert taken[-1] < 150_000, taken
    assert await left(base, tenant) == 0
