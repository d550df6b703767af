"""Brakes in the store: what is spent is weighed as it was settled; a brake moves once for what was seen."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chimera.core.brake import Brake, BrakeCause, BrakeState, Decision
from chimera.core.event import Event
from chimera.errors import Conflict, CorruptRecord, InvalidRequest
from chimera.runtime.base import Base, TenantStores
from chimera.store import keys
from chimera.store.brakes import BrakeStore, Look, Move, Order
from chimera.store.ledger import Reservation, Settlement
from chimera.store.scripts import OldTerm
from tests.store import drive
from tests.store.clock import set_by_hand, set_to

S, C = BrakeState, BrakeCause
NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
FROZEN = Decision(S.FROZEN, C.BURN, 0, "", {"burn_short": 50.5, "short_microusd": 3_000_000})
CANARY = Decision(S.FROZEN, C.CANARY, 0, "f1", {})


async def look(base: Base, tenant: str, term: int | None = None) -> Look:
    found = (await BrakeStore(base.redis).look([tenant], short_s=60, long_s=300, term=term))[tenant]
    assert isinstance(found, Look)
    return found


async def pay(stores: TenantStores, claim: Any, cost: int, hold: str = "h") -> None:
    asked = Reservation(hold, claim.task_id, claim.token, cost, 60)
    assert await stores.ledger.reserve([asked], term=drive.TERM, by="g") == [None]
    done = await stores.ledger.settle([Settlement(hold, cost)], term=drive.TERM, by="g", **drive.KEEP)
    assert done == [None]


async def order(base: Base, tenant: str, what: Order, operation: str = "o", **more: Any) -> None:
    said = {"by": "key:1", "reason": "we look"} | more
    await BrakeStore(base.redis).order(tenant, what, operation, **said)


async def changes(base: Base, tenant: str) -> list[Event]:
    return [event async for _, event in base.of(tenant).recorder.read() if event.kind == "brake.changed"]


async def test_what_is_settled_is_weighed_in_the_windows_it_falls_into(base: Base, tenant: str) -> None:
    with set_by_hand():
        await set_to(base, tenant, NOON)
        stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3]))
        first, second, third = await drive.claim(stores, 3, lease_s=3_600)
        await pay(stores, first, 100, "a")
        await set_to(base, tenant, NOON + timedelta(seconds=70))
        await pay(stores, second, 30, "b")
        found = (await look(base, tenant)).burn
        assert (found.short, found.long, found.unaccepted, found.busy) == (30, 130, 130, 30)
        assert found.since_us == round(NOON.timestamp() * 1e6)
        assert await drive.hand_in(stores, second) is None
        (held,) = await drive.review(stores)
        assert await drive.judge(stores, held) is None
        await set_to(base, tenant, NOON + timedelta(seconds=80))
        assert (await look(base, tenant)).burn.unaccepted == 0
        await pay(stores, third, 7, "c")
        found = (await look(base, tenant)).burn
        assert (found.unaccepted, found.since_us) == (7, round(NOON.timestamp() * 1e6) + 80_000_000)
        await set_to(base, tenant, NOON + timedelta(seconds=320))
        found = (await look(base, tenant)).burn
        assert (found.short, found.long) == (0, 37)
        assert await base.redis.hlen(stores.ledger.keys.burn) == 6, "whoever only looks changes nothing"
        assert (await look(base, tenant, drive.TERM)).burn == found
        assert await base.redis.hlen(stores.ledger.keys.burn) == 4, "what is too old to count is gone"


async def test_what_left_the_short_window_is_joined_and_weighs_the_same(base: Base, tenant: str) -> None:
    """A busy tenant's half hour stays a few dozen figures, not hundreds: it is looked at every second."""
    with set_by_hand():
        await set_to(base, tenant, NOON)
        stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
        (claim,) = await drive.claim(stores, lease_s=100_000)
        store = BrakeStore(base.redis)

        async def weigh(term: int | None) -> tuple[int, int, int]:
            found = (await store.look([tenant], short_s=300, long_s=1_800, term=term))[tenant]
            assert isinstance(found, Look)
            return found.burn.short, found.burn.long, found.burn.unaccepted

        for at in range(0, 2_400, 5):
            await set_to(base, tenant, NOON + timedelta(seconds=at))
            await pay(stores, claim, 10, f"h{at}")
            before = await weigh(None)
            assert await weigh(drive.TERM) == before
        short, long, unaccepted = before
        assert short == 610
        assert long == unaccepted
        assert 3_610 - 120 <= long <= 3_610, "as fine as a thirtieth"
        assert await base.redis.hlen(stores.ledger.keys.burn) < 2 * (62 + 12 + 30)


