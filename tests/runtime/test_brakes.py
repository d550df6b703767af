"""Brakes at work: a spike stops at a cost known beforehand, what is refused comes back, and it is told."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.agents.context import Context
from chimera.agents.purse import Charge
from chimera.core import brake as rules_of
from chimera.core.brake import Brake, BrakeCause, BrakeState
from chimera.core.event import Event
from chimera.core.mission import MissionStatus
from chimera.core.money import Window
from chimera.core.task import Task, TaskStatus
from chimera.core.waiting import Cause, Why, why
from chimera.errors import BudgetExceeded
from chimera.runtime import judge as judge_module
from chimera.runtime.base import Base, open_base
from chimera.runtime.desk import Desk
from chimera.settings import Settings
from chimera.store.brakes import BrakeStore, Look, Order
from chimera.store.keys import TenantKeys
from chimera.store.ledger import Reservation, Settlement
from tests.agents.endpoint import MeteredEndpoint
from tests.runtime.braking import braking
from tests.runtime.fleet import registry, running
from tests.runtime.receiver import Receiver, receiving
from tests.runtime.test_judge import RUBRIC, a_judge
from tests.store import drive
from tests.store.clock import set_by_hand, set_to

S, C = BrakeState, BrakeCause
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
PLAN = 1_000
"""µ$ a second."""
DAY_LIMIT = PLAN * 86_400
COST = 5_000


async def brake(base: Base, tenant: str) -> Brake:
    look = (await BrakeStore(base.redis).look([tenant], short_s=60, long_s=300))[tenant]
    assert isinstance(look, Look)
    return look.brake


async def order(base: Base, tenant: str, what: Order, operation: str = "o", **more: Any) -> None:
    said = {"by": "key:1", "reason": "we look"} | more
    await BrakeStore(base.redis).order(tenant, what, operation, **said)


async def changes(base: Base, tenant: str) -> list[Event]:
    return [event async for _, event in base.of(tenant).recorder.read() if event.kind == "brake.changed"]


async def until(base: Base, tenant: str, state: BrakeState, timeout_s: float = 30) -> Brake:
    """Wait until the brake has a state: told by the recorder."""
    recorder = base.of(tenant).recorder
    async with asyncio.timeout(timeout_s):
        while True:
            seen = await recorder.last()
            found = await brake(base, tenant)
            if found.state is state:
                return found
            await recorder.wait(after=seen, timeout_s=1)


def settled(cost: int) -> Charge:
    return Charge("m", 1, 1, cost, "test")


async def pays(task: Task, ctx: Context) -> Any:
    """One call."""
    hold = await ctx.model.purse.reserve(amount_microusd=COST, model="m", agent="pays", ttl_s=60)
    await ctx.model.purse.settle(hold, cost_microusd=COST, charge=settled(COST))
    return task.input


# A spike


def by_its_limits(base: Base) -> Base:
    """The same, where a tenant's limits are its plan."""
    return replace(base, settings=base.settings.model_copy(update={"brake_plan": "limits"}))


