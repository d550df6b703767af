"""Money on its way: nothing is forgotten, nothing is paid twice, nothing is sent unreserved."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from chimera.agents.context import Context
from chimera.agents.purse import Charge, Keep
from chimera.agents.registry import Registry
from chimera.chaos.calls import COST_MICROUSD, PRICES_USD
from chimera.chaos.journal import read
from chimera.core.event import Event
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.errors import BudgetExceeded, RefusalKind, StoreError
from chimera.judging.boundaries import load_boundaries
from chimera.runtime import desk as desks
from chimera.runtime.base import Base, base_of, open_base
from chimera.runtime.desk import Desk
from chimera.runtime.executor import _stopped
from chimera.runtime.judge import Judge
from chimera.serving.local.ports import free_port
from chimera.serving.local.process import spawn
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from chimera.store import keys
from chimera.store.requests import written
from chimera.store.signals import Wakeups
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.relay import Relay
from tests.runtime.fleet import Processes, governing, registry, running
from tests.store import drive

CHARGE = Charge("m", 1, 1, 30, "test")


@asynccontextmanager
async def desk_of(base: Base, tenant: str, asker: str = "w1", wait_s: float = 0.2) -> AsyncIterator[Desk]:
    """A worker's desk."""
    desk = Desk(base.redis, base.blocking, tenant, asker, wait_s=wait_s)
    desk.start()
    try:
        yield desk
    finally:
        await desk.stop()


async def until(holds: Callable[[], Awaitable[Any]], timeout_s: float = 15) -> None:
    """Look again and again: nothing tells of what is looked for."""
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)


async def events(base: Base, tenant: str, *kinds: str) -> list[Event]:
    return [event async for _, event in base.of(tenant).recorder.read() if event.kind in kinds]


async def test_a_broken_request_stops_nobodys_money(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (claim,) = await drive.claim(stores)
    half = json.dumps({"do": "find", "id": "i", "from": "\ud800", "task": "m1.0", "round": 0, "call": "c"})
    broken = ("no json", json.dumps({"do": "reserve", "id": 7}), b"\xff\xfe", "[" * 100_000, half)
    await base.redis.rpush(stores.ledger.keys.requests, *broken)
    async with desk_of(base, tenant) as desk, governing(base, tenant):
        hold = await desk.reserve(claim.task_id, claim.token, 100, 60)
        await desk.settle(hold, 30, CHARGE)
        await until(lambda: no_requests(base, stores.ledger.keys.requests))


async def test_what_is_asked_while_the_governor_is_away_is_done_once_by_the_next(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(20))))
    claims = await drive.claim(stores, 20)
    requests = stores.ledger.keys.requests
    async with desk_of(base, tenant) as desk:
        async with governing(base, tenant, "one"):
            before = await desk.reserve(claims[0].task_id, claims[0].token, 100, 60)
        # Settling needs no governor: it stands in the store, and this returns at once.
        async with asyncio.timeout(desks.ASK_AGAIN_S):
            await desk.settle(before, 30, CHARGE)
        asked = [asyncio.create_task(desk.reserve(one.task_id, one.token, 100, 60)) for one in claims]
        # Each asked again, and again.
        await until(lambda: at_least(base, requests, 1 + 3 * 20))
        assert not any(task.done() for task in asked)
        balance = await stores.ledger.balance()
        assert (balance.held, balance.settled) == (100, {}), "nothing new is spent"
        raw = {"do": "reserve", "id": "raw", "from": "x", "task": claims[0].task_id, "token": claims[0].token}
        await stores.requests.send("test", "op1", [written(raw | {"amount": 7, "ttl_s": 60})] * 3)
        async with governing(base, tenant, "two"):
            holds = await asyncio.gather(*asked)
            await until(lambda: no_requests(base, requests))
        assert len(set(holds)) == 20
        balance = await stores.ledger.balance()
        assert (balance.held, balance.settled["lifetime"]) == (20 * 100 + 7, 30)
        held = await events(base, tenant, "spend.held")
        assert Counter(event.details["hold"] for event in held) == Counter([before, *holds, "raw"])
        assert {event.by for event in held} == {"one", "two"}
        answers = await base.redis.lrange(stores.ledger.keys.of("answers", "x"), 0, -1)
        assert [json.loads(answer) for answer in answers] == [{"id": "raw", "code": "granted"}]


async def at_least(base: Base, key: str, n: int) -> bool:
    return bool(await base.redis.llen(key) >= n)


async def no_requests(base: Base, key: str) -> bool:
    return bool(await base.redis.llen(key) == 0)


