"""One tenant's damage is its own: every service of the hub goes on for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.errors import StoreTimeout, StoreUnavailable
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import AT_ONCE, Bulkhead
from chimera.runtime.controller import FleetController
from chimera.runtime.elector import Elector
from chimera.store import keys
from chimera.store.signals import Wakeups
from chimera.store.tenants import TenantRecord
from tests.runtime.fleet import registry, running
from tests.runtime.test_fleet import echo, spend
from tests.store import drive

DAMAGED = [
    ("leases", "a list where a sorted set should be"),
    ("dirty", "a list where a set should be"),
    ("review", "a string where a list should be"),
    ("requests", "a string where a list should be"),
    ("high", "a string where a sorted set should be"),
    ("workers", "a string where a sorted set should be"),
    ("pulse", "a string where a hash should be"),
    ("holds", "a string where a sorted set should be"),
    ("active", "a string where a sorted set should be"),
    ("fallen", "a string where a list should be"),
    ("revive", "a string where a set should be"),
    ("sweep", "a string where a set should be"),
]


@pytest.fixture
async def damaged(base: Base, tenant: str) -> AsyncIterator[str]:
    """A tenant that is looked at before the healthy one, and none of whose keys can be read."""
    name = f"a-{tenant}"
    await base.tenants.add(name)
    for key, what in DAMAGED:
        await base.redis.set(getattr(base.of(name).tasks.keys, key), what)
    yield name
    await base.tenants.remove(name)


async def test_a_tenant_whose_keys_are_damaged_keeps_no_other_from_its_work(
    base: Base, tenant: str, damaged: str
) -> None:
    with capture_logs() as logs:
        async with running(base, tenant, registry(spend=spend)) as fleet:
            await fleet.submit(drive.spec(agent="spend", inputs=list(range(20))))
            mission = await fleet.rest()
            assert (mission.status, mission.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 20)
            async with asyncio.timeout(10):
                while len(complaints(logs)) < 5:  # noqa: ASYNC110 (nothing tells of it)
                    await asyncio.sleep(0.05)  # each comes to it in its turn
            await asyncio.sleep(1)  # and again, many times
    assert {line["tenant"] for line in complaints(logs)} == {damaged}
    # Each says it once, not four times a second.
    assert sorted(line["service"] for line in complaints(logs)) == [
        "fleet controller",
        "governor",
        "judge",
        "orchestrator",
        "rescuer",
    ]


def complaints(logs: Sequence[Any]) -> list[Any]:
    return [line for line in logs if line["event"] == "tenant.damaged"]


async def test_the_rescuer_serves_those_behind_a_damaged_tenant(
    base: Base, tenant: str, damaged: str
) -> None:
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def freezes(task: Task, ctx: Context) -> Any:
        if not frozen.is_set():
            frozen.set()
            await thaw.wait()
        return "done"

    async with running(base, tenant, registry(freezes=freezes)) as fleet:
        await fleet.submit(drive.spec(agent="freezes", inputs=["x"]))
        await frozen.wait()
        await fleet.workers.fall_silent(fleet.workers.started[0])
        assert (await fleet.rest()).tallies == {"crashes": 1}
        thaw.set()


@pytest.mark.parametrize("field", ["spec", "context", "inputs", "planned"])
async def test_a_damaged_mission_keeps_no_other_of_its_tenant_from_its_end(
    field: str, base: Base, tenant: str
) -> None:
    await drive.submit(base, tenant, drive.spec(), "a-damaged")
    await base.redis.hset(base.of(tenant).missions.keys.of("mission", "a-damaged"), field, "{no such thing")
    with capture_logs() as logs:
        async with running(base, tenant, registry(echo=echo)) as fleet:
            await fleet.submit(drive.spec())
            assert (await fleet.rest()).status is MissionStatus.COMPLETED
    said = [line for line in logs if line["event"] == "mission.damaged"]
    assert {line["mission_id"] for line in said} == {"a-damaged"}
    assert len(said) == len({line["service"] for line in said}), "once"


async def test_a_result_whose_mission_cannot_be_read_goes_to_a_human(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (one,) = await drive.claim(stores, 1)
    await drive.hand_in(stores, one)
    await base.redis.hset(stores.missions.keys.of("mission", "m1"), "spec", "{no such thing")
    async with running(base, tenant, registry(echo=echo)):
        async with asyncio.timeout(20):
            while (await stores.tasks.get("m1.0")).status != "ESCALATED":  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)  # the mission itself can no longer be watched
    task = await stores.tasks.get("m1.0")
    assert (task.reason, task.tallies["judge_errors"]) == ("judge_failed", 3)
    assert "cannot be read" in task.last_error


@pytest.mark.parametrize(
    "garbage",
    [
        "no JSON",
        "[]",
        '{"do": "reserve", "hold": "h", "from": "w", "task": "m1.0", "token": 1, "amount": -5, "ttl_s": 1}',
        '{"do": "reserve", "hold": "h", "from": "w", "task": "m1.0", "token": 1, "amount": 5, "ttl_s": 1e99}',
        '{"do": "settle", "hold": "h", "from": "w", "cost": "much", "charge": ""}',
        '{"do": "give", "hold": "h", "from": "w"}',
        '{"do": "settle"}',
        '{"do": "settle", "hold": "h", "cost": true, "charge": "", "round": 0, "call": "", "reply": ""}',
        '{"do": "settle", "hold": "h", "cost": NaN, "charge": "", "round": 0, "call": "", "reply": ""}',
        '{"do": "settle", "hold": "h", "cost": -1e99, "charge": "", "round": 0, "call": "", "reply": ""}',
        '{"do": "reserve", "id": "h", "from": "w", "task": "m1.0", "token": true, "amount": 5, "ttl_s": 1}',
        '{"do": "reserve", "id": "h", "from": "w", "task": "m1.0", "token": 1, "amount": true, "ttl_s": 1}',
        '{"do": "reserve", "id": "h", "from": "w", "task": "m1.0", "token": 1, "amount": 5, "ttl_s": NaN}',
        '{"do": "forget", "task": "m1.0", "round": "first"}',
    ],
)
async def test_a_request_that_cannot_be_read_holds_up_no_money(garbage: str, base: Base, tenant: str) -> None:
    await base.redis.rpush(base.of(tenant).tasks.keys.requests, garbage)
    async with running(base, tenant, registry(spend=spend)) as fleet:
        await fleet.submit(drive.spec(agent="spend", inputs=list(range(4)), budget_usd=Decimal("0.01")))
        mission = await fleet.rest()
    assert (mission.status, mission.settled_microusd) == (MissionStatus.COMPLETED, 1_200)
    assert await base.redis.llen(base.of(tenant).tasks.keys.requests) == 0


async def test_workers_of_a_tenant_whose_load_cannot_be_told_keep_their_places(
    base: Base, tenant: str, damaged: str
) -> None:
    assert base.settings.max_workers == 2
    await drive.begin(base, tenant, drive.spec())
    backend = Workers(dict.fromkeys(("w1", "w2"), damaged))
    async with controlling(base, tenant, backend) as controller:
        await controller.run_once()
        await controller.run_once()
    assert backend.started == []


class Workers:
    """A cluster that has these workers; none is ended for damage, and those that are started do not come."""

    def __init__(self, there: dict[str, str]) -> None:
        self._there, self.started = there, list[str]()

    async def list(self) -> dict[str, str]:
        return self._there

    async def equip(self, workers: Mapping[str, str]) -> None:
        pass  # they have what the test has

    async def leaving(self) -> set[str]:
        return set()

    async def places(self) -> int:
        return 0

    async def spare_places(self) -> int:
        return 0

    async def start(self, tenant: str, worker_id: str) -> None:
        self.started.append(tenant)

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        raise AssertionError("nobody is ended for damage")


@asynccontextmanager
async def controlling(base: Base, tenant: str, backend: Workers) -> AsyncIterator[FleetController]:
    """A controller that leads."""
    async with Wakeups(base.blocking, keys.LOAD) as wakeups:
        elector = Elector(base.election(f"controller of {tenant}"), "replica")
        await elector.run_once()
        yield FleetController(base, elector, backend, wakeups)


async def test_a_quota_that_cannot_be_read_keeps_no_other_tenant_from_its_workers(
    base: Base, tenant: str
) -> None:
    """They are read together: one of them must not spoil the reading."""
    await drive.begin(base, tenant, drive.spec())
    name = f"a-{tenant}"
    await base.tenants.add(name)
    try:
        await base.redis.hset(base.of(name).tasks.keys.quota, "weight", "heavy")
        backend = Workers({})
        with capture_logs() as logs:
            async with controlling(base, tenant, backend) as controller:
                await controller.run_once()
    finally:
        await base.tenants.remove(name)
    assert backend.started == [tenant]
    assert [line["tenant"] for line in complaints(logs)] == [name]


async def test_a_suspended_tenant_gets_no_worker(base: Base, tenant: str) -> None:
    await drive.begin(base, tenant, drive.spec(priority="high"))
    await base.tenants.suspend(tenant, "s", by="test")
    backend = Workers({})
    async with controlling(base, tenant, backend) as controller:
        await controller.run_once()
        assert backend.started == []
        await base.tenants.resume(tenant, "r", by="test")
        await controller.run_once()
    assert backend.started == [tenant]


async def test_a_pass_reads_all_quotas_in_one_round_trip(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = [f"{tenant}-{number}" for number in range(30)]
    for name in tenants:
        await base.tenants.add(name)
    asked: list[set[str]] = []
    read = base.tenants.records

    async def counted(names: Sequence[str]) -> dict[str, TenantRecord]:
        asked.append(set(names))
        return await read(names)

    monkeypatch.setattr(base.tenants, "records", counted)
    try:
        async with controlling(base, tenant, Workers({})) as controller:
            await controller.run_once()
    finally:
        for name in tenants:
            await base.tenants.remove(name)
    (once,) = asked
    assert set(tenants) <= once


@pytest.mark.parametrize("away", [StoreUnavailable("away"), StoreTimeout("late")])
async def test_the_stores_absence_is_everybodys(away: Exception) -> None:
    async def fails(tenant: str) -> None:
        raise away

    with pytest.raises(type(away)):
        await Bulkhead("test").each(["a", "b"], fails)


async def test_all_tenants_are_served_a_few_at_once() -> None:
    served: list[str] = []
    now = most = 0

    async def serve(tenant: str) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0)
        now -= 1
        served.append(tenant)
        if tenant == "t7":
            raise KeyError("damage")

    tenants = [f"t{number}" for number in range(3 * AT_ONCE + 1)]
    await Bulkhead("test").each(tenants, serve)
    assert sorted(served) == sorted(tenants)
    assert 1 < most <= AT_ONCE