@pytest.mark.parametrize(
    ("priority", "stopped_by", "burn"), [("medium", S.THROTTLED, 4), ("high", S.FROZEN, 8)]
)
async def test_a_spike_of_fifty_times_the_plan_is_stopped_within_one_short_window(
    base: Base, tenant: str, priority: str, stopped_by: BrakeState, burn: int
) -> None:
    """With the thresholds as they come, second by second of the store's clock."""
    base = by_its_limits(base)
    rules, stores = base.settings.brake_rules, base.of(tenant)
    await stores.ledger.set_limits({Window.DAY: DAY_LIMIT}, by="test")
    holds = itertools.count()
    async with braking(base, tenant, governor=False, brakes=False) as parts:
        term = await parts.elector.led()
        with set_by_hand():
            await set_to(base, tenant, NOON)
            mission = drive.spec(inputs=[1], budget_usd=Decimal(1_000), priority=priority)
            (claim,) = await drive.claim(await drive.begin(base, tenant, mission), lease_s=10_000)

            async def spend(at: int, calls: int) -> int:
                """A second of so many calls, each of a second's plan; what was spent."""
                await set_to(base, tenant, NOON + timedelta(seconds=at))
                asked = [
                    Reservation(f"h{next(holds)}", claim.task_id, claim.token, PLAN, 60) for _ in range(calls)
                ]
                answers = await stores.ledger.reserve(asked, term=term, by="g")
                granted = [one for one, refusal in zip(asked, answers, strict=True) if refusal is None]
                await stores.ledger.settle(
                    [Settlement(one.hold_id, PLAN) for one in granted], term=term, by="g", **drive.KEEP
                )
                await parts.brakes.run_once()
                return len(granted) * PLAN

            assert sum([await spend(at, 1) for at in range(120)]) == 120 * PLAN
            assert await changes(base, tenant) == []
            spike = [await spend(120 + second, 50) for second in range(rules.short_s)]
    assert 0 in spike, "stopped within the short window"
    assert set(spike[spike.index(0) :]) == {0}, "and nothing passes afterwards"
    # What set the brake, of which the plan's own spending is a part; and above it one look's worth.
    assert sum(spike) <= burn * PLAN * rules.long_s + 50 * PLAN
    assert sum(spike) < DAY_LIMIT / 5
    *_, last = await changes(base, tenant)
    assert (last.details["to"], last.details["cause"]) == (stopped_by, C.BURN)


@pytest.fixture
async def short(settings: Settings, tenant: str) -> AsyncIterator[Base]:
    """A fleet whose brake has windows that a test can wait for, and a plan of a thousand µ$ a second."""
    changes = {"brake_short_s": 10, "brake_long_s": 20, "brake_floor_usd": 0, "brake_plan": "86.4"}
    opened = await open_base(settings.model_copy(update={**changes, "slots": 16, "idle_s": 30}))
    await opened.tenants.add(tenant)
    yield opened
    await opened.tenants.remove(tenant)
    await opened.close()


async def test_missions_that_come_fifty_times_too_fast_are_stopped_and_go_on_when_it_is_thawed(
    short: Base, tenant: str
) -> None:
    """Real workers, judge and governor: each mission is one call of five seconds' plan, ten come a second."""
    base, stores, names = short, short.of(tenant), [f"m{n}" for n in range(200)]
    submitted: list[str] = []

    async def spike(name: str) -> None:
        await drive.submit(base, tenant, drive.spec(agent="pays", inputs=[name]), name, at_once=True)
        submitted.append(name)

    async with (
        braking(base, tenant),
        running(base, tenant, registry(pays=pays), governed=False) as fleet,
    ):
        async with asyncio.timeout(60):
            for name in names:
                await spike(name)
                if (await brake(base, tenant)).state is S.THROTTLED:
                    break
                await asyncio.sleep(COST / (50 * PLAN))  # the spike's own pace
        set_by = (await changes(base, tenant))[0].details["figures"]
        for name in names[len(submitted) : len(submitted) + 20]:
            await spike(name)
        # What comes now is handed back, uncounted, and says why.
        waits = submitted[-1]
        await fleet.until(lambda mission: mission.counts["READY"] == 1, waits)
        async with asyncio.timeout(20):
            while (told := await asked(base, tenant, f"{waits}.0")).cause is not Cause.BRAKE:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)  # nothing tells of it
        assert "throttled since" in told.detail
        assert "faster than planned" in told.detail
        assert told.figures["state"] == "throttled"
        # High priority passes.
        await drive.submit(
            base, tenant, drive.spec(agent="pays", inputs=[1], priority="high"), "high", at_once=True
        )
        assert (await fleet.rest("high")).status is MissionStatus.COMPLETED
        balance = await stores.ledger.balance()
        spent = balance.settled["lifetime"] - COST
        # The threshold, and above it what a spike spends in one look and one span of the count; then what
        # was held.
        assert set_by["long_microusd"] <= 4 * PLAN * 20 + 50 * PLAN * (1 + 5)
        in_flight = base.settings.max_workers * base.settings.slots * COST
        assert spent <= set_by["long_microusd"] + in_flight
        assert spent < len(submitted) * COST
        assert balance.held == 0

        await order(base, tenant, Order.OVERRIDE, seconds=600)
        for name in submitted:
            mission = await fleet.rest(name, timeout_s=60)
            assert mission.status is MissionStatus.COMPLETED
            assert await used(base, tenant, f"{name}.0") == 0, "no attempt was counted"
        balance = await stores.ledger.balance()
        assert balance.settled["lifetime"] == (len(submitted) + 1) * COST