async def test_without_a_governor_only_paid_work_waits_and_goes_on_by_itself(base: Base, tenant: str) -> None:
    async def free(task: Task, ctx: Context) -> Any:
        return task.input

    async def paid(task: Task, ctx: Context) -> Any:
        hold = await ctx.model.purse.reserve(amount_microusd=100, model="m", agent="paid", ttl_s=60)
        await ctx.model.purse.settle(hold, cost_microusd=30, charge=CHARGE)
        return task.input

    async with running(base, tenant, registry(free=free, paid=paid), governed=False) as fleet:
        await fleet.submit(drive.spec(agent="paid", inputs=list(range(8))), "m1")
        await fleet.submit(drive.spec(agent="free", inputs=list(range(8))), "m2")
        assert (await fleet.rest("m2")).counts["ACCEPTED"] == 8
        await until(lambda: at_least(base, fleet.stores.ledger.keys.requests, 3 * 8))
        assert (await fleet.stores.missions.get("m1")).counts["PENDING"] == 8
        async with governing(base, tenant, "one"):
            mission = await fleet.rest()
            await until(lambda: no_requests(base, fleet.stores.ledger.keys.requests))
        mission = await fleet.stores.missions.get("m1")
        assert (mission.counts["ACCEPTED"], mission.tallies) == (8, {})
        assert (mission.settled_microusd, mission.held_microusd) == (8 * 30, 0)


async def test_a_settlement_survives_its_worker_and_is_found_by_the_next(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    async with desk_of(base, tenant) as desk:
        async with governing(base, tenant, "one"):
            hold = await desk.reserve(one.task_id, one.token, 100, 60)
        await desk.settle(hold, 30, CHARGE, Keep("call", "reply"))
    # The worker is gone, and no governor has read it. The next one looks at once.
    async with desk_of(base, tenant, "w2") as desk:
        found = asyncio.create_task(desk.find(one.task_id, 0, "call"))
        async with governing(base, tenant, "two"):
            assert await found == "reply"
            assert await desk.find(one.task_id, 0, "another") is None
            assert await desk.find(one.task_id, 1, "call") is None
    assert (await stores.missions.get("m1")).settled_microusd == 30


async def test_who_gave_up_asking_holds_nothing_afterwards(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desks, "GIVE_UP_S", 0.3)
    stores = await drive.begin(base, tenant, drive.spec())
    first, second = await drive.claim(stores, 2)
    requests = stores.ledger.keys.requests
    async with desk_of(base, tenant) as desk:
        with pytest.raises(StoreError, match="nothing is spent"):
            await desk.reserve(first.task_id, first.token, 100, 60)
        cancelled = asyncio.create_task(desk.reserve(second.task_id, second.token, 100, 60))
        await until(lambda: at_least(base, requests, 3))
        cancelled.cancel()
        await until(lambda: at_least(base, requests, 4))
        async with governing(base, tenant):
            await until(lambda: no_requests(base, requests))
    assert (await stores.ledger.balance()).held == 0


async def test_calls_at_once_have_a_hold_each_and_share_their_batches(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(50))))
    claims = await drive.claim(stores, 50)
    async with desk_of(base, tenant) as desk, governing(base, tenant):
        holds = await asyncio.gather(*(desk.reserve(one.task_id, one.token, 10, 60) for one in claims))
        assert await asyncio.gather(*map(desk.sent, holds)) == [True] * 50
        entries = await base.redis.xrange(stores.ledger.keys.log)
        assert len(set(holds)) == 50
        held = [entry for _, entry in entries if "spend.held" in entry["events"]]
        assert len(held) <= 5, "each batch is one script call, and so one entry"
        await asyncio.gather(*(desk.settle(hold, 1, CHARGE) for hold in holds))
        await until(lambda: no_requests(base, stores.ledger.keys.requests))
    assert (await stores.missions.get("m1")).settled_microusd == 50


async def test_a_contended_call_waits_in_place_then_is_handed_back_uncounted(base: Base, tenant: str) -> None:
    holds, go_on = asyncio.Event(), asyncio.Event()

    async def pays(task: Task, ctx: Context) -> Any:
        hold = await ctx.model.purse.reserve(amount_microusd=100, model="m", agent="pays", ttl_s=60)
        holds.set()
        await go_on.wait()
        await ctx.model.purse.settle(hold, cost_microusd=30, charge=CHARGE)
        return task.input

    patient = replace(base, settings=base.settings.model_copy(update={"reserve_wait_s": 1}))
    async with running(patient, tenant, registry(pays=pays)) as fleet:
        # Both ask at once, and there is room for one.
        await fleet.submit(
            drive.spec(agent="pays", inputs=[1, 2], budget_usd=Decimal("0.00015"), max_attempts=1)
        )
        await holds.wait()
        await fleet.until(lambda mission: mission.counts["READY"] == 1)
        (returned,) = await events(base, tenant, "task.returned")
        refusals = await events(base, tenant, "spend.refused")
        assert {event.details["kind"] for event in refusals} == {"contended"}
        assert {event.task_id for event in refusals} == {returned.task_id}
        assert len(refusals) >= 2, "it waited in place first"
        go_on.set()
        mission = await fleet.rest()
    assert (mission.counts["ACCEPTED"], mission.tallies) == (2, {})


