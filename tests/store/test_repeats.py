"""Every transition may be sent twice: once more after an answer, or again because the answer was lost.

Each case sets a tenant's stage and names one call. Three tenants play it: one calls once, one calls
twice, one loses the first answer on the wire and calls again. All three must end with the same answer
and the same state, times and tokens aside.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from importlib.resources import files
from typing import Any

import pytest
from pydantic import SecretStr

from chimera.core.brake import Brake, BrakeCause, BrakeState, Decision
from chimera.core.event import Position
from chimera.core.gauges import Gauges
from chimera.core.scope import ALL
from chimera.core.series import Sample
from chimera.core.sinkviews import DeadLetter
from chimera.core.tally import Tally
from chimera.core.tenant import Quota
from chimera.errors import AlreadyExists, ChimeraError, NotFound, StoreError
from chimera.runtime.base import Base, TenantStores, base_of
from chimera.serving.local.redis_server import RedisServer
from chimera.store.archive import FIRST
from chimera.store.audit import Audit
from chimera.store.brakes import BrakeStore, Move, Order
from chimera.store.connection import connect_sync
from chimera.store.elections import Election
from chimera.store.exports import EVERY, Exports
from chimera.store.flags import ALL as EVERY_FLAG
from chimera.store.fleetledger import FleetLedger
from chimera.store.keys import TenantKeys
from chimera.store.ledger import Reservation, Settlement
from chimera.store.pruning import Mark
from chimera.store.rates import Rates
from chimera.store.removed import Removed
from chimera.store.requests import written
from chimera.store.scripts import Scripts, SyncScripts
from chimera.store.series import add as add_samples
from chimera.store.sinks import Cursor, Stand
from chimera.store.spares import SpareStore
from chimera.store.spokes import SwarmElection
from chimera.store.tasks import Ended, Heartbeat
from tests.relay import Relay
from tests.store import drive

Call = Callable[[Base, str], Awaitable[Any]]


@dataclass(frozen=True)
class Case:
    """One call of one script.

    Attributes:
        script: the Lua file it runs.
        stage: prepares a tenant, and gives the call.
        sweep: it takes whatever is due, so that a second call answers that nothing is left.
    """

    script: str
    name: str
    stage: Callable[[Base, str], Awaitable[Call]]
    sweep: bool = False


CASES: list[Case] = []


def case(script: str, *, sweep: bool = False) -> Callable[[Any], Any]:
    def add(stage: Callable[[Base, str], Awaitable[Call]]) -> Any:
        CASES.append(Case(script, stage.__name__, stage, sweep))
        return stage

    return add


async def leased(base: Base, tenant: str, **fields: Any) -> tuple[TenantStores, Any]:
    stores = await drive.begin(base, tenant, drive.spec(**{"inputs": [1, 2], **fields}))
    (one, *_) = await drive.claim(stores, 1, claim_id="c0")
    return stores, one


async def reviewed(base: Base, tenant: str, **fields: Any) -> tuple[TenantStores, Any]:
    stores, one = await leased(base, tenant, **fields)
    assert await drive.hand_in(stores, one) is None
    (held,) = await stores.reviews.claim("j1", "r0", lease_s=5, most=1)
    return stores, held


async def escalated(base: Base, tenant: str) -> TenantStores:
    stores, held = await reviewed(base, tenant)
    assert await drive.judge(stores, held, drive.verdict("escalate", 0.8)) is None
    return stores


async def holding(base: Base, tenant: str, ttl_s: float = 60) -> TenantStores:
    stores, one = await leased(base, tenant)
    asked = Reservation("h0", one.task_id, one.token, 400, ttl_s)
    assert await stores.ledger.reserve([asked], term=drive.TERM, by="g") == [None]
    return stores


@case("submit_mission")
async def submit(base: Base, tenant: str) -> Call:
    return lambda at, who: drive.submit(at, who, drive.spec(), idempotency_key="key")


@case("submit_mission")
async def submit_planned_at_once(base: Base, tenant: str) -> Call:
    return lambda at, who: drive.submit(at, who, drive.spec(), idempotency_key="key", at_once=True)


@case("submit_mission")
async def submit_planned_at_once_at_the_quota(base: Base, tenant: str) -> Call:
    await drive.begin(base, tenant, drive.spec(), "m0")
    return lambda at, who: drive.submit(
        at, who, drive.spec(), idempotency_key="key", max_ready=3, at_once=True
    )


@case("submit_mission")
async def submit_at_the_quota(base: Base, tenant: str) -> Call:
    await drive.begin(base, tenant, drive.spec(), "m0")
    return lambda at, who: drive.submit(at, who, drive.spec(), idempotency_key="key", max_ready=3)


@case("acknowledge_flags")
async def acknowledge_a_flag(base: Base, tenant: str) -> Call:
    stores, one = await leased(base, tenant, budget_usd="0.0001")
    asked = Reservation("h0", one.task_id, one.token, 400, 60)
    (refused,) = await stores.ledger.reserve([asked], term=drive.TERM, by="g")
    assert refused is not None
    return lambda at, who: at.of(who).flags.acknowledge([EVERY_FLAG], "op", by="eve", comment="seen")


@case("set_quota")
async def set_quota(base: Base, tenant: str) -> Call:
    await base.tenants.add(tenant)
    return lambda at, who: at.tenants.set_quota(who, {"weight": 2, "burst": None}, "op", by="t")


async def removed(base: Base, tenant: str) -> None:
    await base.tenants.add(tenant)
    await drive.over(base, tenant)
    await base.tenants.wind_up(tenant, "op", by="eve", reason="gone")


@case("purge_tenant")
async def purge_a_mission(base: Base, tenant: str) -> Call:
    await removed(base, tenant)
    return lambda at, who: Scripts(at.redis).run("purge_tenant", [TenantKeys(who).root], "m1", 100)


@case("take_requests")
async def take_requests(base: Base, tenant: str) -> Call:
    quota = Quota(requests_per_s=0.001, burst=5)
    return lambda at, who: Rates(at.redis, "g1", quota).take(who, "take", 3)


@case("plan_tasks")
async def plan(base: Base, tenant: str) -> Call:
    await drive.submit(base, tenant, drive.spec())
    return lambda at, who: drive.plan(at, who, drive.spec())


@case("claim_tasks")
async def claim(base: Base, tenant: str) -> Call:
    await drive.begin(base, tenant, drive.spec())
    return lambda at, who: drive.claim(at.of(who), 2, claim_id="c1")


@case("renew_leases")
async def renew(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant)

    def beat(at: Base, who: str) -> Any:
        connection = connect_sync(at.settings)
        try:
            heartbeat = Heartbeat(SyncScripts(connection), who, "w1", pid=7)
            renewal = heartbeat.renew([(one.task_id, one.token), ("m1.1", 1)], lease_s=5, slots=4, busy=1)
            return renewal.drain, sorted(map(repr, renewal.lost)), renewal.overdue
        finally:
            connection.close()

    return lambda at, who: asyncio.to_thread(beat, at, who)


@case("renew_leases")
async def renew_what_a_rescue_took(base: Base, tenant: str) -> Call:
    stores, one = await leased(base, tenant)
    await stores.tasks.release("w1", "hub")

    def beat(at: Base, who: str) -> Any:
        connection = connect_sync(at.settings)
        try:
            heartbeat = Heartbeat(SyncScripts(connection), who, "w1", pid=7)
            return repr(heartbeat.renew([one.lease], lease_s=5, slots=4, busy=1).lost)
        finally:
            connection.close()

    return lambda at, who: asyncio.to_thread(beat, at, who)


@case("submit_results")
async def hand_in(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant)
    return lambda at, who: drive.hand_in(at.of(who), one)


@case("submit_results")
async def hand_in_stale(base: Base, tenant: str) -> Call:
    stores, one = await leased(base, tenant)
    await stores.missions.edit("m1", "e0", by="t", goal="other")
    return lambda at, who: drive.hand_in(at.of(who), one)


@case("end_attempts")
async def end_with_an_error(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant)
    return lambda at, who: at.of(who).tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])


@case("end_attempts")
async def end_for_good(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant, max_attempts=1)
    return lambda at, who: at.of(who).tasks.end("w1", [Ended(one.task_id, one.token, "timeout", "late", 0)])


@case("end_attempts")
async def hand_back(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant)
    return lambda at, who: at.of(who).tasks.end("w1", [Ended(one.task_id, one.token, "return", "", 60)])


@case("rescue_leases", sweep=True)
async def rescue(base: Base, tenant: str) -> Call:
    stores = await drive.begin(base, tenant, drive.spec())
    await drive.claim(stores, 2, claim_id="c0", lease_s=0)
    return lambda at, who: at.of(who).tasks.rescue("hub", lease_s=1)


@case("release_worker", sweep=True)
async def release(base: Base, tenant: str) -> Call:
    stores = await drive.begin(base, tenant, drive.spec())
    await drive.claim(stores, 2, claim_id="c0")
    return lambda at, who: at.of(who).tasks.release("w1", "hub")


@case("leave_worker")
async def leave(base: Base, tenant: str) -> Call:
    connection = connect_sync(base.settings)
    Heartbeat(SyncScripts(connection), tenant, "w1", pid=7).renew([], lease_s=5, slots=4, busy=0)
    connection.close()
    return lambda at, who: at.of(who).tasks.leave("w1", "drained")


@case("claim_reviews")
async def claim_reviews(base: Base, tenant: str) -> Call:
    stores, one = await leased(base, tenant)
    await drive.hand_in(stores, one)
    return lambda at, who: at.of(who).reviews.claim("j1", "r1", lease_s=5, most=5)


@case("renew_reviews")
async def renew_reviews(base: Base, tenant: str) -> Call:
    _, held = await reviewed(base, tenant)
    return lambda at, who: at.of(who).reviews.renew([(held.task_id, held.token), ("m1.1", 1)], lease_s=5)


def verdict_of(decision: str, confidence: float) -> Any:
    async def stage(base: Base, tenant: str) -> Call:
        _, held = await reviewed(base, tenant)
        return lambda at, who: drive.judge(at.of(who), held, drive.verdict(decision, confidence, "more"))

    stage.__name__ = f"verdict_{decision}"
    return stage


for decision, confidence in (("accept", 1.0), ("reject", 0.2), ("escalate", 0.8)):
    case("commit_verdicts")(verdict_of(decision, confidence))


@case("commit_verdicts")
async def verdict_on_a_stale_result(base: Base, tenant: str) -> Call:
    stores, held = await reviewed(base, tenant)
    await stores.missions.edit("m1", "e0", by="t", goal="other")
    return lambda at, who: drive.judge(at.of(who), held)


def returned(max_failures: int) -> Any:
    async def stage(base: Base, tenant: str) -> Call:
        _, held = await reviewed(base, tenant)
        return lambda at, who: at.of(who).reviews.give_back(
            "j1", [(held, "model away", True)], max_failures=max_failures
        )

    stage.__name__ = f"review_returned_of_{max_failures}"
    return stage


for most in (1, 3):
    case("return_reviews")(returned(most))


def answered(decision: str) -> Any:
    async def stage(base: Base, tenant: str) -> Call:
        await escalated(base, tenant)
        made = drive.verdict(decision, feedback="why")
        return lambda at, who: at.of(who).reviews.answer("m1.0", "op", verdict=made, by="eve", max_stale=5)

    stage.__name__ = f"human_{decision}"
    return stage


for decision in ("accept", "reject"):
    case("answer_review")(answered(decision))


@case("answer_review")
async def human_accepts_what_is_stale(base: Base, tenant: str) -> Call:
    stores = await escalated(base, tenant)
    await stores.missions.edit("m1", "e0", by="t", goal="other")
    made = drive.verdict("accept")
    return lambda at, who: at.of(who).reviews.answer("m1.0", "op", verdict=made, by="eve", max_stale=5)


@case("submit_results")
async def hand_in_with_actions(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant)
    return lambda at, who: drive.hand_in(at.of(who), one, actions=[drive.HOOK, drive.HOOK])


@case("commit_verdicts")
async def accept_with_actions(base: Base, tenant: str) -> Call:
    stores, one = await leased(base, tenant)
    await drive.hand_in(stores, one, actions=[drive.HOOK, drive.HOOK])
    (held,) = await stores.reviews.claim("j1", "r0", lease_s=5, most=1)
    return lambda at, who: drive.judge(at.of(who), held)


@case("claim_actions")
async def claim_actions(base: Base, tenant: str) -> Call:
    await drive.accept_with(base, tenant)

    async def call(at: Base, who: str) -> Any:
        taken = await drive.errands(at.of(who), claim_id="e0")
        return [(one.action_id, one.token, one.tries, one.action_json) for one in taken]

    return call


def reported(outcome: str) -> Any:
    async def stage(base: Base, tenant: str) -> Call:
        stores = await drive.accept_with(base, tenant)
        (one,) = await drive.errands(stores, claim_id="e0")
        return lambda at, who: drive.report(at.of(who), one, outcome, delay_s=60)

    stage.__name__ = f"report_{outcome}"
    return stage


for outcome_ in ("done", "retry", "failed"):
    case("report_actions")(reported(outcome_))


@case("report_actions")
async def report_late(base: Base, tenant: str) -> Call:
    stores = await drive.accept_with(base, tenant)
    (late,) = await drive.errands(stores, claim_id="e0", lease_s=0)
    await drive.errands(stores, "c2", claim_id="e0")
    return lambda at, who: drive.report(at.of(who), late)


@case("retry_actions")
async def retry_actions(base: Base, tenant: str) -> Call:
    stores = await drive.accept_with(base, tenant)
    (one,) = await drive.errands(stores, claim_id="e0")
    await drive.report(stores, one, "failed")
    return lambda at, who: at.of(who).actions.retry("m1", [one.action_id], "op", by="eve")


@case("edit_mission")
async def edit(base: Base, tenant: str) -> Call:
    await drive.begin(base, tenant, drive.spec())
    return lambda at, who: at.of(who).missions.edit("m1", "op", by="t", goal="other", context={"a": 1})


@case("cancel_mission")
async def cancel(base: Base, tenant: str) -> Call:
    await leased(base, tenant)
    return lambda at, who: at.of(who).missions.cancel("m1", by="t", reason="enough")


@case("pause_mission")
async def pause(base: Base, tenant: str) -> Call:
    await leased(base, tenant)
    return lambda at, who: at.of(who).missions.pause("m1", "op", by="t")


@case("resume_mission")
async def resume(base: Base, tenant: str) -> Call:
    stores, _ = await reviewed(base, tenant)
    await stores.missions.pause("m1", "p0", by="t")
    return lambda at, who: at.of(who).missions.resume("m1", "op", by="t")


async def failed(base: Base, tenant: str) -> TenantStores:
    stores, one = await leased(base, tenant, inputs=[1], max_attempts=1)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    await stores.missions.settle("m1", term=drive.TERM, by="hub")
    return stores


@case("redrive_tasks")
async def redrive(base: Base, tenant: str) -> Call:
    await failed(base, tenant)
    return lambda at, who: at.of(who).missions.redrive("m1", ["m1.0"], "op", by="t")


@case("revive_tasks", sweep=True)
async def revive(base: Base, tenant: str) -> Call:
    stores = await failed(base, tenant)
    await stores.missions.redrive("m1", ["m1.0"], "op", by="t")
    return lambda at, who: at.of(who).missions.revive("m1", term=drive.TERM, by="hub")


@case("settle_mission")
async def settle_mission(base: Base, tenant: str) -> Call:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    await drive.finish(stores, 1)
    return lambda at, who: at.of(who).missions.settle("m1", term=drive.TERM, by="hub")


@case("sweep_mission", sweep=True)
async def sweep(base: Base, tenant: str) -> Call:
    stores, _ = await leased(base, tenant)
    await stores.missions.cancel("m1", by="t", reason="enough")
    return lambda at, who: at.of(who).missions.sweep("m1", term=drive.TERM, by="hub")


@case("pass_failures", sweep=True)
async def pass_failures(base: Base, tenant: str) -> Call:
    nodes = [{"name": "a", "input": 1}, {"name": "b", "depends_on": ["a"]}]
    mission = drive.spec(inputs=[], plan={"strategy": "dag", "nodes": nodes}, max_attempts=1)
    stores = await drive.begin(base, tenant, mission)
    (one,) = await drive.claim(stores, 1, claim_id="c0")
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    return lambda at, who: at.of(who).missions.pass_failures(term=drive.TERM, by="hub")


@case("reserve_holds")
async def reserve(base: Base, tenant: str) -> Call:
    _, one = await leased(base, tenant)
    asked = [Reservation("h0", one.task_id, one.token, 400, 60)]
    return lambda at, who: at.of(who).ledger.reserve(asked, term=drive.TERM, by="g")


def settled(cost: int | None) -> Any:
    async def stage(base: Base, tenant: str) -> Call:
        await holding(base, tenant)
        done = [Settlement("h0", cost, "{}", 0, "call", "reply")]
        return lambda at, who: at.of(who).ledger.settle(done, term=drive.TERM, by="g", **drive.KEEP)

    stage.__name__ = "release" if cost is None else "settle"
    return stage


for cost in (100, None):
    case("settle_holds")(settled(cost))


@case("settle_holds")
async def settle_late(base: Base, tenant: str) -> Call:
    stores = await holding(base, tenant, ttl_s=0)
    await stores.requests.sent(["h0"])
    assert await stores.ledger.expire(term=drive.TERM, by="g") == 1
    done = [Settlement("h0", 30)]
    return lambda at, who: at.of(who).ledger.settle(done, term=drive.TERM, by="g", **drive.KEEP)


@case("send_holds")
async def send(base: Base, tenant: str) -> Call:
    await holding(base, tenant)
    return lambda at, who: at.of(who).requests.sent(["h0", "none"])


@case("forget_replies")
async def forget(base: Base, tenant: str) -> Call:
    stores = await holding(base, tenant)
    kept = [Settlement("h0", 30, "{}", 0, "call", "reply")]
    await stores.ledger.settle(kept, term=drive.TERM, by="g", **drive.KEEP)
    return lambda at, who: at.of(who).ledger.forget([("m1.0", 0)], term=drive.TERM)


def expired(sent: bool) -> Any:
    async def stage(base: Base, tenant: str) -> Call:
        stores = await holding(base, tenant, ttl_s=0)
        if sent:
            await stores.requests.sent(["h0"])
        return lambda at, who: at.of(who).ledger.expire(term=drive.TERM, by="g")

    stage.__name__ = "expire_sent" if sent else "expire_unsent"
    return stage


for sent in (True, False):
    case("expire_holds", sweep=True)(expired(sent))


@case("set_limits")
async def set_limits(base: Base, tenant: str) -> Call:
    return lambda at, who: at.of(who).ledger.set_limits({drive.DAY: 5_000_000}, by="t")


@case("change_limits")
async def change_limits(base: Base, tenant: str) -> Call:
    changes = {"day": None, "agent/a/hour": 7}
    await base.of(tenant).ledger.set_limits({drive.DAY: 5_000_000}, by="t")
    return lambda at, who: at.of(who).ledger.change_limits(changes, "op", by="t", reason="why")


@case("reserve_holds")
async def reserve_for_a_mission_of_an_agent_and_a_model(base: Base, tenant: str) -> Call:
    stores, _ = await leased(base, tenant)
    await stores.ledger.set_limits({"agent/a/day": 9_000, "model/m/hour": 9_000}, by="t")
    asked = [
        Reservation(f"h{number}", payer, 0, 400, 60, "a", "m")
        for number, payer in enumerate(("m1", "", "m1"))
    ]
    return lambda at, who: at.of(who).ledger.reserve(asked, term=drive.TERM, by="g")


@case("draw_allowance")
async def draw(base: Base, tenant: str) -> Call:
    return lambda at, who: FleetLedger(at.redis).draw(who, need=500, least=1, term=drive.TERM)


@case("take_allowance")
async def take(base: Base, tenant: str) -> Call:
    return lambda at, who: FleetLedger(at.redis).take(who, 1, 500, term=drive.TERM)


@case("take_allowance")
async def give_a_draw_up(base: Base, tenant: str) -> Call:
    return lambda at, who: FleetLedger(at.redis).take(who, 1, None, term=drive.TERM)


@case("close_draw")
async def close_draw(base: Base, tenant: str) -> Call:
    drawn = await FleetLedger(base.redis).draw(tenant, need=500, least=1, term=drive.TERM)
    return lambda at, who: FleetLedger(at.redis).close(who, drawn.number, taken=False, term=drive.TERM)


async def spent(base: Base, tenant: str) -> FleetLedger:
    stores, fleet = await holding(base, tenant), FleetLedger(base.redis)
    await fleet.take(tenant, 1, 900, term=drive.TERM)
    await stores.ledger.settle([Settlement("h0", 300)], term=drive.TERM, by="g", **drive.KEEP)
    return fleet


@case("pack_parcel")
async def pack(base: Base, tenant: str) -> Call:
    await spent(base, tenant)
    return lambda at, who: FleetLedger(at.redis).pack(who, give_back=True, term=drive.TERM)


@case("book_parcel")
async def book(base: Base, tenant: str) -> Call:
    parcel = await (await spent(base, tenant)).pack(tenant, give_back=True, term=drive.TERM)
    assert parcel is not None
    return lambda at, who: FleetLedger(at.redis).book(who, parcel, term=drive.TERM)


@case("drop_parcel")
async def drop(base: Base, tenant: str) -> Call:
    parcel = await (await spent(base, tenant)).pack(tenant, give_back=True, term=drive.TERM)
    assert parcel is not None
    return lambda at, who: FleetLedger(at.redis).drop(who, parcel, term=drive.TERM)


SEEN = Brake()
FROZEN = Decision(BrakeState.FROZEN, BrakeCause.BURN, 0, "", {"burn_short": 50.5})


def moving(name: str, decision: Decision, seen: Brake = SEEN) -> None:
    async def stage(base: Base, tenant: str) -> Call:
        async def call(at: Base, who: str) -> bool:
            (stands,) = await BrakeStore(at.redis).move([Move(who, seen, decision)], term=drive.TERM, by="g")
            if isinstance(stands, ChimeraError):
                raise stands
            return stands

        return call

    stage.__name__ = name
    case("move_brake")(stage)


moving("freeze_for_its_burn", FROZEN)
moving("calm_begins", replace(FROZEN, state=BrakeState.OPEN, cause=BrakeCause.NONE, calm_since_us=7))
moving("move_what_has_changed", FROZEN, replace(SEEN, changes=3))


def ordering(order: Order, frozen: Decision | None = None) -> None:
    async def stage(base: Base, tenant: str) -> Call:
        store = BrakeStore(base.redis)
        if frozen:
            assert await store.move([Move(tenant, SEEN, frozen)], term=drive.TERM, by="g") == [True]
        return lambda at, who: BrakeStore(at.redis).order(
            who, order, "op", by="key:1", reason="we look", seconds=60
        )

    stage.__name__ = f"{order}_{frozen.cause if frozen else 'open'}"
    case("order_brake")(stage)


for order in Order:
    ordering(order)
    ordering(order, FROZEN)
ordering(Order.THAW, replace(FROZEN, cause=BrakeCause.CANARY, canary="f1"))


@case("weigh_burn")
async def weigh(base: Base, tenant: str) -> Call:
    stores = await holding(base, tenant)
    done = await stores.ledger.settle([Settlement("h0", 300)], term=drive.TERM, by="g", **drive.KEEP)
    assert done == [None]

    async def call(at: Base, who: str) -> Any:
        look = (await BrakeStore(at.redis).look([who], short_s=60, long_s=300, term=drive.TERM))[who]
        if isinstance(look, ChimeraError):
            raise look
        return look.burn.short, look.burn.long, look.burn.unaccepted, look.brake

    return call


def canaries(said: str) -> None:
    async def stage(base: Base, tenant: str) -> Call:
        def call(at: Base, who: str) -> Any:
            return BrakeStore(at.redis, f"{{{who}}}:g:canary").report_canary(said, "", "c1", term=drive.TERM)

        return call

    stage.__name__ = f"a_canary_is_{said}"
    case("report_canary")(stage)


canaries("refused")
canaries("granted")


@case("elect_leader")
async def elect(base: Base, tenant: str) -> Call:
    # Terms are the whole store's: each tenant plays a role of its own.
    return lambda at, who: Election(at.redis, f"role of {who}").lead("a", ttl_s=30)


@case("add_sample")
async def sample(base: Base, tenant: str) -> Call:
    one = Sample(1_800_000_000_000, Tally({"task.accepted": 3}), Gauges(workers=2))
    return lambda at, who: add_samples(at.redis, {who: [one]}, term=drive.TERM)


@case("send_requests")
async def ask_for_money(base: Base, tenant: str) -> Call:
    return lambda at, who: at.of(who).requests.send("w1", "op", [written({"do": "settle", "hold": "h0"})])


@case("answer_requests")
async def answer_for_money(base: Base, tenant: str) -> Call:
    requests = [written({"do": "settle", "hold": f"h{number}"}) for number in range(3)]
    await base.of(tenant).requests.send("w1", "op", requests)
    answers = [("w1", {"key": "settle h0", "code": "settled"})]
    return lambda at, who: at.of(who).requests.answer(answers, 2, "op", term=drive.TERM, by="g")


@case("drain_worker")
async def drain(base: Base, tenant: str) -> Call:
    return lambda at, who: at.of(who).tasks.drain("w1")


@case("drain_worker")
async def drain_soon(base: Base, tenant: str) -> Call:
    return lambda at, who: at.of(who).tasks.drain("w1", within_s=0)


@case("scale_fleet")
async def scale(base: Base, tenant: str) -> Call:
    # Recorded once; asked again it tells that it was recorded before.
    async def call(at: Base, who: str) -> None:
        await at.of(who).tasks.scaled(2, why={"backlog": 3}, term=drive.TERM, by="c")

    return call


async def ask_for_spoke(base: Base, tenant: str) -> None:
    await base.tenants.add(tenant)
    await base.tenants.set_quota(tenant, {"spoke": True}, "op", by="t")


@case("scale_fleet")
async def scale_as_its_spoke(base: Base, tenant: str) -> Call:
    await ask_for_spoke(base, tenant)
    term = await SwarmElection(base.redis, tenant).lead("s1", ttl_s=60)
    assert term == 1

    async def call(at: Base, who: str) -> None:
        await at.of(who).tasks.scaled(2, why={"backlog": 3}, term=1, by="s1", role="spoke")

    return call


@case("lead_swarm")
async def lead(base: Base, tenant: str) -> Call:
    await ask_for_spoke(base, tenant)
    return lambda at, who: SwarmElection(at.redis, who, "there").lead("s1", ttl_s=60)


@case("lead_swarm")
async def give_up_the_lead(base: Base, tenant: str) -> Call:
    await ask_for_spoke(base, tenant)
    await SwarmElection(base.redis, tenant).lead("s1", ttl_s=60)
    return lambda at, who: SwarmElection(at.redis, who).resign("s1")


@case("lead_swarm")
async def lead_where_the_hub_keeps_the_workers(base: Base, tenant: str) -> Call:
    return lambda at, who: SwarmElection(at.redis, who).lead("s1", ttl_s=60)


@case("bind_spare")
async def bind(base: Base, tenant: str) -> Call:
    spares = SpareStore(base.redis)
    assert await spares.join(f"spare-{tenant}") == ""

    async def call(at: Base, who: str) -> Any:
        return (await SpareStore(at.redis).bind(f"spare-{who}", who)) == who

    return call


@case("add_tenant")
async def add_tenant(base: Base, tenant: str) -> Call:
    async def call(at: Base, who: str) -> Any:
        await at.tenants.add(f"{who}-new")
        added = f"{who}-new" in await base.tenants.names()
        await base.tenants.remove(f"{who}-new")
        return added

    return call


@case("set_key")
async def set_key(base: Base, tenant: str) -> Call:
    async def call(at: Base, who: str) -> Any:
        await at.api_keys.let_in(who, f"key of {who}")
        return (await base.api_keys.authenticate(f"key of {who}")).tenant

    return call


@case("make_key")
async def make_key(base: Base, tenant: str) -> Call:
    async def call(at: Base, who: str) -> Any:
        try:
            made = await at.api_keys.create(who, "op", by="t", scopes=ALL, name="ci")
        except AlreadyExists:
            pass  # a key is shown once
        else:
            assert (await base.api_keys.authenticate(made.key)).tenant == who
        return [(one.name, one.scopes) for one in await base.api_keys.list(who)]

    return call


@case("make_key")
async def rotate_key(base: Base, tenant: str) -> Call:
    old = (await base.api_keys.create(tenant, "before", by="t")).record.key_id

    async def call(at: Base, who: str) -> Any:
        with suppress(AlreadyExists):
            await at.api_keys.rotate(who, old, "op", by="t")
        return sorted(bool(one.expires_at) for one in await base.api_keys.list(who))

    return call


@case("revoke_keys")
async def revoke_keys(base: Base, tenant: str) -> Call:
    await base.api_keys.let_in(tenant, f"key of {tenant}")

    async def call(at: Base, who: str) -> Any:
        await at.api_keys.revoke_all(who)
        return await base.api_keys.list(who)

    return call


@case("use_key")
async def use_key(base: Base, tenant: str) -> Call:
    await base.api_keys.let_in(tenant, f"key of {tenant}")

    async def call(at: Base, who: str) -> Any:
        at.api_keys._noted.clear()
        at.api_keys._recognised.clear()
        await at.api_keys.recognise(f"key of {who}")
        return [bool(one.used_at) for one in await base.api_keys.list(who)]

    return call


@case("note_act")
async def note_act(base: Base, tenant: str) -> Call:
    async def call(at: Base, who: str) -> Any:
        await Audit(at.redis).note(who, "key.created", "op", by="t", reason="why", key_id="k")
        return await drive.kinds(base.of(who), "key.")

    return call


@case("suspend_tenant")
async def suspend_tenant(base: Base, tenant: str) -> Call:
    await base.tenants.add(tenant)
    return lambda at, who: at.tenants.suspend(who, "op", by="t", reason="unpaid")


@case("suspend_tenant")
async def resume_tenant(base: Base, tenant: str) -> Call:
    await base.tenants.add(tenant)
    await base.tenants.suspend(tenant, "before", by="t")
    return lambda at, who: at.tenants.resume(who, "op", by="t", reason="paid")


@case("remove_tenant")
async def remove_tenant(base: Base, tenant: str) -> Call:
    await base.tenants.add(tenant)

    async def call(at: Base, who: str) -> Any:
        with suppress(NotFound):  # it was there, and is gone
            await at.tenants.wind_up(who, "op", by="t", reason="left")
        return who in await base.tenants.names()

    return call


@case("publish_agents")
async def publish(base: Base, tenant: str) -> Call:
    async def call(at: Base, who: str) -> Any:
        await at.catalogue.publish({"echo": {"description": "Says it again."}, "other": {}})
        return await base.catalogue.all()

    return call


async def archived(base: Base, tenant: str) -> tuple[TenantStores, Stand]:
    """A mission whose recorder has a first epoch."""
    stores = await drive.begin(base, tenant, drive.spec())
    stand = await stores.sink.stand()
    assert await stores.sink.open_epoch(FIRST, "", run=stand.run, lost=0, term=drive.TERM, by="hub")
    return stores, await stores.sink.stand()


@case("open_epoch")
async def open_the_first_epoch(base: Base, tenant: str) -> Call:
    run = (await (await drive.begin(base, tenant, drive.spec())).sink.stand()).run
    return lambda at, who: at.of(who).sink.open_epoch(FIRST, "", run=run, lost=0, term=drive.TERM, by="hub")


@case("open_epoch")
async def open_another_epoch(base: Base, tenant: str) -> Call:
    _, stand = await archived(base, tenant)
    return lambda at, who: at.of(who).sink.open_epoch(
        Position(2, 0, "0-0"), "ab", run=stand.run, lost=7, term=drive.TERM, by="hub"
    )


@case("advance_sink")
async def advance(base: Base, tenant: str) -> Call:
    stores, stand = await archived(base, tenant)
    to = Cursor(await stores.recorder.last(), "ab")
    return lambda at, who: at.of(who).sink.advance(stand.cursor, to, term=drive.TERM)


DEAD = DeadLetter(
    id="t/1/1",
    kind="mission.submitted",
    mission_id="m1",
    at=datetime(2026, 1, 1, tzinfo=UTC),
    position="1/1-0/1",
    reason="no",
    tries=1,
    dead_at=datetime(2026, 1, 1, tzinfo=UTC),
)


async def exported(base: Base, tenant: str) -> Exports:
    stores, _ = await archived(base, tenant)
    exports = Exports(base.redis, tenant)
    assert await exports.advance(None, await stores.recorder.last(), [DEAD], term=drive.TERM)
    return exports


@case("advance_export")
async def advance_the_exporter(base: Base, tenant: str) -> Call:
    stores, _ = await archived(base, tenant)
    to = await stores.recorder.last()
    return lambda at, who: Exports(at.redis, who).advance(None, to, [DEAD], term=drive.TERM)


@case("answer_dead")
async def retry_a_dead_letter(base: Base, tenant: str) -> Call:
    await exported(base, tenant)
    return lambda at, who: Exports(at.redis, who).answer("retry", [EVERY], "op", by="eve")


@case("answer_dead")
async def drop_a_dead_letter(base: Base, tenant: str) -> Call:
    await exported(base, tenant)
    return lambda at, who: Exports(at.redis, who).answer(
        "drop", [DEAD.id, "t/1/9"], "op", by="eve", reason="x"
    )


@case("settle_dead")
async def settle_what_was_told(base: Base, tenant: str) -> Call:
    await (await exported(base, tenant)).answer("retry", [EVERY], "op", by="eve")
    return lambda at, who: Exports(at.redis, who).settle(DEAD, delivered=True, term=drive.TERM)


@case("settle_dead")
async def settle_what_was_refused_again(base: Base, tenant: str) -> Call:
    await (await exported(base, tenant)).answer("retry", [EVERY], "op", by="eve")
    again = DEAD.model_copy(update={"tries": 2})
    return lambda at, who: Exports(at.redis, who).settle(again, delivered=False, term=drive.TERM)


@case("trim_log", sweep=True)
async def trim(base: Base, tenant: str) -> Call:
    stores, stand = await archived(base, tenant)
    await drive.finish(stores, 2)
    assert await stores.sink.advance(
        stand.cursor, Cursor(await stores.recorder.last(), "ab"), term=drive.TERM
    )
    return lambda at, who: at.of(who).sink.trim(keep=2, term=drive.TERM, most=2)


@case("report_archive")
async def report(base: Base, tenant: str) -> Call:
    # The report is the whole store's, a field a tenant.
    since = datetime(2026, 1, 1, tzinfo=UTC)
    return lambda at, who: at.troubles.report(who, "full", since=since, failures=1)


@case("report_archive")
async def report_that_all_is_well(base: Base, tenant: str) -> Call:
    await base.troubles.report(tenant, "full", since=datetime(2026, 1, 1, tzinfo=UTC), failures=1)
    return lambda at, who: at.troubles.clear(who)


@case("note_removed")
async def note_that_it_was_removed(base: Base, tenant: str) -> Call:
    return lambda at, who: Removed(at.redis).note(who, "remove op")


def test_every_transition_has_a_case() -> None:
    scripts = {path.name.removesuffix(".lua") for path in (files("chimera.store") / "lua").iterdir()}
    assert {one.script for one in CASES} == scripts - {"include"}


@case("mark_mission")
async def mark_a_finished_mission(base: Base, tenant: str) -> Call:
    await drive.over(base, tenant)
    return lambda at, who: at.of(who).pruning.mark("m1", age_s=0, term=drive.TERM)


@case("mark_mission")
async def mark_one_that_runs(base: Base, tenant: str) -> Call:
    await drive.begin(base, tenant, drive.spec())
    return lambda at, who: at.of(who).pruning.mark("m1", age_s=0, term=drive.TERM)


def pruned(most: int) -> Any:
    marks: dict[str, Mark] = {}

    async def stage(base: Base, tenant: str) -> Call:
        stores = await drive.over(base, tenant)
        mark = await stores.pruning.mark("m1", age_s=0, term=drive.TERM)
        assert mark
        marks[tenant] = mark
        more: dict[str, Any] = {"sha256": "5a", "term": drive.TERM, "by": "hub", "most": most}
        return lambda at, who: at.of(who).pruning.prune("m1", marks[who], **more)

    stage.__name__ = f"prune_{most}_of_3"
    return stage


case("prune_mission", sweep=True)(pruned(2))
case("prune_mission")(pruned(3))


@case("prune_mission")
async def prune_what_changed(base: Base, tenant: str) -> Call:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], max_attempts=1))
    (one,) = await drive.claim(stores)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])
    await drive.end(stores)
    mark = await stores.pruning.mark("m1", age_s=0, term=drive.TERM)
    assert mark
    await stores.missions.redrive("m1", ["m1.0"], "o1", by="t")
    return lambda at, who: at.of(who).pruning.prune("m1", mark, term=drive.TERM, by="hub")


@case("check_block")
async def check(base: Base, tenant: str) -> Call:
    await drive.over(base, tenant)
    return lambda at, who: at.of(who).shelf.ready("m1", 0, 3, quiet_s=0)


@case("read_results")
async def read(base: Base, tenant: str) -> Call:
    await drive.over(base, tenant)

    async def call(at: Base, who: str) -> Any:
        batch = await at.of(who).readings.results.read("m1", 1)
        return None if batch is None else [one.task_id for one in batch.results], batch and batch.following

    return call


@case("shelve_tasks")
async def shelve(base: Base, tenant: str) -> Call:
    mission = drive.spec(inputs=[1, 2])
    await drive.submit(base, tenant, mission, large=True)
    assert await drive.plan(base, tenant, mission)
    stores = base.of(tenant)
    await drive.finish(stores, 2)
    ids = ["m1.0", "m1.1"]
    written = stores.shelf.writing("m1")
    for task_id, raw in zip(ids, await stores.tasks.fetch(ids), strict=True):
        await written.add(task_id, raw)
    await written.end()
    # Its name is made of times and tokens, which differ between the tenants of a case.
    written.names, written._all = ["tasks-0000000-x.ndjson.zst"], sha256()
    return lambda at, who: at.of(who).shelf.shelve("m1", 0, written, term=drive.TERM, by="hub")


@case("shelve_tasks")
async def shelve_what_changed(base: Base, tenant: str) -> Call:
    mission = drive.spec(inputs=[1])
    await drive.submit(base, tenant, mission, large=True)
    assert await drive.plan(base, tenant, mission)
    stores = base.of(tenant)
    written = stores.shelf.writing("m1")
    (raw,) = await stores.tasks.fetch(["m1.0"])
    await written.add("m1.0", raw)
    written.names = ["tasks-0000000-x.ndjson.zst"]
    return lambda at, who: at.of(who).shelf.shelve("m1", 0, written, term=drive.TERM, by="hub")


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.script}-{one.name}")
async def test_a_repeated_call_has_the_same_answer_and_one_effect(one: Case, base: Base, tenant: str) -> None:
    once, twice = f"{tenant}-once", f"{tenant}-twice"
    call = await one.stage(base, once)
    answer = await outcome(call, base, once)
    call = await one.stage(base, twice)
    first, again = await outcome(call, base, twice), await outcome(call, base, twice)
    assert plain(first, twice) == plain(answer, once)
    if not one.sweep:
        assert plain(again, twice) == plain(first, twice)
    await finish(one, call, base, once, twice)
    assert await state(base, twice) == await state(base, once)


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.script}-{one.name}")
async def test_a_call_whose_answer_was_lost_is_repeated_without_harm(
    one: Case, base: Base, tenant: str, redis_server: RedisServer
) -> None:
    once, cut = f"{tenant}-once", f"{tenant}-cut"
    call = await one.stage(base, once)
    answer = await outcome(call, base, once)
    call = await one.stage(base, cut)
    async with Relay(redis_server.port) as relay:
        url = f"redis://:{redis_server.password}@127.0.0.1:{relay.port}/0"
        far = base_of(base.settings.model_copy(update={"redis_url": SecretStr(url)}))
        relay.cut_next_answer = True
        lost = await outcome(call, far, cut)
        await far.close()
    assert isinstance(lost, StoreError)
    assert relay.cuts == 1
    again = await outcome(call, base, cut)
    if not one.sweep:
        assert plain(again, cut) == plain(answer, once)
    await finish(one, call, base, once, cut)
    assert await state(base, cut) == await state(base, once)


async def test_an_operation_that_comes_again_after_others_changes_nothing(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], max_attempts=1))
    missions, made = stores.missions, drive.verdict("reject", 0.1)

    async def fail() -> None:
        (one,) = await drive.claim(stores)
        await stores.tasks.end("w1", [Ended(one.task_id, one.token, "error", "no", 0)])

    async def ask(operation: str) -> None:
        await missions.redrive("m1", ["m1.0"], operation, by="t")
        (one,) = await drive.claim(stores)
        await drive.hand_in(stores, one)
        (held,) = await drive.review(stores)
        await drive.judge(stores, held, drive.verdict("escalate", 0.8))

    async def again(call: Callable[[], Awaitable[Any]], answer: Any) -> None:
        before = await state(base, tenant)
        assert await call() == answer
        assert await state(base, tenant) == before

    for name in ("a", "b"):
        await missions.edit("m1", name, by="t", goal=f"goal {name}")
    await again(lambda: missions.edit("m1", "a", by="t", goal="goal a"), 2)
    for name in ("a", "b"):
        await missions.pause("m1", name, by="t")
        await missions.resume("m1", name, by="t")
    await again(lambda: missions.pause("m1", "a", by="t"), None)
    await missions.pause("m1", "c", by="t")
    await again(lambda: missions.resume("m1", "a", by="t"), None)
    await missions.resume("m1", "c", by="t")
    for name in ("a", "b"):
        await fail()
        await missions.redrive("m1", ["m1.0"], name, by="t")
    await fail()
    await again(lambda: missions.redrive("m1", ["m1.0"], "a", by="t"), 1)
    await ask("c")
    await stores.reviews.answer("m1.0", "a", verdict=made, by="t", max_stale=5)
    await ask("d")
    await again(lambda: stores.reviews.answer("m1.0", "a", verdict=made, by="t", max_stale=5), None)


async def finish(one: Case, call: Call, base: Base, *tenants: str) -> None:
    """A sweep's next call goes on where it stopped: let each come to its end."""
    for tenant in tenants if one.sweep else ():
        for _ in range(3):
            await call(base, tenant)