async def test_a_correction_of_an_expired_hold_counts_against_what_it_was_charged(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (claim,) = await drive.claim(stores)
    asked = Reservation("h", claim.task_id, claim.token, 400, 0)
    assert await stores.ledger.reserve([asked], term=drive.TERM, by="g") == [None]
    await stores.requests.sent(["h"])
    assert await stores.ledger.expire(term=drive.TERM, by="g") == 1
    assert (await look(base, tenant)).burn.long == 400
    await stores.ledger.settle([Settlement("h", 30)], term=drive.TERM, by="g", **drive.KEEP)
    found = (await look(base, tenant)).burn
    assert (found.long, found.unaccepted) == (30, 30)


async def test_a_move_is_recorded_and_told_with_cause_and_figures(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis)
    assert await store.move([Move(tenant, Brake(), FROZEN)], term=drive.TERM, by="gov") == [True]
    brake = (await look(base, tenant)).brake
    assert (brake.state, brake.cause, brake.by) == (S.FROZEN, C.BURN, "gov")
    assert brake.figures == FROZEN.figures
    (event,) = await changes(base, tenant)
    assert event.details == {
        **{"from": "open", "to": "frozen", "cause": "burn", "by": "gov", "reason": ""},
        "figures": {"burn_short": 50.5, "short_microusd": 3_000_000},
    }
    (notice,) = map(json.loads, await store.notices(tenant, 10))
    assert notice["id"] == f"{tenant}/brake/1/{brake.since_us}"
    assert {name: notice[name] for name in event.details} == event.details


async def test_a_brake_that_changed_since_it_was_looked_at_is_left_as_it_is(base: Base, tenant: str) -> None:
    store, seen = BrakeStore(base.redis), (await look(base, tenant)).brake
    await order(base, tenant, Order.OVERRIDE, seconds=60)
    assert await store.move([Move(tenant, seen, FROZEN)], term=drive.TERM, by="g") == [False]
    assert (await look(base, tenant)).brake.state is S.OPEN


async def test_an_older_governor_moves_nothing(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis)
    await store.move([Move(tenant, Brake(), FROZEN)], term=drive.TERM + 1, by="new")
    with pytest.raises(OldTerm):
        await store.look([tenant], short_s=60, long_s=300, term=drive.TERM)
    with pytest.raises(OldTerm):
        await store.move([Move(tenant, Brake(changes=1), CANARY)], term=drive.TERM, by="old")


async def test_people_freeze_thaw_and_override_each_with_their_reason(base: Base, tenant: str) -> None:
    await order(base, tenant, Order.FREEZE, "a", reason=" a  loop ")
    assert (await look(base, tenant)).brake.state is S.FROZEN
    await order(base, tenant, Order.THAW, "b")
    found = await look(base, tenant)
    assert (found.brake.state, found.brake.counted_from_us) == (S.OPEN, found.brake.since_us)
    await order(base, tenant, Order.OVERRIDE, "c", seconds=90)
    found = await look(base, tenant)
    assert found.brake.override_until_us - found.brake.since_us == 90_000_000
    told = [
        (one.details["to"], one.details["by"], one.details["reason"]) for one in await changes(base, tenant)
    ]
    assert told == [("frozen", "key:1", "a loop"), *[("open", "key:1", "we look")] * 2]


async def test_an_order_that_comes_again_after_others_changes_nothing(base: Base, tenant: str) -> None:
    await order(base, tenant, Order.FREEZE, "a")
    await order(base, tenant, Order.THAW, "b")
    await order(base, tenant, Order.FREEZE, "a")
    assert (await look(base, tenant)).brake.state is S.OPEN
    assert len(await changes(base, tenant)) == 2


async def test_what_was_spent_before_a_thaw_is_not_counted(base: Base, tenant: str) -> None:
    with set_by_hand():
        await set_to(base, tenant, NOON)
        stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
        first, second = await drive.claim(stores, 2, lease_s=3_600)
        await pay(stores, first, 100, "a")
        await order(base, tenant, Order.FREEZE, "a")
        await set_to(base, tenant, NOON + timedelta(seconds=12))
        await order(base, tenant, Order.THAW, "b")
        assert (await look(base, tenant)).burn.long == 0
        await order(base, tenant, Order.OVERRIDE, "c", seconds=1)
        await set_to(base, tenant, NOON + timedelta(seconds=16))
        await pay(stores, second, 30, "b")
        assert (await look(base, tenant)).burn.long == 30


@pytest.mark.parametrize("what", [Order.THAW, Order.OVERRIDE])
async def test_only_the_operator_lets_go_what_the_canary_froze(base: Base, tenant: str, what: Order) -> None:
    await BrakeStore(base.redis).move([Move(tenant, Brake(), CANARY)], term=drive.TERM, by="g")
    await order(base, tenant, Order.FREEZE, "a")
    with pytest.raises(Conflict, match="canary"):
        await order(base, tenant, what, "b", seconds=60)
    assert (await look(base, tenant)).brake.cause is C.CANARY, "a freeze on top of it is no way around"
    await order(base, tenant, what, "c", seconds=60, of_fleet=True)
    brake = (await look(base, tenant)).brake
    assert (brake.state, brake.canary) == (S.OPEN, "f1")


@pytest.mark.parametrize(
    ("what", "more"),
    [
        (Order.FREEZE, {"reason": " "}),
        (Order.THAW, {"reason": "x" * 501}),
        (Order.OVERRIDE, {"seconds": 0}),
        (Order.OVERRIDE, {"seconds": 86_401}),
    ],
)
async def test_an_order_without_reason_or_end_is_refused(
    base: Base, tenant: str, what: Order, more: dict[str, Any]
) -> None:
    with pytest.raises(InvalidRequest):
        await order(base, tenant, what, **more)
    assert (await look(base, tenant)).brake == Brake()


async def test_a_damaged_brake_is_its_own_tenants_error(base: Base, tenant: str) -> None:
    await base.redis.hset(keys.TenantKeys(tenant).brake, "state", "ajar")
    await base.redis.set(keys.TenantKeys(f"{tenant}-b").burn, "no hash")
    found = await BrakeStore(base.redis).look(
        [tenant, f"{tenant}-b", f"{tenant}-c"], short_s=60, long_s=300, term=drive.TERM
    )
    assert [type(one) for one in found.values()] == [CorruptRecord, CorruptRecord, Look]


async def test_only_the_newest_notices_are_kept(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis)
    for number in range(102):
        seen = (await look(base, tenant)).brake
        to = replace(FROZEN, state=S.OPEN if seen.state is S.FROZEN else S.FROZEN)
        assert await store.move([Move(tenant, seen, to)], term=drive.TERM, by=str(number)) == [True]
    kept = [json.loads(notice)["by"] for notice in await store.notices(tenant, 1_000)]
    assert kept == [str(number) for number in range(2, 102)]
    (first, *_) = await store.notices(tenant, 1)
    await store.told(tenant, first)
    await store.told(tenant, first)
    assert len(await store.notices(tenant, 1_000)) == 99


async def test_calm_is_written_without_an_event(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis)
    await store.move([Move(tenant, Brake(), FROZEN)], term=drive.TERM, by="g")
    seen = (await look(base, tenant)).brake
    calm = replace(FROZEN, calm_since_us=7)
    assert await store.move([Move(tenant, seen, calm)], term=drive.TERM, by="g") == [True]
    assert (await look(base, tenant)).brake == replace(seen, calm_since_us=7, changes=seen.changes + 1)
    assert len(await changes(base, tenant)) == 1


async def test_a_failure_of_the_canary_stands_until_it_is_cleared(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis, f"{{{tenant}}}:canary")
    assert await store.report_canary("refused", "", "c1", term=2) == ""
    assert await store.report_canary("granted", "", "c2", term=2) == "c2"
    assert await store.report_canary("granted", "", "c3", term=2) == "c2"
    assert await store.report_canary("refused", "", "c4", term=2) == "c2"
    record = await store.canary()
    assert (record.said, record.failure) == ("refused", "c2")
    assert record.proven_us >= record.failed_us > 0
    with pytest.raises(OldTerm):
        await store.report_canary("refused", "", "c5", term=1)
    await store.clear_canary()
    assert (await store.canary()).failure == ""
    assert await store.report_canary("granted", "", "c6", term=2) == "c6"
