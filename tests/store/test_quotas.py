"""Quotas: what a tenant may have at most holds inside the scripts, over any number of callers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping

import pytest

from chimera.core.tenant import Quota
from chimera.errors import InvalidRequest, NotFound, QuotaReached
from chimera.runtime.base import Base
from chimera.runtime.planner import LEAST, Planner
from chimera.settings import Settings
from chimera.store.rates import Rates
from chimera.store.tasks import Ended
from tests.store import drive


async def allow(base: Base, tenant: str, operation: str = "", **changes: float | None) -> Quota:
    return await base.tenants.set_quota(tenant, changes, operation or uuid.uuid4().hex, by="test")


async def test_a_quota_has_the_fleets_defaults_until_it_says_otherwise(base: Base, tenant: str) -> None:
    default = base.settings.tenant_quota
    assert await base.tenants.quota(tenant) == default
    quota = await allow(base, tenant, max_agents=3, weight=2)
    assert quota == default.model_copy(update={"max_agents": 3, "weight": 2})
    found = await base.tenants.records([tenant, "nobody"])
    assert {name: one.quota for name, one in found.items()} == {tenant: quota, "nobody": default}
    assert await allow(base, tenant, max_agents=None) == default.model_copy(update={"weight": 2})
    events = [event async for _, event in base.of(tenant).recorder.read()]
    assert [event.kind for event in events] == ["quota.set", "quota.set"]
    assert [event.details for event in events] == [{"max_agents": 3, "weight": 2}, {"max_agents": "default"}]


async def test_a_quota_is_set_once_for_an_operation(base: Base, tenant: str) -> None:
    await allow(base, tenant, "a", weight=2)
    await allow(base, tenant, "b", weight=3)
    assert (await allow(base, tenant, "a", weight=2)).weight == 3


@pytest.mark.parametrize("changes", [{"max_agents": -1}, {"weight": 0}, {"colour": 3}, {"burst": 1.5}])
async def test_an_impossible_quota_is_refused_whole(
    base: Base, tenant: str, changes: Mapping[str, float]
) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(changes))):
        await base.tenants.set_quota(tenant, {"max_ready": 7, **changes}, "o", by="test")
    assert await base.tenants.quota(tenant) == base.settings.tenant_quota


async def test_nobody_has_a_quota_who_is_no_tenant(base: Base) -> None:
    with pytest.raises(NotFound, match="chimera tenant list"):
        await allow(base, "stranger", weight=2)


# max_agents


async def test_no_more_than_max_agents_are_under_lease_however_many_workers_ask(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(40)), priority="high"))
    await allow(base, tenant, max_agents=7)
    claims = await asyncio.gather(*(drive.claim(stores, 5, worker=f"w{n}") for n in range(6)))
    assert sum(map(len, claims)) == 7
    first = next(claim for mine in claims for claim in mine)
    await stores.tasks.end("w0", [Ended(first.task_id, first.token, "return")])
    assert len(await drive.claim(stores, 5)) == 1


async def test_the_last_place_of_a_quota_is_for_high_priority(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(9)), priority="low"))
    await allow(base, tenant, max_agents=4)
    assert len(await drive.claim(stores, 9)) == 3
    await drive.begin(base, tenant, drive.spec(inputs=[1, 2], priority="high"), "m2")
    assert [one.mission_id for one in await drive.claim(stores, 9)] == ["m2"]


async def test_a_quota_of_one_serves_any_priority(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(priority="low"))
    await allow(base, tenant, max_agents=1)
    assert len(await drive.claim(stores, 9)) == 1


async def test_the_fleets_default_binds_a_tenant_without_a_quota_of_its_own(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(priority="high"))

    async def claim(name: str) -> int:
        got = await stores.tasks.claim("w", name, lease_s=5, general=9, high=9, slots=9, max_agents=2)
        return len(got)

    assert await claim("a") == 2
    await allow(base, tenant, max_agents=3)
    assert await claim("b") == 1
    await allow(base, tenant, max_agents=0)
    await drive.begin(base, tenant, drive.spec(inputs=[1, 2]), "m2")
    assert await claim("c") == 2


async def test_workers_at_their_quota_do_not_wake_each_other(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(9))))
    await allow(base, tenant, max_agents=2)
    await base.redis.zadd(stores.tasks.keys.workers, {"w1": 9e15, "w2": 9e15})
    await base.redis.delete(stores.tasks.keys.bell)
    assert len(await drive.claim(stores, 5)) == 1
    await base.redis.delete(stores.tasks.keys.bell)
    assert await drive.claim(stores, 5, worker="w2") == []
    assert await base.redis.llen(stores.tasks.keys.bell) == 1, "what woke it may be for another"
    await base.redis.delete(stores.tasks.keys.bell)
    for _ in range(3):
        assert await drive.claim(stores, 5, worker="w2") == []
    assert await base.redis.llen(stores.tasks.keys.bell) == 0


# max_ready


async def test_a_mission_is_refused_while_max_ready_tasks_are_unfinished(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3]))
    await allow(base, tenant, max_ready=3)
    said = f"3 unfinished tasks, its quota allows 3: .* set {tenant} --max-ready"
    with pytest.raises(QuotaReached, match=said):
        await drive.submit(base, tenant, drive.spec(), "m2", idempotency_key="key")
    await drive.finish(stores, 1)
    assert await stores.missions.unfinished() == 2
    # What was refused is not remembered under its key.
    assert await drive.submit(base, tenant, drive.spec(), "m3", idempotency_key="key") == "m3"


async def test_a_mission_that_was_taken_answers_again_though_the_quota_is_reached(
    base: Base, tenant: str
) -> None:
    await allow(base, tenant, max_ready=3)
    mission = drive.spec(inputs=[1, 2, 3])
    await drive.submit(base, tenant, mission, idempotency_key="key")
    await drive.plan(base, tenant, mission)
    assert await drive.submit(base, tenant, mission, "m2", idempotency_key="key") == "m1"


async def test_unfinished_tasks_are_counted_through_every_end(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3, 4], max_attempts=1))
    missions = stores.missions
    assert await missions.unfinished() == 4
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error")])
    assert await missions.unfinished() == 3
    (two,) = await drive.claim(stores)
    await drive.hand_in(stores, two)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    assert await missions.unfinished() == 2, "what waits for a human is not the fleet's to do"
    await missions.redrive("m1", [one.task_id], "r", by="test")
    assert await missions.unfinished() == 3
    await missions.cancel("m1", by="test", reason="")
    await drive.end(stores)
    assert await missions.unfinished() == 0


async def planned(base: Base, tenant: str, mission_id: str) -> int:
    await Planner(base).plan(tenant, mission_id, term=drive.TERM, by="test")
    return (await base.of(tenant).missions.get(mission_id)).planned


async def test_the_planner_keeps_to_max_ready_and_starves_no_mission(base: Base, tenant: str) -> None:
    await allow(base, tenant, max_ready=300)
    for name in ("m1", "m2"):
        await drive.submit(base, tenant, drive.spec(inputs=list(range(1_000))), name)
    assert await planned(base, tenant, "m1") == 300
    assert await planned(base, tenant, "m2") == LEAST
    stores = base.of(tenant)
    await drive.finish(stores, 150)
    missions = {name: await planned(base, tenant, name) for name in ("m1", "m2")}
    assert await stores.missions.unfinished() <= 300 + LEAST
    assert missions["m2"] > LEAST


# Requests


async def test_gateways_share_one_bucket(base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=0.01, burst=20)
    gateways = [Rates(base.redis, f"g{n}", Quota()) for n in range(4)]
    takes = await asyncio.gather(*(g.take(tenant, uuid.uuid4().hex, 7) for g in gateways for _ in range(4)))
    assert sum(one.count for one in takes) == 20
    refused = [one for one in takes if not one.count]
    assert refused
    assert all(0 < one.wait_s <= 100 and one.per_s == 0.01 for one in refused)


async def test_a_bucket_fills_with_time_up_to_its_burst(base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=1, burst=5)
    rates, bucket = Rates(base.redis, "g", Quota()), base.of(tenant).tasks.keys.bucket
    assert (await rates.take(tenant, "a", 9)).count == 5
    await base.redis.hincrby(bucket, "full_at", -2_000_000)  # two seconds later
    assert (await rates.take(tenant, "b", 9)).count == 2
    await base.redis.hincrby(bucket, "full_at", -3_600_000_000)
    assert (await rates.take(tenant, "c", 9)).count == 5


async def test_a_take_that_comes_again_answers_the_same_and_takes_nothing(base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=1, burst=5)
    rates = Rates(base.redis, "g", Quota())
    first = await rates.take(tenant, "a", 3)
    assert await rates.take(tenant, "a", 3) == first
    assert (await rates.take(tenant, "b", 9)).count == 2


async def test_no_rate_is_no_bound(base: Base, tenant: str, settings: Settings) -> None:
    await allow(base, tenant, requests_per_s=0)
    taken = await Rates(base.redis, "g", settings.tenant_quota).take(tenant, "a", 1_000_000)
    assert (taken.count, taken.per_s) == (1_000_000, 0)
