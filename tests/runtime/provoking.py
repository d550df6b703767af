"""Provokes every kind of event, and every row of the transitions, through the code that writes them.

A kind that is in KINDS, or a row of a table, that nothing provokes here fails the tests that count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import groupby
from typing import Any

import pytest

from chimera.agents.context import Context
from chimera.core.action import ActionStatus, HttpAction
from chimera.core.event import Event
from chimera.core.money import Window
from chimera.core.task import Task
from chimera.core.timeline import Timeline
from chimera.runtime.base import Base, TenantStores
from chimera.store.brakes import BrakeStore, Order
from chimera.store.exports import EVERY as EVERY_LETTER
from chimera.store.exports import Exports
from chimera.store.flags import ALL as EVERY_FLAG
from chimera.store.ledger import Reservation, Settlement
from chimera.store.purge import purge
from chimera.store.spokes import SwarmElection
from chimera.store.tasks import Ended, HandedIn
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.runtime.fleet import registry, running
from tests.runtime.receiver import Receiver, receiving
from tests.store import drive, history, test_shelves

SECRET = "tangerine-77-secret"
Row = tuple[str, str]
"""From, to."""


@pytest.fixture
async def endpoint() -> AsyncIterator[MeteredEndpoint]:
    async with MeteredEndpoint([Turn(status=429, headers={"Retry-After": "0"}), Turn(text="sunny")]) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def world(
    base: Base, tenant: str, endpoint: MeteredEndpoint, receiver: Receiver
) -> AsyncIterator[Base]:
    """Settings with a model, and a receiver that actions may reach."""
    update = {
        "model": "small",
        "model_url": endpoint.url,
        "model_prices": "small=1/10",
        "action_hosts": receiver.host,
    }
    yield replace(base, settings=base.settings.model_copy(update=update), _stores={})
    for name in await base.tenants.names():
        if name.startswith(f"{tenant}-"):
            await base.tenants.remove(name)


async def every(stores: TenantStores) -> list[Event]:
    """All of a tenant's recorder."""
    return [event async for _, event in stores.recorder.read()]


def calls(receiver: Receiver) -> Callable[[Task, Context], Awaitable[Any]]:
    """An agent that asks a model, uses a tool twice, and proposes an action."""

    async def weather(task: Task, ctx: Context) -> Any:
        said = await ctx.model.text("How is the weather?", max_tokens=20)
        async with ctx.tool("search", {"query": "weather", "token": SECRET}) as call:
            call.result = {"found": said}
        try:
            with ctx.tool("post", {"to": "nobody"}):
                raise OSError("no route")
        except OSError:
            pass
        ctx.propose(HttpAction(url=receiver.url, body={"said": said}))
        return {"said": said}

    return weather


async def worked(world: Base, tenant: str, receiver: Receiver) -> list[Event]:
    """One task of that agent's, done, its action carried out."""
    async with running(world, tenant, registry(weather=calls(receiver))) as fleet:
        await fleet.submit(drive.spec(agent="weather", inputs=["x"]))
        await fleet.until(lambda mission: mission.actions["DONE"] == 1)
    return await every(world.of(tenant))


async def attempts_end_in_every_way(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(8)), max_attempts=1), "m2")
    claims = await drive.claim(stores, 8)
    ways = ("return", "timeout", "error")
    await stores.tasks.end("w1", [Ended(*one.lease, how) for one, how in zip(claims, ways, strict=False)])  # type: ignore[arg-type]  # (they are such words)
    lost, stale, *kept = claims[3:]
    # Their worker is taken for dead, and was only late.
    for claim in (stale, *kept):
        await drive.hand_in(stores, claim)
    await stores.tasks.release("w1", "hub")
    await drive.hand_in(stores, lost)
    held = {review.task_id: review for review in await drive.review(stores)}
    returned, escalated, declined = (held[claim.task_id] for claim in kept)
    await stores.reviews.give_back("j1", [(returned, "no judge", True)], max_failures=9, pause_s=0)
    await drive.review(stores, 1)  # it is with nobody any more: rescued, and claimed again
    for review in (escalated, declined):
        await drive.judge(stores, review, drive.verdict("escalate", 0.8))
    await stores.reviews.answer(escalated.task_id, "a", verdict=drive.verdict(), by="eve", max_stale=5)
    no = drive.verdict("reject", 0.0, "no")
    await stores.reviews.answer(declined.task_id, "b", verdict=no, by="eve", max_stale=5)
    await stores.missions.redrive("m2", [declined.task_id], "r", by="eve")
    await stores.missions.edit("m2", "e", by="eve", goal="other")
    await drive.judge(stores, held[stale.task_id])  # made under what the mission was before
    await stores.missions.pause("m2", "p", by="eve")
    await stores.missions.resume("m2", "q", by="eve")
    await stores.missions.cancel("m2", by="eve", reason="enough")
    await drive.end(stores, "m2")
    await drive.archive(stores, "m2")


