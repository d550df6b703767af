"""Too much is refused at the door: 429, and when to come back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from chimera.client import Client
from chimera.core.tenant import Quota
from chimera.errors import QuotaReached, RateLimited
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.gateway.throttle import KEEP_S, Throttle
from tests.serving.gateway.conftest import MISSION, Fleet, submitted
from tests.store.test_quotas import allow


async def admitted(throttles: list[Throttle], tenant: str, asks: int) -> int:
    """How many of so many requests through each gateway pass."""
    answers = await asyncio.gather(
        *(one.admit(tenant) for one in throttles for _ in range(asks)), return_exceptions=True
    )
    assert all(answer is None or isinstance(answer, RateLimited) for answer in answers)
    return sum(answer is None for answer in answers)


async def test_a_tenants_rate_holds_over_several_gateways(base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=0.01, burst=30)
    gateways = [Throttle(base.redis, Quota()) for _ in range(3)]
    assert await admitted(gateways, tenant, 40) == 30
    # And no other tenant pays for it.
    assert await admitted(gateways, f"{tenant}-other", 40) == 120


async def test_a_request_seldom_costs_a_round_trip_of_its_own(base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=10_000, burst=10_000)
    throttle = Throttle(base.redis, Quota())

    async def calls() -> int:
        stats = await base.redis.info("commandstats")
        return int(stats.get("cmdstat_evalsha", {}).get("calls", 0))

    await throttle.admit(tenant)
    before = await calls()
    for _ in range(1_000):
        await throttle.admit(tenant)
    assert await calls() - before <= 3


async def test_who_is_refused_asks_redis_no_more_until_it_is_time(base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=0.01, burst=1)
    throttle = Throttle(base.redis, Quota())
    await throttle.admit(tenant)
    with pytest.raises(RateLimited, match=r"more than 0.01 requests a second") as refused:
        await throttle.admit(tenant)
    assert 90 < refused.value.retry_after_s <= 100
    await base.redis.delete(base.of(tenant).tasks.keys.bucket)
    with pytest.raises(RateLimited):
        await throttle.admit(tenant)


async def test_what_a_gateway_took_and_did_not_spend_is_thrown_away(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await allow(base, tenant, requests_per_s=100, burst=100)
    throttle, now = Throttle(base.redis, Quota()), 1_000.0
    monkeypatch.setattr("chimera.serving.gateway.throttle.time.monotonic", lambda: now)
    for _ in range(3):
        await throttle.admit(tenant)
    await allow(base, tenant, requests_per_s=0.001, burst=1)
    await base.redis.hset(base.of(tenant).tasks.keys.bucket, "full_at", 9 * 10**15)
    await throttle.admit(tenant)  # of what it took
    now += KEEP_S
    with pytest.raises(RateLimited):
        await throttle.admit(tenant)


async def test_the_refusal_is_a_problem_with_retry_after(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await allow(base, tenant, requests_per_s=0.01, burst=2)
    answers = [await http.get("/v1/spend") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    problem = answers[-1].json()
    assert problem["type"] == "urn:chimera:problem:rate-limited"
    assert 50 < problem["retry_after_s"] <= 100
    assert answers[-1].headers["retry-after"] == str(math.ceil(problem["retry_after_s"]))
    assert f"chimera tenant set {tenant} --requests-per-s N" in problem["detail"]
    assert (await http.get("/healthz")).status_code == 200, "probes are nobody's requests"


async def test_a_mission_over_max_ready_is_refused_and_leaves_nothing(
    http: httpx.AsyncClient, base: Base, tenant: str, fleet: Fleet
) -> None:
    await fleet.plan(await submitted(http))
    await allow(base, tenant, max_ready=2)
    answer = await http.post("/v1/missions", json=MISSION)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "5")
    assert answer.json()["type"] == "urn:chimera:problem:quota-reached"
    assert len((await http.get("/v1/missions")).json()["items"]) == 1
    await fleet.work()
    assert (await http.post("/v1/missions", json=MISSION)).status_code == 429, "in review is not done"


@pytest.fixture
async def patient(app: FastAPI, key: str) -> AsyncIterator[Client]:
    async with Client("http://hub:1", key, transport=httpx.ASGITransport(app)) as client:
        yield client


async def test_the_client_waits_as_long_as_it_is_told_and_goes_on(
    patient: Client, base: Base, tenant: str
) -> None:
    await allow(base, tenant, requests_per_s=20, burst=1)
    for _ in range(4):
        await patient.spend()


async def test_the_client_leaves_a_long_wait_to_its_caller(patient: Client, base: Base, tenant: str) -> None:
    await allow(base, tenant, requests_per_s=0.01, burst=1)
    await patient.spend()
    async with asyncio.timeout(5):
        with pytest.raises(RateLimited) as refused:
            await patient.spend()
    assert 90 < refused.value.retry_after_s <= 100


async def test_the_client_gives_up_a_full_quota_after_its_tries(
    key: str, base: Base, tenant: str, fleet: Fleet, http: httpx.AsyncClient
) -> None:
    await fleet.plan(await submitted(http))
    await allow(base, tenant, max_ready=1)
    transport = httpx.ASGITransport(create_app(Hub(base)))
    async with Client("http://hub:1", key, retries=0, transport=transport) as client:
        with pytest.raises(QuotaReached, match="unfinished tasks"):
            await client.submit(MISSION)