async def used(base: Base, tenant: str, task_id: str) -> int:
    """Of its attempts."""
    return int(await base.redis.hget(TenantKeys(tenant).of("task", task_id), "used") or 0)


async def asked(base: Base, tenant: str, task_id: str) -> Why:
    """Why a task waits."""
    quota = await base.tenants.quota(tenant)
    return why(await base.of(tenant).waiting.standing(task_id, quota=quota, places=2, window=2_000))


# What it refuses


async def test_a_freeze_binds_the_next_reservation_and_no_settlement(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2], priority="high"))
    first, second = await drive.claim(stores, 2)
    desk = Desk(base.redis, base.blocking, tenant, "w1", wait_s=60)
    desk.start()
    try:
        async with braking(base, tenant):
            hold = await desk.reserve(first.task_id, first.token, 100, 60)
            await order(base, tenant, Order.FREEZE)
            async with asyncio.timeout(30):  # it does not wait in place for a minute
                with pytest.raises(BudgetExceeded) as refused:
                    await desk.reserve(second.task_id, second.token, 100, 60)
            assert (refused.value.level, refused.value.kind) == ("brake/frozen", "window")
            assert refused.value.retry_after_s == rules_of.LEAST_PAUSE_S
            assert "chimera governor status" in str(refused.value)
            await desk.settle(hold, 30, settled(30))
            async with asyncio.timeout(20):
                while (await stores.ledger.balance()).held:  # noqa: ASYNC110 (nothing tells of it)
                    await asyncio.sleep(0.02)
            assert (await stores.ledger.balance()).settled["lifetime"] == 30
            await order(base, tenant, Order.THAW, "t")
            assert await desk.reserve(second.task_id, second.token, 100, 60)
    finally:
        await desk.stop()


@pytest.mark.parametrize(("hours", "pause_s"), [(0, 5), (1 / 60, 15), (9, 30)])
async def test_who_is_refused_comes_back_later_the_longer_a_brake_stands(
    base: Base, tenant: str, hours: float, pause_s: int
) -> None:
    with set_by_hand():
        await set_to(base, tenant, NOON)
        stores = await drive.begin(base, tenant, drive.spec())
        await order(base, tenant, Order.FREEZE)
        await set_to(base, tenant, NOON + timedelta(hours=hours))
        (claim,) = await drive.claim(stores)
        asked_for = Reservation("h", claim.task_id, claim.token, 100, 60)
        (refusal,) = await stores.ledger.reserve([asked_for], term=drive.TERM, by="g")
    assert isinstance(refusal, BudgetExceeded)
    assert refusal.retry_after_s == pause_s


def test_the_pauses_are_those_of_the_script() -> None:
    text = (files("chimera.store") / "lua" / "include" / "braked.lua").read_text(encoding="utf-8")
    pauses = re.search(r"LEAST_PAUSE_S, MOST_PAUSE_S = (\d+), (\d+)", text)
    assert pauses is not None
    assert tuple(map(int, pauses.groups())) == (rules_of.LEAST_PAUSE_S, rules_of.MOST_PAUSE_S)