async def others_wait_fail_and_come_back(base: Base, tenant: str) -> None:
    nodes = [{"name": "a", "input": 1}, {"name": "b", "input": 1}, {"name": "c", "depends_on": ["a"]}]
    plan = {"strategy": "dag", "nodes": [*nodes, {"name": "d", "depends_on": ["b"]}]}
    stores = await drive.begin(base, tenant, drive.spec(inputs=[], plan=plan, max_attempts=1), "m3")
    first, second = await drive.claim(stores, 2)
    await drive.hand_in(stores, first)
    for review in await drive.review(stores):
        await drive.judge(stores, review)
    await stores.tasks.end("w1", [Ended(*second.lease, "error")])
    await stores.missions.pass_failures(term=drive.TERM, by="hub")
    await stores.missions.redrive("m3", [second.task_id], "r", by="eve")  # and what waited for it comes back
    for claim in await drive.claim(stores, 9):
        await drive.hand_in(stores, claim)
    for review in await drive.review(stores):
        await drive.judge(stores, review, drive.verdict("reject", 0.0, "no"))
    await drive.end(stores, "m3")
    # One waits for a human, and is accepted later than promised.
    spec = drive.spec(inputs=[1], priority="high")
    await drive.submit(base, tenant, spec, "m4", slo_s=0.0)
    await drive.plan(base, tenant, spec, "m4")
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (review,) = await drive.review(stores)
    await drive.judge(stores, review, drive.verdict("escalate", 0.8))
    await drive.end(stores, "m4")
    await stores.reviews.answer(one.task_id, "c", verdict=drive.verdict(), by="eve", max_stale=5)
    await drive.end(stores, "m4")


async def money_moves(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], budget_usd="0.001"), "m5")
    (one,) = await drive.claim(stores)

    async def hold(name: str, amount: int, ttl_s: float = 60) -> None:
        asked = Reservation(name, *one.lease, amount, ttl_s)
        await stores.ledger.reserve([asked], term=drive.TERM, by="g")

    await hold("h1", 100)
    await stores.ledger.settle([Settlement("h1", None)], term=drive.TERM, by="g", **drive.KEEP)
    await hold("h2", 100, 0)
    await stores.ledger.expire(term=drive.TERM, by="g")
    await hold("h3", 1_000_000)
    await stores.flags.acknowledge([EVERY_FLAG], "f", by="eve")
    await stores.ledger.set_limits({Window.DAY: 5}, by="eve")
    await BrakeStore(base.redis).order(tenant, Order.FREEZE, "b", by="eve", reason="we look")
    await drive.end(stores, "m5")


async def an_action_is_given_up(base: Base, tenant: str) -> None:
    stores = await drive.accept_with(base, tenant, mission_id="m6")
    (errand,) = await drive.errands(stores)
    await drive.report(stores, errand, "retry")
    (errand,) = await drive.errands(stores)
    await drive.report(stores, errand, "failed")
    assert await stores.actions.retry("m6", [errand.action_id], "a", by="eve") == 1


