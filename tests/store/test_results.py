"""Accepted results, many at a time: the same wherever they lie, in batches of bounded size."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chimera.core.shelving import BLOCK
from chimera.errors import CorruptRecord
from chimera.runtime.base import Base, TenantStores
from chimera.store.results import MOST_BYTES, Accepted, ResultStore
from chimera.store.shelves import Shelf
from chimera.store.tasks import HandedIn
from tests.store import drive
from tests.store.test_readings import results_of
from tests.store.test_shelves import begin, files, shelver, work


async def read(stores: TenantStores, after: int = 0) -> list[Accepted]:
    return await results_of(await stores.readings.open("m1"), after)


async def do(stores: TenantStores, results: list[str]) -> None:
    """Claim as many tasks, hand in these results (JSON), accept them; a hundred in a call."""
    for start in range(0, len(results), 100):
        some = results[start : start + 100]
        claims = await drive.claim(stores, len(some), slots=1_000)
        handed = [
            HandedIn(one.task_id, one.token, 1, result) for one, result in zip(claims, some, strict=True)
        ]
        await stores.tasks.submit("w1", handed, max_stale=5)
        said = [(held, drive.verdict()) for held in await drive.review(stores, 100)]
        await stores.reviews.commit("j1", said, max_stale=5)


async def test_they_are_the_same_in_redis_on_the_shelf_and_in_the_dossier(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, 2 * BLOCK, max_attempts=1)
    await work(stores, reject=(3, 5), escalate=(9,))
    await work(stores)
    here = await read(stores)
    accepted = [number for number in range(2 * BLOCK) if number not in {3, 5, 9}]
    assert [one.position for one in here] == accepted
    for one in here:
        task = await stores.tasks.get(one.task_id)
        assert (json.loads(one.result), one.attempt, one.stage) == (task.result, task.attempt, task.stage)
        assert (one.finished_at_us, one.state_version) == (task.finished_at_us, task.state_version)
        assert json.loads(one.verdict or "") == task.verdicts[-1].model_dump(mode="json")
        assert one.confidence == 0.95
    await shelver(base).tend(tenant, term=drive.TERM)
    assert await read(stores) == here
    assert await read(stores, 7) == here[5:]
    await stores.reviews.answer("m1.9", "op", verdict=drive.verdict("accept", 1), by="somebody", max_stale=5)
    late = await read(stores)  # one that is in Redis amid those on the shelf
    assert [one for one in late if one.position != 9] == here
    await drive.end(stores)
    await drive.archive(stores)
    assert await read(stores) == late


async def test_each_file_of_the_shelf_is_read_once_for_all_of_its_results(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, 3 * BLOCK)
    await do(stores, [json.dumps("x" * 4_000)] * (3 * BLOCK))
    await shelver(base).tend(tenant, term=drive.TERM)
    blobs = Counted(base.blobs)
    results = ResultStore(base.redis, tenant, Shelf(base.redis, blobs, tenant))  # type: ignore[arg-type]  # (all it asks of one)
    stores.readings.results = results
    assert len(await read(stores)) == 3 * BLOCK
    assert sorted(blobs.paths) == sorted(str(path)[-len(blobs.paths[0]) :] for path in files(base, tenant))


async def test_one_task_of_a_block_of_many_files_costs_one_read(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK)
    await do(stores, [json.dumps("x" * 20_000)] * BLOCK)
    await shelver(base).tend(tenant, term=drive.TERM)
    assert len(files(base, tenant)) == 10
    for number in (0, 99, 250, 499):
        blobs = Counted(base.blobs)
        shelf = Shelf(base.redis, blobs, tenant)  # type: ignore[arg-type]  # (all it asks of one)
        assert list(await shelf.find([f"m1.{number}"])) == [f"m1.{number}"]
        assert len(blobs.paths) == 1


@pytest.mark.parametrize("where", ["in Redis", "on the shelf", "on the shelf with gaps"])
async def test_a_batch_of_large_results_is_bounded_by_its_bytes(where: str, base: Base, tenant: str) -> None:
    stores = await begin(base, tenant, BLOCK, max_attempts=1)
    long = json.dumps("x" * 50_000)
    if where.endswith("gaps"):
        await work(stores, BLOCK, reject=tuple(range(0, BLOCK, 2)))
        await drive.end(stores)
        redriven = [f"m1.{number}" for number in range(0, 200, 2)]
        await stores.missions.redrive("m1", redriven, "op", by="somebody")
        await do(stores, [long] * len(redriven))
        expected = 100 + BLOCK // 2
    else:
        await do(stores, [long] * BLOCK)
        expected = BLOCK
    if where != "in Redis":
        await shelver(base).tend(tenant, term=drive.TERM)
    reading = await stores.readings.open("m1")
    found, following, most = 0, 0, 0
    while following is not None:
        batch = await reading.accepted(following)
        found += len(batch.results)
        most = max(most, sum(len(one.result) for one in batch.results))
        following = batch.following  # type: ignore[assignment]  # (the loop ends with it)
    assert found == expected
    assert most <= MOST_BYTES + len(long) * 25  # a file more, of the shelf


@pytest.mark.parametrize(
    ("text", "value"),
    [('{"a":\n 1}', {"a": 1}), ("[1,\r2]", [1, 2]), ("NaN", None), ('{"n": 123456789012345678901}', None)],
)
async def test_a_result_is_one_line_of_json_whoever_wrote_it(
    text: str, value: Any, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    await do(stores, [text])
    (one,) = await read(stores)
    assert one.result.splitlines() == [one.result]
    assert json.loads(one.result) == (value if "123" not in text else {"n": 123456789012345678901})


async def test_a_result_that_is_damaged_is_said(base: Base, tenant: str) -> None:
    stores = await drive.over(base, tenant)
    await base.redis.hset(stores.tasks.keys.of("commit", "m1.1"), "result", '{"n": ')
    with pytest.raises(CorruptRecord):
        await read(stores)


async def test_a_task_that_is_nowhere_is_named(base: Base, tenant: str) -> None:
    stores = await begin(base, tenant)
    await work(stores)
    await base.redis.delete(stores.tasks.keys.of("task", "m1.7"))
    with pytest.raises(CorruptRecord, match=r"m1\.7"):
        await read(stores)


class Counted:
    """A blob store, and what was read of it."""

    def __init__(self, blobs: Any) -> None:
        self._blobs = blobs
        self.paths: list[str] = []

    async def read(self, path: str) -> bytes:
        self.paths.append(path)
        return bytes(await self._blobs.read(path))
