"""Replies kept for re-runs: in the step that settles, for one round, within bounds, gone when it is over."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.core.lease import Claim
from chimera.runtime.base import Base, TenantStores
from chimera.store.ledger import Reservation, Settlement
from chimera.store.requests import understood
from chimera.store.scripts import OldTerm
from chimera.store.tasks import Ended, EndKind
from tests.store import drive


async def begun(base: Base, tenant: str, **fields: Any) -> tuple[TenantStores, Claim]:
    stores = await drive.begin(base, tenant, drive.spec(**{"inputs": [1], **fields}))
    (one,) = await drive.claim(stores)
    return stores, one


async def pay(
    stores: TenantStores,
    one: Claim,
    hold: str = "h",
    call: str = "call",
    reply: str = "the reply",
    cost: int = 5,
) -> None:
    """Reserve and settle one call, and keep its reply."""
    asked = Reservation(hold, one.task_id, one.token, 10, 60)
    assert await stores.ledger.reserve([asked], term=drive.TERM, by="g") == [None]
    await settle(stores, Settlement(hold, cost, "{}", one.round, call, reply))


async def settle(stores: TenantStores, settlement: Settlement) -> None:
    done = await stores.ledger.settle([settlement], term=drive.TERM, by="g", **drive.KEEP)
    assert done == [None]


async def kept(stores: TenantStores, round_: int = 0, call: str = "call") -> str | None:
    (found,) = await stores.ledger.kept([("m1.0", round_, call)])
    return found


async def forget(stores: TenantStores) -> list[tuple[str, int]]:
    """Do what scripts asked the governor to forget; what that was."""
    read = [understood(text) for text in await stores.requests.peek(100)]
    asked = [one for one in read if one is not None and one["do"] == "forget"]
    rounds = [(one["task"], int(one["round"])) for one in asked]
    await stores.ledger.forget(rounds, term=drive.TERM)
    return rounds


async def test_a_settled_call_is_kept_in_the_same_step(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    assert await kept(stores) == "the reply"
    assert await kept(stores, call="another") is None
    assert 0 < await base.redis.ttl(stores.ledger.keys.of("kept", "m1.0/0")) <= drive.KEEP["keep_s"]
    (settled,) = [e async for _, e in stores.recorder.read() if e.kind == "spend.settled"]
    assert settled.details["kept"] is True


async def test_nothing_is_kept_of_a_release_or_of_a_call_without_a_name(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    for hold, cost, call in (("h1", None, "call"), ("h2", 5, "")):
        asked = Reservation(hold, one.task_id, one.token, 10, 60)
        await stores.ledger.reserve([asked], term=drive.TERM, by="g")
        await settle(stores, Settlement(hold, cost, "{}", 0, call, "reply"))
    assert await base.redis.exists(stores.ledger.keys.of("kept", "m1.0/0")) == 0


async def test_what_is_kept_of_a_round_is_bounded_and_the_rest_is_settled_without(
    base: Base, tenant: str
) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one, "h1", "first", "x" * 600)
    await pay(stores, one, "h2", "second", "x" * 600)
    await pay(stores, one, "h3", "third", "x" * 400)
    found = [await kept(stores, call=call) for call in ("first", "second", "third")]
    assert [text is not None for text in found] == [True, False, True]
    assert (await stores.missions.get("m1")).settled_microusd == 15
    told = [e.details["kept"] async for _, e in stores.recorder.read() if e.kind == "spend.settled"]
    assert told == [True, False, True]


async def test_a_call_paid_twice_keeps_its_first_reply(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one, "h1", reply="first")
    await pay(stores, one, "h2", reply="second")
    assert await kept(stores) == "first"


async def test_another_run_of_the_round_finds_it(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    await base.redis.zadd(stores.tasks.keys.leases, {one.task_id: 1})
    await base.redis.delete(stores.tasks.keys.pulse)
    kinds: tuple[EndKind, ...] = ("error", "timeout", "return")
    for attempt, kind in enumerate(kinds, start=2):
        (again,) = await drive.claim(stores, worker="w2")
        assert (again.attempt, again.round) == (attempt, 0)
        assert await kept(stores, again.round) == "the reply"
        assert await stores.tasks.end("w2", [Ended(again.task_id, again.token, kind)]) == ["READY"]
        assert await forget(stores) == []


async def test_a_rejected_task_is_in_another_round_and_samples_anew(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    assert held.round == 0
    await drive.judge(stores, held, drive.verdict("reject", 0.1))
    assert await forget(stores) == [("m1.0", 0)]
    assert await kept(stores) is None
    (again,) = await drive.claim(stores)
    assert (again.attempt, again.round) == (2, 1)
    # A governor that died before it removed the request acts on it again: the new round is not touched.
    await pay(stores, again, "h2", reply="another")
    await forget(stores)
    assert await kept(stores, 1) == "another"


async def test_a_humans_rejection_without_a_comment_is_a_round_too(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    assert await forget(stores) == []
    await stores.reviews.answer("m1.0", "op", verdict=drive.verdict("reject"), by="eve", max_stale=5)
    assert await forget(stores) == [("m1.0", 0)]
    (again,) = await drive.claim(stores)
    assert (again.round, again.feedback) == (1, ())


async def test_an_accepted_tasks_replies_go_and_a_late_settlement_keeps_none(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    late = Reservation("late", one.task_id, one.token, 10, 60)
    await stores.ledger.reserve([late], term=drive.TERM, by="g")
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held)
    assert await forget(stores) == [("m1.0", 0)]
    await settle(stores, Settlement("late", 5, "{}", 0, "call", "reply"))
    assert await base.redis.keys(f"{stores.ledger.keys.root}g:kept:*") == []
    assert (await stores.missions.get("m1")).settled_microusd == 10


async def test_a_late_settlement_of_an_older_round_is_not_kept(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    late = Reservation("late", one.task_id, one.token, 10, 60)
    await stores.ledger.reserve([late], term=drive.TERM, by="g")
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("reject", 0.1))
    await settle(stores, Settlement("late", 5, "{}", 0, "call", "reply"))
    assert await kept(stores) is None


@pytest.mark.parametrize("kind", ["error", "timeout"])
async def test_a_failed_tasks_replies_go_and_a_redrive_samples_anew(
    base: Base, tenant: str, kind: Any
) -> None:
    stores, one = await begun(base, tenant, max_attempts=1)
    await pay(stores, one)
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, kind)])
    assert await forget(stores) == [("m1.0", 0)]
    await stores.missions.redrive("m1", ["m1.0"], "op", by="t")
    (again,) = await drive.claim(stores)
    assert (again.attempt, again.round) == (2, 1)


async def test_a_mission_that_failed_keeps_what_its_open_tasks_paid_for_until_it_is_resumed(
    base: Base, tenant: str
) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    refused = Reservation("over", one.task_id, one.token, 10**9, 60)
    await stores.ledger.reserve([refused], term=drive.TERM, by="g")
    await stores.tasks.end("w1", [Ended(one.task_id, one.token, "return")])
    await stores.missions.settle("m1", term=drive.TERM, by="hub")
    await stores.missions.sweep("m1", term=drive.TERM, by="hub")
    assert (await stores.tasks.get("m1.0")).status == "CANCELLED"
    assert await forget(stores) == []
    await stores.missions.resume("m1", "op", by="eve", budget_microusd=10**10)
    await stores.missions.revive("m1", term=drive.TERM, by="hub")
    (again,) = await drive.claim(stores)
    assert again.round == 0
    assert await kept(stores, again.round) == "the reply"


async def test_a_cancelled_missions_replies_go(base: Base, tenant: str) -> None:
    stores, one = await begun(base, tenant)
    await pay(stores, one)
    await stores.missions.cancel("m1", by="eve", reason="enough")
    await stores.missions.sweep("m1", term=drive.TERM, by="hub")
    assert await forget(stores) == [("m1.0", 0)]


async def test_a_new_governor_forgets_too(base: Base, tenant: str) -> None:
    stores = base.of(tenant)
    await stores.ledger.forget([("m1.0", 0)], term=1)
    await stores.ledger.forget([("m1.0", 0)], term=2)
    with pytest.raises(OldTerm):
        await stores.ledger.forget([("m1.0", 0)], term=1)