async def an_operator_acts(base: Base, tenant: str) -> None:
    await base.tenants.create(tenant, by="eve")
    await base.tenants.set_quota(tenant, {"weight": 2, "spoke": True}, "q", by="eve")
    election = SwarmElection(base.redis, tenant, "there")
    assert await election.lead("s1", ttl_s=60) == 1
    await election.resign("s1")
    made = await base.api_keys.create(tenant, f"c {tenant}", by="eve")
    other = await base.api_keys.rotate(tenant, made.record.key_id, f"r {tenant}", by="eve", overlap_s=0)
    await base.api_keys.revoke(tenant, other.record.key_id, f"x {tenant}", by="eve", reason="leaked")
    await base.tenants.suspend(tenant, "s", by="eve", reason="unpaid")
    await base.tenants.resume(tenant, "t", by="eve", reason="paid")
    await base.of(tenant).tasks.drain("w9", by="eve", reason="tired")
    # A store that came back as another process.
    await history.archive(base, tenant)
    await base.redis.hset(base.of(tenant).recorder.keys.epochs, "run", "another")
    await history.archive(base, tenant)
    await base.tenants.wind_up(tenant, "w", by="eve", reason="left")
    await purge(base.redis, base.blobs, tenant, "w", by="eve", reason="asked")


PAST = {"deadline_s": 1e-6}
"""A mission whose deadline passes before the next call of the store."""


async def waits(base: Base, tenant: str, mission_id: str, **fields: Any) -> TenantStores:
    """A mission all of which waits for a human."""
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], **fields), mission_id)
    await escalate(stores, 1)
    await drive.end(stores, mission_id)
    assert (await stores.missions.get(mission_id)).status == "WAITING_REVIEW"
    return stores


async def escalate(stores: TenantStores, count: int) -> None:
    for claim in await drive.claim(stores, count):
        await drive.hand_in(stores, claim)
    for review in await drive.review(stores):
        await drive.judge(stores, review, drive.verdict("escalate", 0.8))


async def humans_answer_late(base: Base, tenant: str) -> None:
    no = drive.verdict("reject", 0.0, "no")
    # There are attempts left: it is tried again, and its mission goes on.
    stores = await waits(base, tenant, "w1")
    await stores.reviews.answer("w1.0", "a", verdict=no, by="eve", max_stale=5)
    await drive.end(stores, "w1")
    await stores.missions.cancel("w1", by="eve", reason="enough")
    # It was the last attempt: too little was accepted.
    await waits(base, tenant, "w2", max_attempts=1)
    await stores.reviews.answer("w2.0", "b", verdict=no, by="eve", max_stale=5)
    await drive.end(stores, "w2")
    # Its owner holds it, and ends it, or ends it at once.
    await waits(base, tenant, "w3")
    await stores.missions.pause("w3", "c", by="eve")
    await stores.missions.cancel("w3", by="eve", reason="enough")
    await waits(base, tenant, "w4")
    await stores.missions.cancel("w4", by="eve", reason="enough")
    # The mission changed while it was worked on, once too often.
    await drive.begin(base, tenant, drive.spec(inputs=[1]), "w5")
    (late,) = [claim for claim in await drive.claim(stores, 9) if claim.mission_id == "w5"]
    await stores.missions.edit("w5", "d", by="eve", goal="other")
    await stores.tasks.submit("w1", [HandedIn(*late.lease, late.state_version, "1")], max_stale=1)
    for mission_id in ("w3", "w4"):
        await drive.end(stores, mission_id)


