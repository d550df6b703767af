"""The audit of real ledgers: no drift where none is, and each one that is planted is found at its level."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace

import pytest

from chimera.core.invoice import Comparing, Line, Tolerance
from chimera.errors import StoreUnavailable
from chimera.runtime.auditing import audit, compare_charges
from chimera.runtime.base import Base, TenantStores
from chimera.store import cuts
from tests.runtime.test_archivist import World, world
from tests.store import history, paid

__all__ = ["world"]


async def busy(base: Base, tenant: str) -> TenantStores:
    """Calls of two agents and two models in two missions, one still open."""
    stores, claims = await paid.leased(base, tenant)
    _, others = await paid.leased(base, tenant, "m2")
    await paid.call(stores, claims[0], 40)
    await paid.call(stores, claims[1], 60, model="small")
    await paid.call(stores, others[0], 5, agent="judge")
    assert isinstance(await paid.hold(stores, claims[2], 33), str)
    return stores


async def test_a_ledger_at_work_shows_no_drift(base: Base, tenant: str) -> None:
    stores = await busy(base, tenant)
    found = await audit(stores, tenant)
    assert (found.drifts, found.wrong, found.lost) == ((), (), 0)
    assert found.sound
    assert found.entries == 7
    assert found.checked > 30


@pytest.mark.parametrize(
    ("key", "field", "level", "figure"),
    [
        ("ledger", "settled:lifetime", "tenant", "lifetime"),
        ("ledger", "held", "tenant", "held"),
        ("subject agent/writer", "settled:lifetime", "agent/writer", "lifetime"),
        ("subject agent/judge", "held", "agent/judge", "held"),
        ("subject model/small", "settled:lifetime", "model/small", "lifetime"),
        ("spend m2", "settled", "mission/m2", "settled"),
        ("spend m1", "held", "mission/m1", "held"),
    ],
)
async def test_planted_drift_is_found_at_every_level(
    base: Base, tenant: str, key: str, field: str, level: str, figure: str
) -> None:
    stores = await busy(base, tenant)
    name, _, identity = key.partition(" ")
    keys = stores.ledger.keys
    await base.redis.hincrby(keys.of(name, identity) if identity else keys.ledger, field, 7)
    found = await audit(stores, tenant)
    assert not found.sound
    (drift,) = found.drifts
    assert (drift.level, drift.figure, drift.ledger - drift.recorder) == (level, figure, 7)


async def test_a_subject_that_is_gone_and_a_window_that_never_was_are_drift(base: Base, tenant: str) -> None:
    stores = await busy(base, tenant)
    keys = stores.ledger.keys
    await base.redis.delete(keys.of("subject", "model/small"))
    await base.redis.hset(keys.ledger, "settled:year:2001", 5)
    found = await audit(stores, tenant)
    assert {one.level for one in found.drifts} == {"model/small", "tenant"}
    assert [one.ledger for one in found.drifts if one.figure == "year:2001"] == [5]


async def test_agents_and_models_beyond_two_thousand_count_together_and_are_no_drift(
    base: Base, tenant: str
) -> None:
    stores, claims = await paid.leased(base, tenant)
    keys = stores.ledger.keys
    await base.redis.zadd(keys.subjects, {f"agent/a{number}": 1 for number in range(2_000)})
    await stores.ledger.set_limits({"agent/limited/day": 500}, by="o")
    for agent in ("x", "y", "limited", "a7"):
        await paid.call(stores, claims[0], 40, agent=agent, model="new")
    found = await audit(stores, tenant)
    assert (found.drifts, found.wrong) == ((), ())
    subjects = await stores.ledger.subjects()
    spent = {name: one.settled["lifetime"] for name, one in subjects.items() if one.calls}
    assert spent == {"agent/(others)": 80, "model/(others)": 160, "agent/limited": 40, "agent/a7": 40}


async def test_limits_that_went_with_a_removed_tenant_bind_nobody_who_has_its_name_later(
    base: Base, tenant: str
) -> None:
    await base.of(tenant).ledger.set_limits({"day": 30}, by="o")
    await base.tenants.wind_up(tenant, "op", by="o", reason="left")
    await base.tenants.add(tenant)
    stores, claims = await paid.leased(base, tenant)
    await paid.call(stores, claims[0], 40)
    found = await audit(stores, tenant)
    assert (found.drifts, found.wrong) == ((), ())


async def test_a_hold_that_nobody_granted_is_drift(base: Base, tenant: str) -> None:
    stores = await busy(base, tenant)
    await base.redis.zadd(stores.ledger.keys.holds, {"phantom": 4e15})
    (drift,) = (await audit(stores, tenant)).drifts
    assert (drift.figure, drift.ledger, drift.recorder) == ("open hold phantom", 1, 0)


async def test_the_audit_is_a_consistent_cut_of_a_ledger_that_moves(base: Base, tenant: str) -> None:
    stores, claims = await paid.leased(base, tenant)

    async def spend() -> None:
        while True:
            await paid.call(stores, claims[0], 3)

    spending = asyncio.create_task(spend())
    try:
        entries = 0
        while entries < 100:
            found = await audit(stores, tenant)
            assert found.sound, found.drifts
            entries = found.entries
    finally:
        spending.cancel()
        with suppress(asyncio.CancelledError):
            await spending


async def test_history_that_left_redis_is_replayed_from_its_archive(base: Base, tenant: str) -> None:
    stores = await busy(base, tenant)
    settings = base.settings.model_copy(update={"recorder_live": 0})
    await history.archive(base, tenant, history.archivist(replace(base, settings=settings)))
    assert await base.redis.xlen(stores.recorder.keys.log) == 1, "the last entry alone"
    found = await audit(stores, tenant)
    assert (found.sound, found.entries) == (True, 7)
    await base.redis.hincrby(stores.ledger.keys.ledger, "settled:lifetime", 1)
    assert not (await audit(stores, tenant)).sound


async def test_a_tenant_of_whom_nothing_is_recorded_is_sound(base: Base, tenant: str) -> None:
    found = await audit(base.of(tenant), tenant)
    assert (found.sound, found.entries, found.seq) == (True, 0, 0)


async def test_charges_are_compared_with_an_invoice_by_the_providers_ids(base: Base, tenant: str) -> None:
    stores, claims = await paid.leased(base, tenant)
    for number, cost in enumerate((40, 60)):
        await paid.call(stores, claims[number], cost, provider_request_id=f"req-{number}")
    comparing = Comparing(Tolerance())
    comparing.invoiced(
        [Line(2, "req-0", None, "", paid.decimal(40)), Line(3, "req-1", None, "", paid.decimal(59))]
    )
    await compare_charges([stores], comparing)
    found = comparing.result()
    assert (found.matched, found.within, found.charges) == (2, True, 2), "a call may be rounded up"
    assert json.loads(found.model_dump_json())["by"] == "request id"


async def test_what_a_restart_lost_is_told_and_is_no_drift(world: World) -> None:
    stores, claims = await paid.leased(world.base, "acme")
    await paid.call(stores, claims[0], 40)
    await history.archive(world.base, "acme", world.service)
    copy = world.save()
    await paid.call(stores, claims[1], 60)
    await history.archive(world.base, "acme", world.service)
    await world.come_back(copy)
    stores = world.base.of("acme")
    await paid.call(stores, claims[2], 7)
    await history.archive(world.base, "acme", world.service)
    found = await audit(stores, "acme")
    assert (found.drifts, found.wrong, found.entries) == ((), (), 4)
    assert (found.lost, found.lost_microusd) == (2, 60)
    assert (await stores.ledger.balance()).settled["lifetime"] == 47


async def test_a_recorder_that_is_not_whole_yet_is_audited_later(world: World) -> None:
    stores, claims = await paid.leased(world.base, "acme")
    await paid.call(stores, claims[0], 40)
    await history.archive(world.base, "acme", world.service)
    copy = world.save()
    await paid.call(stores, claims[1], 60)
    await history.archive(world.base, "acme", world.service)
    await world.come_back(copy)
    await paid.call(world.base.of("acme"), claims[2], 7)
    with pytest.raises(StoreUnavailable):
        await audit(world.base.of("acme"), "acme")


async def test_a_large_ledger_is_cut_in_pieces_each_exact(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "AT_ONCE", 1)
    stores = await busy(base, tenant)
    taken = [cut async for cut in stores.cuts.take()]
    assert len(taken) == 5, "the tenant, two agents and two models; two missions"
    assert not any(cut.whole for cut in taken)
    assert (await audit(stores, tenant)).sound
    await base.redis.hincrby(stores.ledger.keys.of("spend", "m2"), "settled", 1)
    assert [one.level for one in (await audit(stores, tenant)).drifts] == ["mission/m2"]


async def test_many_missions_of_a_tenant_without_agents_are_no_drift(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuts, "AT_ONCE", 1)
    stores, claims = await paid.leased(base, tenant)
    await paid.leased(base, tenant, "m2")
    await paid.call(stores, claims[0], 5, agent="", model="")
    assert (await audit(stores, tenant)).sound