async def test_a_call_that_fits_after_a_far_reset_does_not_wait_in_place_and_asks_again_each_minute(
    base: Base, tenant: str
) -> None:
    """The limit may be raised long before its reset."""
    stores = await drive.begin(base, tenant, drive.spec(budget_usd=Decimal(1)))
    await stores.ledger.set_limits({"year": 100}, by="t")
    async with governing(base, tenant), desk_of(base, tenant, wait_s=600) as desk:
        hold = await desk.reserve("m1", 0, 60, 60)
        await desk.settle(hold, 60)
        async with asyncio.timeout(30):
            with pytest.raises(BudgetExceeded) as refused:
                await desk.reserve("m1", 0, 60, 60)
    assert (refused.value.kind, refused.value.level) == (RefusalKind.WINDOW, "tenant/year")
    far = BudgetExceeded(RefusalKind.WINDOW, "tenant/year", 100, 60, 0, 60, 7_000_000)
    assert _stopped(far).delay_s == 60
    never = BudgetExceeded(RefusalKind.EXHAUSTED, "tenant/day", 100, 0, 0, 500)
    assert _stopped(never).delay_s == 60, "until somebody raises it"
    over = BudgetExceeded(RefusalKind.EXHAUSTED, "mission", 100, 100, 0, 500)
    assert _stopped(over).delay_s < 60, "the hub ends the mission before"


async def test_holds_end_although_the_governor_is_never_left_in_peace(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores, lease_s=30)
    async with desk_of(base, tenant) as desk, governing(base, tenant):
        await desk.sent(await desk.reserve(one.task_id, one.token, 100, 0.1))

        async def chatter() -> None:
            while True:
                with pytest.raises(BudgetExceeded):
                    await desk.reserve(one.task_id, one.token, 10**9, 60)

        busy = asyncio.create_task(chatter())
        await until(lambda: settled(base, tenant, 100))
        busy.cancel()


async def settled(base: Base, tenant: str, cost: int) -> bool:
    return (await base.of(tenant).missions.get("m1")).settled_microusd == cost