async def test_no_mission_ends_for_a_brake_and_tasks_that_pay_nothing_go_on(base: Base, tenant: str) -> None:
    async def free(task: Task, ctx: Context) -> Any:
        return task.input

    async with (
        braking(base, tenant),
        running(base, tenant, registry(free=free, pays=pays), governed=False) as fleet,
    ):
        await order(base, tenant, Order.FREEZE, reason="we look")
        await fleet.submit(drive.spec(agent="pays", inputs=[1], max_attempts=1), "m1")
        await fleet.submit(drive.spec(agent="free", inputs=[1, 2]), "m2")
        assert (await fleet.rest("m2")).status is MissionStatus.COMPLETED
        async with asyncio.timeout(20):
            while (told := await asked(base, tenant, "m1.0")).cause is not Cause.BRAKE:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)  # nothing tells of it
        assert "a person froze it (key:1: we look)" in told.detail
        (task,) = await fleet.stores.tasks.get_many(["m1.0"])
        assert (task.status, await used(base, tenant, "m1.0")) == (TaskStatus.READY, 0)
        assert (await fleet.stores.missions.get("m1")).status is MissionStatus.RUNNING
        await order(base, tenant, Order.THAW, "t")
        assert (await fleet.rest("m1")).status is MissionStatus.COMPLETED


async def test_a_result_whose_judge_cannot_pay_waits_for_the_thaw(base: Base, tenant: str) -> None:
    mission = drive.spec(inputs=[1], judge=RUBRIC, budget_usd=Decimal(10))
    stores = await drive.begin(base, tenant, mission)
    (claim,) = await drive.claim(stores)
    await drive.hand_in(stores, claim)
    await order(base, tenant, Order.FREEZE)
    judging = stores.tasks.keys.judging
    async with MeteredEndpoint() as endpoint, braking(base, tenant), a_judge(base, endpoint) as judge:
        judge.start()
        async with asyncio.timeout(20):
            while (await asked(base, tenant, "m1.0")).cause is not Cause.BRAKE:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)  # nothing tells of it
            # Given back, and not looked at again in a moment.
            while "brake" not in (await stores.tasks.get("m1.0")).last_error:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)  # nothing tells of it
        seconds, _ = await base.redis.time()
        assert await base.redis.zscore(judging, "m1.0") > (seconds + judge_module.PAUSE_S + 1) * 1e6
        task = await stores.tasks.get("m1.0")
        assert (task.status, task.tallies.get("judge_errors", 0)) == (TaskStatus.REVIEW, 0)
        assert endpoint.calls == 0
        await order(base, tenant, Order.THAW, "t")
        await base.redis.zadd(judging, {"m1.0": 1}, xx=True)  # its pause is over
        async with asyncio.timeout(20):
            await endpoint.arrived.wait()


# By itself, for every tenant


async def test_an_idle_tenants_brake_goes_back_by_itself(base: Base, tenant: str) -> None:
    base = by_its_limits(base)
    rules = base.settings.brake_rules
    stores = base.of(tenant)
    await stores.ledger.set_limits({Window.DAY: DAY_LIMIT}, by="test")
    async with braking(base, tenant, governor=False, brakes=False) as parts:
        term = await parts.elector.led()
        with set_by_hand():
            await set_to(base, tenant, NOON)
            await drive.begin(base, tenant, drive.spec(inputs=[1], budget_usd=Decimal(1_000)))
            (claim,) = await drive.claim(stores, lease_s=10_000)
            cost = round(PLAN * rules.long_s * rules.freeze_burn) + 1
            hold = Reservation("h", claim.task_id, claim.token, cost, 60)
            assert await stores.ledger.reserve([hold], term=term, by="g") == [None]
            await stores.ledger.settle([Settlement("h", cost)], term=term, by="g", **drive.KEEP)
            for at in range(rules.short_s + 3 * rules.calm_s):
                await set_to(base, tenant, NOON + timedelta(seconds=at))
                await parts.brakes.run_once()
    told = await changes(base, tenant)
    assert [event.details["to"] for event in told] == ["frozen", "throttled", "open"]
    assert told[1].at - told[0].at >= timedelta(seconds=rules.short_s)
    assert told[2].at - told[1].at >= timedelta(seconds=rules.calm_s)


