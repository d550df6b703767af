"""A mission reads the same in Redis, while it is pruned, and from its dossier."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from chimera.errors import CorruptRecord, InvalidTransition, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.store.readings import Reading, Readings
from chimera.store.results import Accepted
from tests.store import drive

PLAN = {"strategy": "map_reduce", "width": 2}


async def finished(base: Base, tenant: str, inputs: int = 4) -> TenantStores:
    """A tree of tasks, accepted with an action each, but for the last inputs', which wait for nothing."""
    mission = drive.spec(inputs=list(range(inputs)), plan=PLAN)
    stores = await drive.begin(base, tenant, mission)
    for _ in range(4):
        for one in await drive.claim(stores, 10):
            await drive.hand_in(stores, one, {"of": one.task_id}, actions=[drive.HOOK])
        for held in await drive.review(stores):
            await drive.judge(stores, held)
    while errands := await drive.errands(stores):
        for errand in errands:
            await drive.report(stores, errand)
    await drive.end(stores)
    return stores


async def all_of(reading: Reading) -> Any:
    """Everything that can be read of it, in pages of three."""
    tasks, actions, at = [], [], 0
    while page := await reading.tasks(at, 3):
        tasks += page
        at += len(page)
    at = 0
    while done := await reading.actions(at, 3):
        actions += done
        at += len(done)
    each = [await reading.task(task.task_id) for task in tasks]
    results = await reading.results([task.task_id for task in tasks])
    return tasks, sorted(actions, key=lambda one: one.action_id), each, results, await results_of(reading)


async def results_of(reading: Reading, after: int = 0) -> list[Accepted]:
    """Its accepted results from a position on."""
    found: list[Accepted] = []
    following: int | None = after
    while following is not None:
        batch = await reading.accepted(following)
        found += batch.results
        following = batch.following
    return found


async def test_it_reads_the_same_once_it_is_pruned(base: Base, tenant: str) -> None:
    stores = await finished(base, tenant)
    before = await stores.readings.open("m1")
    seen = await all_of(before)
    assert [len(part) for part in seen] == [7, 7, 7, 7, 7]
    await drive.archive(stores)
    after = await stores.readings.open("m1")
    assert await all_of(after) == seen
    assert after.mission.archived
    assert replace(after.mission, archived_at_us=0) == before.mission
    assert await all_of(before) == seen, "and for whoever had opened it before"


@pytest.mark.parametrize("most", [1, 2, 100])
async def test_it_reads_the_same_at_each_step_of_the_pruning(most: int, base: Base, tenant: str) -> None:
    stores = await finished(base, tenant)
    seen = await all_of(await stores.readings.open("m1"))
    mark, sha256 = await drive.write(stores)
    left: int | None = 1
    while left:
        left = await stores.pruning.prune("m1", mark, sha256=sha256, term=drive.TERM, by="hub", most=most)
        assert await all_of(await stores.readings.open("m1")) == seen


READS: dict[str, Callable[[Reading], Awaitable[Any]]] = {
    "tasks": lambda reading: reading.tasks(1, 4),
    "the last tasks": lambda reading: reading.tasks(5, 100),
    "actions": lambda reading: reading.actions(0, 100),
    "a task": lambda reading: reading.task("m1.r1-1"),
    "results": lambda reading: reading.results(["m1.0", "m1.1"]),
    "accepted": lambda reading: results_of(reading, 1),
}


@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("step", range(6))
@pytest.mark.parametrize("most", [1, 4, 100])
async def test_a_reading_that_is_overtaken_by_the_pruning_gives_the_same(
    what: str, step: int, most: int, base: Base, tenant: str
) -> None:
    """Before and behind each call of the reader's, a batch is pruned, or all of it."""
    stores = await finished(base, tenant)
    expected = await READS[what](await stores.readings.open("m1"))
    mark, sha256 = await drive.write(stores)
    passed = 0

    async def prune() -> None:
        nonlocal passed
        if passed >= step:
            await stores.pruning.prune("m1", mark, sha256=sha256, term=drive.TERM, by="hub", most=most)
        passed += 1

    missions: Any = Overtaken(stores.missions, prune)
    tasks: Any = Overtaken(stores.tasks, prune)
    actions: Any = Overtaken(stores.actions, prune)
    accepted: Any = Overtaken(stores.readings.results, prune)
    overtaken = Readings(missions, tasks, actions, accepted, stores.dossiers)
    found = await READS[what](Reading(overtaken, await stores.missions.get("m1")))
    if what == "actions":
        found, expected = (sorted(one, key=lambda action: action.action_id) for one in (found, expected))
    assert found == expected


class Overtaken:
    """A store, around each of whose calls something else happens."""

    def __init__(self, store: Any, happens: Callable[[], Awaitable[None]]) -> None:
        self._store, self._happens = store, happens

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._happens()
            answer = await getattr(self._store, name)(*args, **kwargs)
            await self._happens()
            return answer

        return call


async def test_a_missing_task_is_missed_before_and_after(base: Base, tenant: str) -> None:
    stores = await finished(base, tenant)
    for _ in range(2):
        reading = await stores.readings.open("m1")
        with pytest.raises(NotFound, match=r"m1\.9"):
            await reading.task("m1.9")
        if not reading.mission.archived:
            await drive.archive(stores)
    with pytest.raises(NotFound, match="nowhere"):
        await stores.readings.open("nowhere")


async def test_a_damaged_dossier_is_said_and_not_taken_for_a_missing_one(base: Base, tenant: str) -> None:
    stores = await finished(base, tenant)
    await drive.archive(stores)
    await base.blobs.write(f"{tenant}/missions/m1/m1.ndjson.zst", b"other")
    with pytest.raises(CorruptRecord, match=r"m1\.ndjson\.zst"):
        await stores.readings.mission("m1")


async def test_changing_it_says_when_it_ended_and_was_archived(base: Base, tenant: str) -> None:
    stores = await finished(base, tenant)
    await drive.archive(stores)
    said = r"m1 ended 20\d\d-\d\d-\d\d \d\d:\d\dZ and was archived 20.*submit it anew"
    with pytest.raises(InvalidTransition, match=said):
        async with stores.readings.changing("m1"):
            await stores.missions.redrive("m1", ["m1.0"], "o", by="t")
    with pytest.raises(NotFound):
        async with stores.readings.changing("m2"):
            await stores.missions.redrive("m2", ["m2.0"], "o", by="t")


async def test_the_list_of_the_archived_is_of_those_that_are_not_in_redis(base: Base, tenant: str) -> None:
    for number in range(1, 6):
        await drive.over(base, tenant, f"m{number}", inputs=1)
    stores = base.of(tenant)
    for number in (1, 2, 4):
        await drive.archive(stores, f"m{number}")
    await drive.write(stores, "m3")  # and then its leader died: it is in Redis, whole
    found: list[str] = []
    while page := await stores.readings.archived(before=found[-1] if found else "", most=2):
        found += page
        assert len(page) <= 2
    assert found == ["m4", "m2", "m1"]
    assert await stores.missions.list_ids() == ["m5", "m3"]