async def outcome(call: Call, base: Base, tenant: str) -> Any:
    try:
        return await call(base, tenant)
    except ChimeraError as exc:
        return exc


TIME = re.compile(
    r"\b1\d{15}\b|\b1\d{12}(?:-\d+)?\b|\b[cr]\d+\b|(?<='still_us', ')\d+|(?<=')3\d{8}(?=[':])"
    r"|\b(?:minute|hour):\d{4}-\d\d-\d\dT[\d:]+"
)
"""Times (of burn, by fives of seconds; a window's), tokens, how long a mission stood still, and the claims
that `drive` numbers through."""


def plain(value: Any, tenant: str) -> str:
    """A value as text, without what two runs of the same thing may differ in."""
    return TIME.sub("T", repr(value)).replace(tenant, "TENANT")


def counted(tally: dict[str, str]) -> dict[str, int]:
    """A tally without its times: how many there are, whatever each took."""
    totals: dict[str, int] = {}
    for name, count in sorted(tally.items()):
        what, _, bucket = name.rpartition(":")
        kept = f"{what}:" if bucket == "ms" or bucket.isdigit() else name
        totals[kept] = totals.get(kept, 0) + (0 if bucket == "ms" else int(count))
    return totals


async def state(base: Base, tenant: str) -> dict[str, str]:
    """All that the store holds of a tenant."""
    found = {}
    async for key in base.redis.scan_iter(match=f"{{{tenant}}}:*", count=1000):
        kind = await base.redis.type(key)
        match kind:
            case "hash":
                value: Any = sorted((await base.redis.hgetall(key)).items())
                if key == TenantKeys(tenant).tally:
                    value = counted(dict(value))
            case "list":
                value = await base.redis.lrange(key, 0, -1)
            case "set":
                value = sorted(await base.redis.smembers(key))
            case "zset":
                value = sorted(name for name, _ in await base.redis.zrange(key, 0, -1, withscores=True))
            case "stream":
                value = [
                    json.loads(fields["events"]) if "events" in fields else fields
                    for _, fields in await base.redis.xrange(key, "-", "+")
                ]
            case _:
                value = await base.redis.get(key)
        found[plain(key, tenant)] = plain(value, tenant)
    return found