async def missions_end_early_and_come_back(base: Base, tenant: str) -> None:
    stores = base.of(tenant)
    # Before its first tasks: held, and let go on; cancelled; too late, held or not.
    await drive.submit(base, tenant, drive.spec(), "e1")
    await stores.missions.pause("e1", "a", by="eve")
    await stores.missions.resume("e1", "b", by="eve")
    await stores.missions.cancel("e1", by="eve", reason="enough")
    for mission_id in ("e2", "e3"):
        await drive.submit(base, tenant, drive.spec(**PAST), mission_id)
    await stores.missions.pause("e3", "c", by="eve")
    for mission_id in ("e2", "e3"):
        await drive.end(stores, mission_id)
    # Out of budget, and given more: what was cancelled comes back.
    await drive.begin(base, tenant, drive.spec(inputs=[1, 2], budget_usd="0.001"), "e4")
    (one,) = await drive.claim(stores)
    asked = Reservation("h", *one.lease, 1_000_000, 60)
    await stores.ledger.reserve([asked], term=drive.TERM, by="g")
    await drive.end(stores, "e4")
    await stores.missions.resume("e4", "d", by="eve", budget_microusd=2_000_000)
    await drive.end(stores, "e4")
    await stores.missions.cancel("e4", by="eve", reason="enough")
    # Good enough, and a human wants all of it.
    await drive.begin(base, tenant, drive.spec(inputs=[1], max_attempts=1, min_accepted=0), "e5")
    (one,) = [claim for claim in await drive.claim(stores, 9) if claim.mission_id == "e5"]
    await stores.tasks.end("w1", [Ended(*one.lease, "error", "no")])
    await drive.end(stores, "e5")
    await stores.missions.redrive("e5", [one.task_id], "e", by="eve")


async def provoke(base: Base, tenant: str) -> list[str]:
    """All but `worked`, which a fleet does, and dead letters; the tenants whose recorders have it."""
    await attempts_end_in_every_way(base, tenant)
    await others_wait_fail_and_come_back(base, tenant)
    await money_moves(base, tenant)
    await an_action_is_given_up(base, tenant)
    large, operated, stepped = f"{tenant}-large", f"{tenant}-operated", f"{tenant}-stepped"
    for name in (large, stepped):
        await base.tenants.add(name)
    await humans_answer_late(base, stepped)
    await missions_end_early_and_come_back(base, stepped)
    await test_shelves.work(await test_shelves.begin(base, large))
    await test_shelves.shelver(base).tend(large, term=drive.TERM)
    await an_operator_acts(base, operated)
    return [tenant, large, operated, stepped]


async def refused(base: Base, tenant: str) -> str:
    """A tenant with two events that the MCP server may refuse; `answered` says what becomes of them."""
    await base.tenants.add(tenant)
    await history.archive(base, tenant)
    await history.write(base, tenant, 2)
    return tenant


async def answered(base: Base, tenant: str) -> str:
    """Have one of a tenant's dead letters dropped and the others tried again; the id of the one dropped."""
    exports = Exports(base.redis, tenant)
    dropped, *_ = await exports.dead()
    assert await exports.answer("drop", [dropped.id], "d", by="eve", reason="known") == 1
    assert await exports.answer("retry", [EVERY_LETTER], "r", by="eve") > 0
    return dropped.id


def rows_taken(events: Iterable[Event]) -> dict[str, Counter[Row]]:
    """How often each row of a table was taken: of ``task``, ``mission``, ``action``.

    What one call of a script makes of something is one step, from where it was to where it is then: the fold
    sees a task READY before the next event of the same call says FAILED.

    Args:
        events: of one tenant, oldest first.
    """
    taken: dict[str, Counter[Row]] = {noun: Counter() for noun in ("task", "mission", "action")}
    lines: dict[str, Timeline] = {}
    stood: dict[tuple[str, str], str] = {}
    for _, group in groupby(events, key=lambda one: (one.epoch, one.at, one.by)):
        now: dict[tuple[str, str], str] = {}
        for event in group:
            if event.mission_id:
                line = lines.setdefault(event.mission_id, Timeline())
                for change in line.take(event):
                    assert change.status is not None
                    now["task", change.task_id] = change.status
                if (status := line.aside(len(line)).mission.status) is not None:
                    now["mission", event.mission_id] = status
            if event.kind in ACTION_STEPS:
                name = f"{event.task_id}/{event.details['index']}"
                now["action", name] = ACTION_STEPS[event.kind]
        for what, to in now.items():
            if (before := stood.get(what)) is not None and before != to:
                taken[what[0]][str(before), str(to)] += 1
            stood[what] = to
    return taken


ACTION_STEPS = {
    "action.queued": ActionStatus.QUEUED,
    "action.retried": ActionStatus.QUEUED,
    "action.done": ActionStatus.DONE,
    "action.failed": ActionStatus.FAILED,
}
"""Entries of an action → where they lead."""
