"""Flags: every refusal raises one, thousands cost one, and they stand until somebody has seen them."""

from __future__ import annotations

from typing import Any

import pytest

from chimera.core.event import Event
from chimera.core.lease import Claim
from chimera.errors import BudgetExceeded
from chimera.runtime.base import Base, TenantStores
from chimera.store import flags as room
from chimera.store.flags import ALL, Flag
from chimera.store.ledger import Reservation
from chimera.store.scripts import source
from tests.store import drive, paid


async def ask(stores: TenantStores, claims: list[Claim], *amounts: int) -> list[Any]:
    """All in one call of the script."""
    asked = [
        Reservation(
            f"{claim.task_id}-{amount}-{number}", claim.task_id, claim.token, amount, 60, "writer", "gpt"
        )
        for number, (claim, amount) in enumerate((claim, amount) for claim in claims for amount in amounts)
    ]
    return await stores.ledger.reserve(asked, term=drive.TERM, by="g")


async def events(stores: TenantStores, kind: str) -> list[Event]:
    return [event async for _, event in stores.recorder.read() if event.kind == kind]


async def raised(base: Base, tenant: str, **fields: Any) -> tuple[TenantStores, list[Claim]]:
    stores, claims = await paid.leased(base, tenant, **fields)
    await stores.ledger.set_limits({"day": 10_000, "agent/writer/hour": 800}, by="eve")
    return stores, claims


async def test_a_refusal_raises_a_flag_with_its_figures(base: Base, tenant: str) -> None:
    stores, claims = await raised(base, tenant)
    (refused,) = await ask(stores, claims[:1], 900)
    assert isinstance(refused, BudgetExceeded)
    (flag,) = await stores.flags.all()
    assert (flag.level, flag.mission_id, flag.kind, flag.count) == ("agent/writer/hour", "", "exhausted", 1)
    assert (flag.amount, flag.fits, flag.limit) == (900, 800, 800)
    assert flag.first_us == flag.last_us > 0


async def test_a_grant_raises_none(base: Base, tenant: str) -> None:
    stores, claims = await raised(base, tenant)
    assert await ask(stores, claims[:1], 100) == [None]
    assert await stores.flags.all() == []


async def test_many_refusals_are_one_flag_written_once(base: Base, tenant: str) -> None:
    stores, claims = await raised(base, tenant)
    assert await ask(stores, claims[:1], 700) == [None]
    before = (await base.redis.info("commandstats"))["cmdstat_hset"]["calls"]
    found = await ask(stores, claims, *range(200, 400))
    writes = (await base.redis.info("commandstats"))["cmdstat_hset"]["calls"] - before
    assert all(isinstance(one, BudgetExceeded) for one in found)
    (flag,) = await stores.flags.all()
    assert (flag.kind, flag.count, flag.amount, flag.fits) == ("contended", 800, 399, 100)
    assert writes == 800 + 1, "why each task waits, and one for the flag"


async def test_the_gravest_kind_stays_and_the_first_instant(base: Base, tenant: str) -> None:
    stores, claims = await raised(base, tenant)
    await ask(stores, claims[:1], 900)
    (first,) = await stores.flags.all()
    await ask(stores, claims[:1], 700)
    await ask(stores, claims[:1], 300)
    (flag,) = await stores.flags.all()
    assert (flag.kind, flag.count, flag.amount, flag.first_us) == ("exhausted", 2, 900, first.first_us)
    assert flag.last_us > first.last_us


async def test_each_missions_budget_has_a_flag_of_its_own(base: Base, tenant: str) -> None:
    stores, one = await paid.leased(base, tenant, budget_usd="0.0001")
    _, other = await paid.leased(base, tenant, "m2", budget_usd="0.0001")
    await ask(stores, [one[0], other[0]], 200)
    assert {(flag.level, flag.mission_id) for flag in await stores.flags.all()} == {
        ("mission", "m1"),
        ("mission", "m2"),
    }


async def test_flags_are_bounded_in_number(base: Base, tenant: str) -> None:
    assert f"MOST_FLAGS = {room.MOST_FLAGS}\n" in source("reserve_holds")
    stores, claims = await paid.leased(base, tenant, budget_usd="0.0001")
    text = '{"kind":"window","count":"1","first":"1","last":"1","amount":"1","fits":"1","limit":"1"}'
    names = {f"mission old{number}": text for number in range(room.MOST_FLAGS)}
    await base.redis.hset(stores.flags.keys.flags, mapping=names)
    _, others = await paid.leased(base, tenant, "m2", budget_usd="0.0001")
    await ask(stores, [claims[0], others[0]], 200)
    found = await stores.flags.all()
    assert len(found) == room.MOST_FLAGS + 1
    together = next(flag for flag in found if flag.count > 1)
    assert (together.level, together.mission_id, together.count) == ("mission", "", 2)
    await ask(stores, [claims[0]], 300)
    assert (await stores.flags.all())[0].count == 3


@pytest.mark.parametrize("names", [[ALL], ["agent/writer/hour"], ["mission", "agent/writer/hour"]])
async def test_an_acknowledged_flag_goes_is_recorded_and_comes_back(
    base: Base, tenant: str, names: list[str]
) -> None:
    stores, claims = await raised(base, tenant)
    await ask(stores, claims[:1], 900, 901)
    assert await stores.flags.acknowledge(names, "op", by="eve", comment="the import of today") == 1
    assert await stores.flags.all() == []
    (event,) = await events(stores, "flag.acknowledged")
    assert (event.by, event.mission_id) == ("eve", "")
    assert event.details == {
        "level": "agent/writer/hour",
        "kind": "exhausted",
        "count": 2,
        "comment": "the import of today",
    }
    await ask(stores, claims[:1], 902)
    (flag,) = await stores.flags.all()
    assert flag.count == 1


async def test_one_missions_flag_is_acknowledged_by_its_name_and_all_by_their_level(
    base: Base, tenant: str
) -> None:
    stores, one = await paid.leased(base, tenant, budget_usd="0.0001")
    for mission in ("m2", "m3"):
        _, more = await paid.leased(base, tenant, mission, budget_usd="0.0001")
        one += more
    await ask(stores, one, 200)
    assert await stores.flags.acknowledge(["mission m2"], "a", by="eve") == 1
    assert {flag.mission_id for flag in await stores.flags.all()} == {"m1", "m3"}
    assert [event.mission_id for event in await events(stores, "flag.acknowledged")] == ["m2"]
    assert await stores.flags.acknowledge(["mission"], "b", by="eve") == 2


async def test_what_is_not_named_stays_and_nothing_is_recorded_of_nothing(base: Base, tenant: str) -> None:
    stores, claims = await raised(base, tenant)
    await ask(stores, claims[:1], 900)
    assert await stores.flags.acknowledge(["tenant/day"], "op", by="eve") == 0
    assert isinstance((await stores.flags.all())[0], Flag)
    assert await events(stores, "flag.acknowledged") == []