async def test_a_call_whose_mark_has_no_answer_does_not_leave_and_costs_nothing(
    base: Base, tenant: str, redis_server: RedisServer
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    async with desk_of(base, tenant) as desk, governing(base, tenant), Relay(redis_server.port) as relay:
        hold = await desk.reserve(one.task_id, one.token, 100, 60)
        url = f"redis://:{redis_server.password}@127.0.0.1:{relay.port}/0"
        far = base_of(base.settings.model_copy(update={"redis_url": SecretStr(url)}))
        async with desk_of(far, tenant, "far") as cut:
            assert not await cut.sent("none")  # connected, and the script is known
            relay.cut_next_answer = True
            with pytest.raises(StoreError):
                await cut.sent(hold)
        await far.close()
        # It was marked all the same; who may not send gives the hold back.
        assert await base.redis.hget(stores.ledger.keys.sent, hold) == "1"
        await desk.settle(hold, None)
        await until(lambda: no_requests(base, stores.ledger.keys.requests))
    balance = await stores.ledger.balance()
    assert (balance.held, balance.settled) == (0, {})


@dataclass(frozen=True)
class Metered:
    """The drill's endpoint, and what it wrote down."""

    port: int
    journal: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def served(self) -> list[dict[str, Any]]:
        return [call for call in read(self.journal) if call["event"] == "served"]

    async def misbehave(self, kind: str, for_s: float) -> None:
        async with httpx.AsyncClient(base_url=self.url) as client:
            (await client.post("/misbehave", json={"kind": kind, "for_s": for_s})).raise_for_status()


@pytest.fixture
async def metered(tmp_path: Path) -> AsyncIterator[Metered]:
    made = Metered(free_port(), tmp_path / "calls.ndjson")
    arguments = ["-m", "chimera.chaos.endpoint", "--port", str(made.port), "--calls", str(made.journal)]
    for name in ("hooks", "probes"):
        arguments += [f"--{name}", str(made.journal.with_name(f"{name}.ndjson"))]
    process = spawn([sys.executable, *arguments], log=tmp_path / "endpoint.log")
    try:
        async with httpx.AsyncClient(base_url=made.url) as client:
            await until(lambda: listens(client))
        yield made
    finally:
        process.kill()
        await asyncio.to_thread(process.wait)


async def listens(client: httpx.AsyncClient) -> bool:
    try:
        await client.get("/")
    except httpx.TransportError:
        return False
    return True


@pytest.fixture
def killable(redis_server: RedisServer, tmp_path: Path, metered: Metered) -> Processes:
    """Workers that are processes, and call the endpoint."""
    return Processes(
        load(
            redis_url=redis_server.url,
            state_dir=tmp_path,
            hold_ttl_s=1,
            model="metered",
            model_url=f"{metered.url}/v1",
            model_timeout_s=2,
            model_retries=0,
            model_price_input_usd=PRICES_USD["CHIMERA_MODEL_PRICE_INPUT_USD"],
            model_price_output_usd=PRICES_USD["CHIMERA_MODEL_PRICE_OUTPUT_USD"],
        )
    )


async def test_a_worker_killed_between_two_calls_costs_the_first_one_once(
    base: Base, tenant: str, killable: Processes, metered: Metered
) -> None:
    async with running(base, tenant, Registry(), killable) as fleet:
        await fleet.submit(drive.spec(agent="pays-twice", inputs=["x"], task_timeout_s=60))
        victim = await killable.heard("between")
        await killable.end(tenant, victim)
        mission = await fleet.rest(timeout_s=40)
        await until(lambda: nothing_kept(base, tenant))
    assert mission.status is MissionStatus.COMPLETED
    assert (await fleet.stores.tasks.get("m1.0")).attempt == 2
    assert [call["task"] for call in metered.served()] == ["m1.0 first", "m1.0 second"]
    assert mission.settled_microusd == 2 * COST_MICROUSD


async def nothing_kept(base: Base, tenant: str) -> bool:
    return not await base.redis.keys(f"{base.of(tenant).ledger.keys.root}g:kept:*")


async def test_a_worker_killed_during_a_call_pays_again_under_the_same_key_and_both_are_charged(
    base: Base, tenant: str, killable: Processes, metered: Metered
) -> None:
    async with running(base, tenant, Registry(), killable) as fleet:
        await metered.misbehave("hang", 600)
        await fleet.submit(drive.spec(agent="pays-once", inputs=["x"], task_timeout_s=60))
        await until(lambda: calls(metered, 1), timeout_s=30)
        await metered.misbehave("", 0)
        (victim,) = killable.running
        await killable.end(tenant, victim)
        assert (await fleet.rest(timeout_s=40)).status is MissionStatus.COMPLETED
        (held, _) = await events(base, tenant, "spend.held")
        worst = held.details["amount"]
        await until(lambda: settled(base, tenant, worst + COST_MICROUSD))
    first, second = metered.served()
    assert first["key"] == second["key"] != ""
    (expired,) = await events(base, tenant, "spend.expired")
    assert (expired.details["sent"], expired.details["cost"]) == (True, worst)


async def calls(metered: Metered, n: int) -> bool:
    return len(metered.served()) >= n


async def test_an_opinion_that_was_paid_is_not_paid_again_when_its_judge_dies(
    settings: Settings, tenant: str
) -> None:
    opinion = Turn('{"score": 0.99, "feedback": ""}')
    policies = [{"policy": "llm", "rubric": rubric} for rubric in ("Is it short?", "Is it true?")]

    async def echo(task: Task, ctx: Context) -> Any:
        return task.input

    # The second question hangs until the judge is gone.
    async with MeteredEndpoint([opinion, Turn(never=True), opinion]) as endpoint:
        mine = settings.model_copy(
            update={"model": "author", "judge_model": "critic", "model_url": endpoint.url}
        )
        base = await open_base(mine)
        await base.tenants.add(tenant)
        async with running(base, tenant, registry(echo=echo)) as fleet:
            await fleet.submit(drive.spec(inputs=["x"], judge=policies, budget_usd=Decimal(10)))
            await until(lambda: asked(endpoint, 2))
            await fleet.judge.stop()
            async with Wakeups(base.blocking, keys.REVIEWS) as wakeups:
                another = Judge(base, "another", wakeups, load_boundaries(None))
                another.start()
                mission = await fleet.rest()
                await another.stop()
        verdicts = (await fleet.stores.tasks.get("m1.0")).verdicts
        await base.tenants.remove(tenant)
        await base.close()
    assert mission.status is MissionStatus.COMPLETED
    assert [one.judge for one in verdicts] == ["another"]
    said = [seen.body["messages"][-1]["content"] for seen in endpoint.seen]
    assert ["short" in text for text in said] == [True, False, False]


async def asked(endpoint: MeteredEndpoint, n: int) -> bool:
    return endpoint.calls >= n
