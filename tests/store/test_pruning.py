"""Finished missions leave Redis: only those that are quiet, whole or not at all, and nothing stays behind."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from chimera.core.money import Window
from chimera.errors import Conflict, InvalidTransition, LeaseLost, NotFound
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.elector import Elector
from chimera.runtime.orchestrator import Orchestrator
from chimera.store.ledger import Reservation, Settlement
from chimera.store.pruning import Mark
from chimera.store.scripts import OldTerm
from chimera.store.signals import Wakeups
from chimera.store.tasks import Ended
from tests.store import drive
from tests.store.census import Census

PRUNE: dict[str, Any] = {"term": drive.TERM, "by": "hub"}
KEEP: dict[str, Any] = PRUNE | drive.KEEP
DETAILED = [drive.HOOK, drive.HOOK]


async def mark(stores: TenantStores, age_s: float = 0) -> Mark | None:
    return await stores.pruning.mark("m1", age_s=age_s, term=drive.TERM)


async def failed(base: Base, tenant: str) -> TenantStores:
    """A mission of which one task failed and one was accepted, with an action that failed."""
    mission = drive.spec(inputs=[1, 2], max_attempts=1)
    stores = await drive.begin(base, tenant, mission)
    good, bad = await drive.claim(stores, 2)
    await drive.hand_in(stores, good, actions=[drive.HOOK])
    (held,) = await drive.review(stores)
    await drive.judge(stores, held)
    await stores.tasks.end("w1", [Ended(bad.task_id, bad.token, "error", "no", 0)])
    (errand,) = await drive.errands(stores)
    assert await drive.report(stores, errand, "failed")
    await drive.end(stores)
    return stores


async def eventful(base: Base, tenant: str) -> TenantStores:
    """A mission that has used every kind of key there is."""
    mission = drive.spec(inputs=list(range(6)), max_attempts=2, budget_usd="0.001")
    await drive.submit(base, tenant, mission, idempotency_key="key")
    assert await drive.plan(base, tenant, mission)
    stores = base.of(tenant)
    accepted, asked, late, returned, *_ = await drive.claim(stores, 5)
    holds = [Reservation(f"h{n}", accepted.task_id, accepted.token, 100, 60) for n in range(2)]
    await stores.ledger.reserve(holds, **PRUNE)
    kept = Settlement("h0", 40, "{}", 0, "call", "reply")
    await stores.ledger.settle([kept], **KEEP)
    await stores.ledger.settle([Settlement("h1", None)], **KEEP)
    await drive.hand_in(stores, accepted, actions=DETAILED)
    await drive.hand_in(stores, asked)
    for held in await drive.review(stores):
        decision = "accept" if held.task_id == accepted.task_id else "escalate"
        await drive.judge(stores, held, drive.verdict(decision, 0.8))
    for errand, outcome in zip(await drive.errands(stores), ("done", "failed"), strict=True):
        await drive.report(stores, errand, outcome)
    await stores.tasks.end("w1", [Ended(returned.task_id, returned.token, "return", "", 60)])
    await stores.tasks.release("w1", "hub")  # what is left of w1 is suspected
    await drive.claim(stores, 1, worker="w2")
    (paying,) = await drive.claim(stores, 1, worker="w3")
    bought = Reservation("h2", paying.task_id, paying.token, 200, 60)
    await stores.ledger.reserve([bought], **PRUNE)
    await stores.ledger.settle([Settlement("h2", 200, "{}", 0, "call", "reply")], **KEEP)
    await stores.missions.edit("m1", "e1", by="t", goal="other")
    await stores.missions.pause("m1", "p1", by="t")
    await stores.missions.resume("m1", "r1", by="t")
    await drive.hand_in(stores, late)  # lost
    broke = Reservation("h3", paying.task_id, paying.token, 5_000, 60)
    await stores.ledger.reserve([broke], **PRUNE)
    await drive.end(stores)
    assert (await stores.missions.get("m1")).reason == "budget_exceeded"
    await do_the_governors_part(stores)
    return stores


async def do_the_governors_part(stores: TenantStores) -> None:
    """Forget what is asked to be forgotten."""
    asked = await stores.requests.peek(100)
    rounds = [(one["task"], int(one["round"])) for one in map(json.loads, asked)]
    await stores.ledger.forget(rounds, term=drive.TERM)
    await stores.requests.answer([], len(asked), "op", **PRUNE)


async def left_of(base: Base, stores: TenantStores, mission_id: str = "m1") -> dict[str, Any]:
    """Keys that name a mission, or hold something that does; the recorder aside."""
    census = await Census.take(base.redis, stores.missions.keys)
    recorder = stores.missions.keys.log
    return {
        name: value
        for name, value in census.found.items()
        if name != recorder and f"{mission_id}" in f"{name} {json.dumps(value, default=list)}"
    }


async def lasting(base: Base, stores: TenantStores) -> list[str]:
    """Of these, the keys that do not run out by themselves."""
    return [name for name in await left_of(base, stores) if await base.redis.ttl(name) < 0]


async def test_nothing_of_a_pruned_mission_is_left_but_what_runs_out_by_itself(
    base: Base, tenant: str
) -> None:
    stores = await eventful(base, tenant)
    before = await left_of(base, stores)
    families = {name.removeprefix(stores.missions.keys.root)[:3] for name in before}
    assert {"h:m", "h:t", "q:t", "j:v", "j:t", "j:a", "g:k", "g:m", "g:h", "h:i", "h:o"} <= families
    await drive.archive(stores)
    left = await left_of(base, stores)
    brief = ("q:w:", "h:op:", "h:idem:", "g:hold:")
    assert stores.ledger.keys.flags in left, "what a limit refused stays until somebody has seen it"
    for name in left.keys() - {stores.ledger.keys.flags}:
        assert name.removeprefix(stores.missions.keys.root).startswith(brief), name
        assert 0 < await base.redis.ttl(name) <= 86_400
    assert (await stores.missions.list_ids(), await stores.pruning.count()) == ([], 0)
    assert (await stores.ledger.balance()).settled["lifetime"] == 240, "the tenant's money stays"


async def test_the_recorder_says_once_that_it_is_archived_and_with_what_digest(
    base: Base, tenant: str
) -> None:
    stores = await drive.over(base, tenant)
    sha256 = await drive.archive(stores)
    events = [event async for _, event in stores.recorder.read() if event.kind == "mission.archived"]
    assert [event.details for event in events] == [{"tasks": 3, "actions": 0, "sha256": sha256}]


async def test_a_batch_is_bounded_and_any_leader_goes_on_where_the_last_one_stopped(
    base: Base, tenant: str
) -> None:
    stores = await failed(base, tenant)
    first = await mark(stores)
    assert first
    assert not first.archived
    left: list[Any] = []
    while not left or left[-1]:
        # A crash: whoever comes next knows nothing but what is in the store.
        marked = await mark(stores, age_s=3_600 if left else 0)
        assert marked == Mark(first.at_us, archived=bool(left))
        left.append(await stores.pruning.prune("m1", marked, **PRUNE, most=1))
    assert left == [2, 1, 0], "two tasks and an action"
    assert await mark(stores) is None
    assert await stores.pruning.prune("m1", first, **PRUNE) == 0, "it is gone already"
    assert await lasting(base, stores) == []


async def young(stores: TenantStores) -> None:
    assert await mark(stores, age_s=60) is None
    assert await stores.pruning.finished(age_s=60) == []


async def held(stores: TenantStores) -> None:
    await stores.ledger._redis.hset(stores.ledger.keys.of("spend", "m1"), "held", 1)


async def queued(stores: TenantStores) -> None:
    assert await stores.actions.retry("m1", ["m1.0/0"], "o1", by="t") == 1


async def revived(stores: TenantStores) -> None:
    assert await stores.missions.redrive("m1", ["m1.1"], "o1", by="t") == 1


@pytest.mark.parametrize("busy", [held, queued, revived])
async def test_what_is_not_quiet_is_not_marked(
    busy: Callable[[TenantStores], Awaitable[None]], base: Base, tenant: str
) -> None:
    stores = await failed(base, tenant)
    await young(stores)
    assert await mark(stores)
    await busy(stores)
    assert await mark(stores) is None


async def test_what_runs_or_is_still_to_be_swept_is_not_marked(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    assert await mark(stores) is None
    await stores.missions.cancel("m1", by="t", reason="")
    assert await mark(stores) is None, "its tasks are still open"
    await drive.end(stores)
    assert await mark(stores)


@pytest.mark.parametrize("change", [queued, revived])
async def test_what_changed_since_it_was_marked_is_not_pruned(
    change: Callable[[TenantStores], Awaitable[None]], base: Base, tenant: str
) -> None:
    stores = await failed(base, tenant)
    marked = await mark(stores)
    assert marked
    await change(stores)
    assert await stores.pruning.prune("m1", marked, **PRUNE) is None
    assert len(await stores.tasks.get_many(["m1.0", "m1.1"])) == 2
    # It comes to its end again: under another mark.
    for errand in await drive.errands(stores):
        await drive.report(stores, errand, "failed")
    while await stores.missions.revive("m1", term=drive.TERM, by="t"):
        pass
    for one in await drive.claim(stores):
        await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    await drive.end(stores)
    again = await mark(stores)
    assert again
    assert again.at_us > marked.at_us
    assert await stores.pruning.prune("m1", marked, **PRUNE) is None
    assert await stores.pruning.prune("m1", again, **PRUNE) == 0


async def test_nobody_brings_back_what_is_half_pruned_or_gone(base: Base, tenant: str) -> None:
    stores = await failed(base, tenant)
    marked = await mark(stores)
    assert marked
    for left in (2, 1, 0):
        assert await stores.pruning.prune("m1", marked, **PRUNE, most=1) == left
        for refused in (
            stores.missions.redrive("m1", ["m1.1"], f"d{left}", by="t"),
            stores.missions.resume("m1", f"r{left}", by="t", budget_microusd=9_000_000),
            stores.actions.retry("m1", ["m1.0/0"], f"a{left}", by="t"),
        ):
            with pytest.raises(NotFound):
                await refused
        for refused in (
            stores.missions.edit("m1", f"e{left}", by="t", goal="g"),
            stores.missions.pause("m1", f"p{left}", by="t"),
            stores.missions.cancel("m1", by="t", reason=""),
        ):
            with pytest.raises(NotFound if left == 0 else (InvalidTransition, Conflict)):
                await refused
    assert await lasting(base, stores) == []


async def test_an_operation_answers_the_same_after_its_mission_is_gone(base: Base, tenant: str) -> None:
    stores = await failed(base, tenant)
    assert await stores.missions.redrive("m1", ["m1.1"], "r", by="t") == 1
    await stores.missions.edit("m1", "e", by="t", goal="other")
    await stores.missions.pause("m1", "p", by="t")
    await stores.missions.resume("m1", "g", by="t")
    await stores.missions.cancel("m1", by="t", reason="")
    await drive.end(stores)
    await drive.archive(stores)
    before = await left_of(base, stores)
    assert await stores.missions.redrive("m1", ["m1.1"], "r", by="t") == 1
    assert await stores.missions.edit("m1", "e", by="t", goal="other") == 2
    await stores.missions.pause("m1", "p", by="t")
    await stores.missions.resume("m1", "g", by="t")
    assert await left_of(base, stores) == before


async def test_the_idempotency_key_of_a_pruned_mission_still_names_it(base: Base, tenant: str) -> None:
    mission = drive.spec(inputs=[1])
    await drive.submit(base, tenant, mission, idempotency_key="key")
    await base.of(tenant).missions.cancel("m1", by="t", reason="")
    await drive.end(base.of(tenant))
    await drive.archive(base.of(tenant))
    made = await base.of(tenant).missions.submit(
        "m2", mission, inputs=1, total_tasks=1, timeout_s=60, max_attempts=3, by="test", idempotency_key="key"
    )
    assert made == ("m1", None)


@pytest.mark.parametrize(("cost", "lifetime"), [(150, 150), (700, 700), (None, 0)])
async def test_a_settlement_after_its_mission_is_gone_corrects_the_tenants_windows_and_nothing_else(
    cost: int | None, lifetime: int, base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (one,) = await drive.claim(stores)
    asked = Reservation("h", one.task_id, one.token, 400, 0)
    assert await stores.ledger.reserve([asked], **PRUNE) == [None]
    assert await stores.requests.sent(["h"]) == [True]
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held)
    await drive.end(stores)
    assert await mark(stores) is None, "its money is held"
    assert await stores.ledger.expire(**PRUNE) == 1
    await drive.archive(stores)
    gone = await left_of(base, stores, "m1.")
    late = Settlement("h", cost, "{}", 0, "call", "reply")
    for _ in range(2):
        assert await stores.ledger.settle([late], **KEEP) == [None]
    balance = await stores.ledger.balance()
    assert {balance.settled[name] for name in balance.settled} == {lifetime}
    assert (len(balance.settled), balance.held) == (len(Window), 0)
    assert (await left_of(base, stores, "m1.")).keys() == gone.keys()
    reading = await stores.readings.open("m1")
    assert reading.mission.settled_microusd == 400, "as it was when it was archived"
    assert (await reading.task("m1.0"))[0].spent_microusd == 400
    last = [event async for _, event in stores.recorder.read()][-1]
    assert last.kind == ("spend.released" if cost is None else "spend.settled"), "the recorder has it"


async def test_a_hold_of_nothing_may_run_out_after_its_mission_is_gone(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (one,) = await drive.claim(stores)
    await stores.ledger.reserve([Reservation("h", one.task_id, one.token, 0, 0)], **PRUNE)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held)
    await drive.end(stores)
    await drive.archive(stores)
    gone = await left_of(base, stores, "m1")
    assert await stores.ledger.expire(**PRUNE) == 1
    left = await left_of(base, stores, "m1")
    assert left.keys() <= gone.keys()


async def test_whoever_comes_late_to_a_pruned_mission_is_refused_and_brings_nothing_back(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    one, other = await drive.claim(stores, 2)
    await drive.hand_in(stores, other)
    (held,) = await drive.review(stores)
    await stores.missions.cancel("m1", by="t", reason="")
    await drive.end(stores)
    await drive.archive(stores)
    gone = await left_of(base, stores)
    assert isinstance(await drive.hand_in(stores, one), LeaseLost)
    (ended,) = await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    assert isinstance(ended, LeaseLost)
    assert await drive.judge(stores, held) is not None
    assert await stores.reviews.renew([(held.task_id, held.token)], lease_s=5) == [False]
    asked = Reservation("late", one.task_id, one.token, 1, 60)
    (refused,) = await stores.ledger.reserve([asked], **PRUNE)
    assert isinstance(refused, LeaseLost)
    assert not await drive.plan(base, tenant, drive.spec(inputs=[1, 2]))
    assert await stores.missions.settle("m1", term=drive.TERM, by="t") is None
    assert await stores.missions.sweep("m1", term=drive.TERM, by="t") == 0
    assert await stores.missions.revive("m1", term=drive.TERM, by="t") == 0
    assert await left_of(base, stores) == gone


async def test_a_leader_looks_past_a_pruned_mission(base: Base, tenant: str) -> None:
    stores = await failed(base, tenant)
    await base.redis.rpush(stores.missions.keys.fallen, "m1.1")  # a failure that was not passed on yet
    await base.redis.sadd(stores.missions.keys.dirty, "m1")
    await drive.archive(stores)
    await base.redis.sadd(stores.missions.keys.dirty, "m1")  # as a settlement under way may still do
    async with Wakeups(base.blocking, "none") as wakeups:
        hub = Orchestrator(base, Elector(base.election("nobody"), "hub"), wakeups)
        await hub.tend(tenant, term=drive.TERM, everything=True)
    assert not any(name.endswith(("fallen", "dirty")) for name in await left_of(base, stores))


async def test_an_older_leader_neither_marks_nor_prunes(base: Base, tenant: str) -> None:
    stores = await drive.over(base, tenant)
    marked = await mark(stores)
    assert marked
    with pytest.raises(OldTerm):
        await stores.pruning.mark("m1", age_s=0, term=drive.TERM - 1)
    with pytest.raises(OldTerm):
        await stores.pruning.prune("m1", marked, term=drive.TERM - 1, by="old")
    assert (await stores.missions.get("m1")).archived_at_us == 0


async def test_those_that_ended_first_come_first_and_those_that_came_back_are_not_among_them(
    base: Base, tenant: str
) -> None:
    for mission_id in ("m3", "m1", "m2"):
        stores = await drive.over(base, tenant, mission_id, inputs=1)
    assert [one for one, _ in await stores.pruning.finished(age_s=0)] == ["m3", "m1", "m2"]
    assert [one for one, _ in await stores.pruning.finished(age_s=0, skip=1, most=1)] == ["m1"]
    mission = drive.spec(inputs=[1], max_attempts=1)
    await drive.begin(base, tenant, mission, "m4")
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    await drive.end(stores, "m4")
    assert await stores.pruning.count() == 4
    await stores.missions.redrive("m4", ["m4.0"], "o", by="t")
    assert await stores.pruning.count() == 3
