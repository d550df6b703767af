"""The recorder is complete: each kind is provoked, through the code that writes it; what it says of calls.

A kind that is in KINDS and that nothing provokes here fails the last test.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from chimera.agents.context import Context
from chimera.agents.models.client import request_text
from chimera.agents.models.endpoint import Ask
from chimera.agents.toolcalls import MOST_CALLS, OTHERS
from chimera.core.action import HttpAction
from chimera.core.event import KINDS, VERSION, Event
from chimera.core.money import Window
from chimera.core.task import Task
from chimera.runtime.base import Base, TenantStores
from chimera.store.brakes import BrakeStore, Order
from chimera.store.flags import ALL as EVERY_FLAG
from chimera.store.ledger import Reservation, Settlement
from chimera.store.purge import purge
from chimera.store.tasks import Ended, HandedIn
from chimera.telemetry.redaction import conceal
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.core.test_event import rows
from tests.runtime.fleet import registry, running
from tests.runtime.receiver import Receiver, receiving
from tests.store import drive, history, test_shelves

SECRET = "tangerine-77-secret"
NAMED_FREELY = {"fleet.scaled", "key.created", "quota.set"}
"""Kinds some of whose details are named by what was decided on, or changed."""


@pytest.fixture
async def endpoint() -> AsyncIterator[MeteredEndpoint]:
    async with MeteredEndpoint([Turn(status=429, headers={"Retry-After": "0"}), Turn(text="sunny")]) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
def world(base: Base, endpoint: MeteredEndpoint, receiver: Receiver) -> Base:
    """Settings with a model, and a receiver that actions may reach."""
    update = {
        "model": "small",
        "model_url": endpoint.url,
        "model_prices": "small=1/10",
        "action_hosts": receiver.host,
    }
    return replace(base, settings=base.settings.model_copy(update=update), _stores={})


async def every(stores: TenantStores) -> list[Event]:
    return [event async for _, event in stores.recorder.read()]


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind == kind]


def hashed(text: str) -> dict[str, Any]:
    return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}


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


async def test_a_call_of_a_model_is_told_with_what_it_took_and_hashes_of_what_was_said(
    world: Base, tenant: str, receiver: Receiver
) -> None:
    events = await worked(world, tenant, receiver)
    (called,) = of(events, "model.called")
    (settled,) = of(events, "spend.settled")
    assert called.seq == settled.seq - 1, "in the step that settles it"
    details = called.details
    assert (details["model"], details["input_tokens"], details["output_tokens"]) == ("small", 10, 2)
    assert (details["cost_microusd"], details["hold"]) == (settled.details["cost"], settled.details["hold"])
    assert details["latency_ms"] >= 0
    assert details["provider_request_id"]
    ask = Ask(
        prompt="How is the weather?",
        system=None,
        schema=None,
        max_tokens=20,
        temperature=None,
        seed=None,
        timeout_s=1,
        idempotency_key="",
    )
    assert details["request"] == hashed(request_text(ask))
    assert details["reply"] == hashed("sunny")
    assert [(one["sent"], "429" in one["error"]) for one in details["tries"]] == [(False, True)]
    account = json.loads(settled.details["charge"])
    assert account["cost_microusd"] == details["cost_microusd"]
    assert not {"request", "reply", "tries", "called"} & account.keys(), "the account stays as it was"
    assert (called.task_id, called.mission_id) == ("m1.0", "m1")


async def test_tools_results_and_proposals_are_told_by_size_and_hash(
    world: Base, tenant: str, receiver: Receiver
) -> None:
    events = await worked(world, tenant, receiver)
    search, post = (event.details for event in of(events, "tool.called"))
    assert search["arguments"] == hashed(f'{{"query":"weather","token":"{SECRET}"}}')
    assert search["result"] == hashed('{"found":"sunny"}')
    assert (post["name"], post["error"], "result" in post) == ("post", "OSError: no route", False)
    (submitted,) = of(events, "task.submitted")
    assert submitted.details["result"] == hashed('{"said":"sunny"}')
    (proposed,) = of(events, "action.proposed")
    action = HttpAction(url=receiver.url, body={"said": "sunny"}).model_dump_json()
    assert proposed.details == {"index": 0, "action": hashed(action)}
    assert "sunny" not in str([event.details for event in events])


async def test_payloads_are_kept_where_it_is_asked_for_bounded_and_redacted(
    world: Base, tenant: str, receiver: Receiver
) -> None:
    conceal(SECRET)
    opted = world.settings.model_copy(update={"recorder_payloads": 40})
    events = await worked(replace(world, settings=opted, _stores={}), tenant, receiver)
    (called,) = of(events, "model.called")
    assert called.details["reply"]["text"] == "sunny"
    assert len(called.details["request"]["text"]) == 40
    assert called.details["request"]["cut"] is True
    search, _ = of(events, "tool.called")
    assert search.details["arguments"]["text"] == '{"query":"weather","token":"***"}'
    (submitted,) = of(events, "task.submitted")
    assert submitted.details["result"]["text"] == '{"said":"sunny"}'
    assert SECRET not in str([event.details for event in events])


async def test_an_attempt_tells_of_so_many_tool_calls_and_of_more_how_many(base: Base, tenant: str) -> None:
    async def busy(task: Task, ctx: Context) -> Any:
        for number in range(150):
            with ctx.tool("look", number) as call:
                call.result = number
        raise RuntimeError("no")

    async with running(base, tenant, registry(busy=busy)) as fleet:
        await fleet.submit(drive.spec(agent="busy", inputs=["x"], max_attempts=1))
        await fleet.rest()
    told = [event.details for event in of(await every(base.of(tenant)), "tool.called")]
    assert len(told) == MOST_CALLS
    assert told[-1] == {"name": OTHERS, "calls": 150 - (MOST_CALLS - 1)}


@pytest.mark.parametrize(
    "told", ["[", "7", '{"tools":7,"actions":[1,[]]}', '{"tools":[' + "[" * 2000, "x" * 2_000_000]
)
async def test_a_worker_may_say_what_it_likes_and_stops_nothing(base: Base, tenant: str, told: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    first, second = await drive.claim(stores, 2)
    handed = HandedIn(first.task_id, first.token, 1, '"done"', (), told)
    assert await stores.tasks.submit("w1", [handed], max_stale=5) == [None]
    ended = Ended(second.task_id, second.token, "error", "no", 0, told)
    assert await stores.tasks.end("w1", [ended]) == ["READY"]
    held = Reservation("h", first.task_id, 0, 400, 60)
    assert (await stores.ledger.reserve([held], term=drive.TERM, by="g"))[0] is not None
    kinds = [event.kind for event in await every(stores)]
    assert kinds.count("task.submitted") == kinds.count("task.erred") == 1


async def test_a_call_that_cannot_be_read_is_settled_all_the_same(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    for number, said in enumerate(("[", "7", '{"a":')):
        held = Reservation(f"h{number}", one.task_id, one.token, 400, 60)
        assert await stores.ledger.reserve([held], term=drive.TERM, by="g") == [None]
        paid = Settlement(f"h{number}", 300, "", 0, "", "", said)
        assert await stores.ledger.settle([paid], term=drive.TERM, by="g", **drive.KEEP) == [None]
    assert len(of(await every(stores), "spend.settled")) == 3


# Each kind.


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


async def an_operator_acts(base: Base, tenant: str) -> None:
    await base.tenants.create(tenant, by="eve")
    await base.tenants.set_quota(tenant, {"weight": 2}, "q", by="eve")
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


async def test_every_kind_is_provoked_once(world: Base, tenant: str, receiver: Receiver, base: Base) -> None:
    events = await worked(world, tenant, receiver)
    await attempts_end_in_every_way(base, tenant)
    await others_wait_fail_and_come_back(base, tenant)
    await money_moves(base, tenant)
    await an_action_is_given_up(base, tenant)
    events = await every(base.of(tenant))
    large, operated = f"{tenant}-large", f"{tenant}-operated"
    stores = await test_shelves.begin(base, large)
    await test_shelves.work(stores)
    await test_shelves.shelver(base).tend(large, term=drive.TERM)
    await an_operator_acts(base, operated)
    events += [*await every(stores), *await every(base.of(operated))]
    assert {event.kind for event in events} == set(KINDS)
    tabled = {kind: set(re.findall(r"`(\w+)`", details)) for kind, (_, _, details) in rows().items()}
    told = {
        (event.kind, name) for event in events for name in event.details if event.kind not in NAMED_FREELY
    }
    assert {f"{kind}: {name}" for kind, name in told if name not in tabled[kind]} == set()
    assert {event.v for event in events} == {VERSION}
    assert len({event.id for event in events}) == len(events)
    assert {event.id.split("/")[0] for event in events} == {tenant, large, operated}
    assert all(Event.model_validate_json(event.model_dump_json()) == event for event in events)