async def test_spend_without_progress_throttles_a_tenant_that_has_no_plan(base: Base, tenant: str) -> None:
    rules, stores = base.settings.brake_rules, base.of(tenant)
    async with braking(base, tenant, governor=False, brakes=False) as parts:
        term = await parts.elector.led()
        with set_by_hand():
            await set_to(base, tenant, NOON)
            await drive.begin(base, tenant, drive.spec(inputs=[1], budget_usd=Decimal(1_000)))
            (claim,) = await drive.claim(stores, lease_s=10_000)
            for minute in range(11):
                await set_to(base, tenant, NOON + timedelta(minutes=minute))
                hold = Reservation(f"h{minute}", claim.task_id, claim.token, rules.unaccepted // 10, 60)
                assert await stores.ledger.reserve([hold], term=term, by="g") == [None]
                paid = Settlement(f"h{minute}", rules.unaccepted // 10)
                await stores.ledger.settle([paid], term=term, by="g", **drive.KEEP)
                await parts.brakes.run_once()
    (event,) = await changes(base, tenant)
    assert (event.details["to"], event.details["cause"]) == ("throttled", "progress")
    assert event.details["figures"]["unaccepted_microusd"] == rules.unaccepted // 10 * 11


async def test_one_tenants_damaged_brake_keeps_no_others_from_moving(short: Base, tenant: str) -> None:
    damaged = [f"a-{tenant}", f"z-{tenant}"]
    for name in damaged:
        await short.tenants.add(name)
    await short.redis.set(TenantKeys(damaged[0]).burn, "no hash")
    await short.redis.hset(TenantKeys(damaged[1]).brake, "changes", "many")
    try:
        with capture_logs() as logs:
            async with braking(short, tenant, governor=False, brakes=False) as parts:
                await spend(short, tenant, await parts.elector.led(), 8 * PLAN * 20 + 1)
                await parts.brakes.run_once()
        assert (await brake(short, tenant)).state is S.FROZEN
        assert {line["tenant"] for line in logs if line["event"] == "tenant.damaged"} == set(damaged)
    finally:
        for name in damaged:
            await short.tenants.remove(name)


async def spend(base: Base, tenant: str, term: int, cost: int) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (claim,) = await drive.claim(stores)
    hold = Reservation("h", claim.task_id, claim.token, cost, 60)
    assert await stores.ledger.reserve([hold], term=term, by="g") == [None]
    await stores.ledger.settle([Settlement("h", cost)], term=term, by="g", **drive.KEEP)


async def test_a_governor_of_an_older_term_moves_no_brake(short: Base, tenant: str) -> None:
    with capture_logs() as logs:
        async with braking(short, tenant, governor=False, brakes=False) as parts:
            term = await parts.elector.led()
            await spend(short, tenant, term, 8 * PLAN * 20 + 1)
            await short.redis.set(TenantKeys(tenant).of("term", "governor"), term + 1)
            await parts.brakes.run_once()
    assert (await brake(short, tenant)).state is S.OPEN
    assert [line["event"] for line in logs if "superseded" in line["event"]] == ["brakes.superseded"]


# The webhook


@pytest.fixture
async def hooked(settings: Settings, tenant: str) -> AsyncIterator[tuple[Base, Receiver]]:
    """A fleet whose brakes are told to a receiver."""
    async with receiving() as receiver:
        changes = {"brake_webhook_url": receiver.url, "action_hosts": receiver.host, "action_timeout_s": 1}
        opened = await open_base(settings.model_copy(update=changes))
        await opened.tenants.add(tenant)
        yield opened, receiver
        await opened.tenants.remove(tenant)
        await opened.close()


async def no_notices(base: Base, tenant: str) -> None:
    async with asyncio.timeout(20):
        while await BrakeStore(base.redis).notices(tenant, 1):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)


async def test_every_change_is_told_in_order_under_an_id_of_its_own(
    hooked: tuple[Base, Receiver], tenant: str
) -> None:
    base, receiver = hooked
    async with braking(base, tenant):
        await order(base, tenant, Order.FREEZE, "a", reason="a loop")
        await order(base, tenant, Order.THAW, "b", reason="mended")
        await receiver.arrived(2)
        await no_notices(base, tenant)
    first, second = receiver.calls
    assert (first.method, first.path) == ("POST", "/hook")
    assert (first.body["tenant"], first.body["from"], first.body["to"]) == (tenant, "open", "frozen")
    assert (first.body["cause"], first.body["reason"], first.body["by"]) == ("operator", "a loop", "key:1")
    assert second.body["to"] == "open"
    assert [first.key, second.key] == [first.body["id"], second.body["id"]]
    assert first.key != second.key


async def test_what_is_not_taken_is_told_again_under_the_same_id(
    hooked: tuple[Base, Receiver], tenant: str
) -> None:
    base, receiver = hooked
    receiver.answers.extend([(500, ""), (503, "")])
    async with braking(base, tenant):
        await order(base, tenant, Order.FREEZE, "a")
        await order(base, tenant, Order.THAW, "b")
        await receiver.arrived(4)
        await no_notices(base, tenant)
    assert len({call.key for call in receiver.calls[:3]}) == 1, "the second waits for the first"
    assert receiver.calls[3].body["to"] == "open"


async def test_a_receiver_that_refuses_for_good_is_not_asked_again(
    hooked: tuple[Base, Receiver], tenant: str
) -> None:
    base, receiver = hooked
    receiver.answers.append((410, ""))
    with capture_logs() as logs:
        async with braking(base, tenant):
            await order(base, tenant, Order.FREEZE, "a")
            await receiver.arrived(1)
            await no_notices(base, tenant)
    assert [line["tries"] for line in logs if line["event"] == "notice.given_up"] == [1]


async def test_a_notice_outlives_the_governor_that_could_not_send_it(
    hooked: tuple[Base, Receiver], tenant: str
) -> None:
    base, receiver = hooked
    receiver.silent = True
    async with braking(base, tenant, "one"):
        await order(base, tenant, Order.FREEZE, "a")
        await receiver.arrived(1)
    receiver.silent = False
    async with braking(base, tenant, "two"):
        await receiver.arrived(2)
        await no_notices(base, tenant)
    first, second = receiver.calls
    assert (first.key, first.body) == (second.key, second.body)


async def test_a_receiver_that_never_answers_delays_no_money(
    hooked: tuple[Base, Receiver], tenant: str
) -> None:
    base, receiver = hooked
    receiver.silent = True
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (claim,) = await drive.claim(stores)
    desk = Desk(base.redis, base.blocking, tenant, "w1", wait_s=0)
    desk.start()
    try:
        async with braking(base, tenant):
            await order(base, tenant, Order.OVERRIDE, "a", seconds=60)
            await receiver.arrived(1)
            assert await desk.reserve(claim.task_id, claim.token, 100, 60)
            assert await BrakeStore(base.redis).notices(tenant, 1), "it is not told yet"
    finally:
        await desk.stop()


async def test_where_nobody_is_to_be_told_no_notice_stays(base: Base, tenant: str) -> None:
    async with braking(base, tenant):
        await order(base, tenant, Order.FREEZE, "a")
        await no_notices(base, tenant)


async def test_a_notice_that_cannot_be_read_holds_up_no_other(
    hooked: tuple[Base, Receiver], tenant: str
) -> None:
    base, receiver = hooked
    await base.redis.rpush(TenantKeys(tenant).notices, "no json")
    async with braking(base, tenant):
        await order(base, tenant, Order.FREEZE, "a")
        await receiver.arrived(1)
        await no_notices(base, tenant)
    assert json.dumps(receiver.calls[0].body["to"]) == '"frozen"'
