"""Tenants: made, suspended, resumed, removed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from chimera.errors import (
    BudgetExceeded,
    Conflict,
    Forbidden,
    InvalidRequest,
    NotFound,
    RefusalKind,
    Unauthorized,
)
from chimera.runtime.base import Base
from chimera.store.ledger import Reservation, Settlement
from chimera.store.tenants import TenantRecord
from tests.keys import key_of
from tests.store import drive


@pytest.fixture
async def name(base: Base, tenant: str) -> AsyncIterator[str]:
    yield f"{tenant}-new"
    await base.tenants.remove(f"{tenant}-new")


async def acts(base: Base, name: str) -> list[tuple[str, str, str]]:
    """Kind, who and why of the administrative acts on a tenant."""
    events, _ = await base.audit.of_tenant(base.of(name).recorder)
    return [(event.kind, event.by, event.details.get("reason", "")) for event in events]


async def test_a_tenant_is_made_once_however_many_make_it(base: Base, name: str) -> None:
    made = await asyncio.gather(*(base.tenants.create(name, by=f"o{n}", reason="asked") for n in range(5)))
    assert any(made)
    assert not await base.tenants.create(name, by="late")
    assert [(kind, why) for kind, _, why in await acts(base, name)] == [("tenant.added", "asked")]


async def test_what_can_be_no_tenants_name_makes_none(base: Base) -> None:
    with pytest.raises(InvalidRequest, match="is no name for a tenant"):
        await base.tenants.create("*", by="o")
    assert "*" not in await base.tenants.names()


async def test_nothing_of_a_suspended_tenant_is_claimed_until_it_is_resumed(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2], priority="high"))
    assert await base.tenants.suspend(tenant, "a", by="o", reason="unpaid")
    assert await drive.claim(stores, 5) == []
    record = await base.tenants.record(tenant)
    assert (record.suspended, record.reason) == (True, "unpaid")
    assert record.quota == base.settings.tenant_quota
    assert await base.tenants.resume(tenant, "b", by="o", reason="paid")
    assert len(await drive.claim(stores, 5, claim_id="again")) == 2
    assert await base.tenants.record(tenant) == TenantRecord(tenant, base.settings.tenant_quota)
    assert await acts(base, tenant) == [("tenant.suspended", "o", "unpaid"), ("tenant.resumed", "o", "paid")]


async def test_nothing_is_submitted_for_a_suspended_tenant_and_what_was_before_is_told(
    base: Base, tenant: str
) -> None:
    await drive.submit(base, tenant, drive.spec(), "m1", idempotency_key="k")
    await base.tenants.suspend(tenant, "a", by="o")
    with pytest.raises(Forbidden, match=f"tenant {tenant} is suspended"):
        await drive.submit(base, tenant, drive.spec(), "m2")
    assert await base.of(tenant).missions.list_ids() == ["m1"]
    assert await drive.submit(base, tenant, drive.spec(), "m3", idempotency_key="k") == "m1"


async def test_nothing_is_reserved_for_a_suspended_tenant_and_what_is_spent_is_settled(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one, *_) = await drive.claim(stores, 1)
    before = Reservation("h0", one.task_id, one.token, 400, 60)
    assert await stores.ledger.reserve([before], term=drive.TERM, by="g") == [None]
    await base.tenants.suspend(tenant, "a", by="o", reason="unpaid")
    asked = [before._replace(hold_id="h1"), before]
    (refused, again) = await stores.ledger.reserve(asked, term=drive.TERM, by="g")
    assert isinstance(refused, BudgetExceeded)
    assert (refused.kind, refused.level) == (RefusalKind.WINDOW, "tenant/suspended")
    assert again is None, "that was granted before"
    done = await stores.ledger.settle(
        [Settlement("h0", 300)], term=drive.TERM, by="g", keep_s=60, keep_bytes=1_000
    )
    assert done == [None]
    balance = await stores.ledger.balance()
    assert (balance.held, balance.settled["lifetime"]) == (0, 300)


async def test_a_tenant_is_suspended_once_for_an_operation_and_while_it_is(base: Base, tenant: str) -> None:
    assert await base.tenants.suspend(tenant, "a", by="o")
    assert await base.tenants.suspend(tenant, "a", by="o"), "the first answer again"
    assert not await base.tenants.suspend(tenant, "b", by="o")
    await base.tenants.resume(tenant, "c", by="o")
    assert await base.tenants.suspend(tenant, "a", by="o")
    assert not (await base.tenants.record(tenant)).suspended, "that operation was done before"
    assert len(await acts(base, tenant)) == 2


async def test_a_quota_is_reset_without_ending_a_suspension(base: Base, tenant: str) -> None:
    await base.tenants.suspend(tenant, "a", by="o", reason="unpaid")
    await base.tenants.set_quota(tenant, {"weight": None}, "b", by="o", reason="as before")
    assert (await base.tenants.record(tenant)).suspended
    assert (await acts(base, tenant))[-1] == ("quota.set", "o", "as before")


async def test_a_tenant_with_open_missions_is_not_removed(base: Base, tenant: str) -> None:
    await drive.begin(base, tenant, drive.spec())
    key = await key_of(base, tenant)
    with pytest.raises(Conflict, match=r"1 missions, 0 tasks.*--force"):
        await base.tenants.wind_up(tenant, "a", by="o", reason="left")
    assert (await base.api_keys.authenticate(key)).tenant == tenant
    assert await acts(base, tenant) == []


async def test_force_cancels_what_is_open_and_removes_the_tenant_when_that_has_ended(
    base: Base, tenant: str
) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    await drive.claim(stores, 1)
    key = await key_of(base, tenant)
    await base.tenants.set_quota(tenant, {"weight": 5}, "q", by="o")
    with pytest.raises(Conflict, match="1 missions, 1 tasks"):
        await base.tenants.wind_up(tenant, "a", by="o", reason="left", force=True)
    assert tenant in await base.tenants.names(), "the hub still has to end what is open"
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate(key)
    await drive.end(stores)
    await base.tenants.wind_up(tenant, "a", by="o", reason="left", force=True)
    assert tenant not in await base.tenants.names()
    assert await base.redis.exists(stores.missions.keys.limits) == 0
    with pytest.raises(Forbidden, match="nothing was submitted"):  # a request that was under way
        await drive.submit(base, tenant, drive.spec(), "m2")
    await base.tenants.add(tenant)
    assert await base.tenants.record(tenant) == TenantRecord(tenant, base.settings.tenant_quota)
    assert (await stores.missions.get("m1")).status == "CANCELLED", "its records stay"
    assert await drive.submit(base, tenant, drive.spec(), "m2")
    kinds = [kind for kind, _, _ in await acts(base, tenant)]
    assert kinds == ["quota.set", "tenant.suspended", "tenant.removed"]


async def test_a_name_may_be_used_again_and_finds_what_it_had(base: Base, name: str) -> None:
    for life in ("first", "second"):
        assert await base.tenants.create(name, by="o", reason=life)
        await base.tenants.wind_up(name, life, by="o", reason=life)
    kinds = [kind for kind, _, _ in await acts(base, name)]
    assert kinds == ["tenant.added", "tenant.removed"] * 2


async def test_a_key_that_was_made_while_its_tenant_was_removed_is_none_of_a_later_one(
    base: Base, name: str
) -> None:
    await base.tenants.create(name, by="o")
    await base.tenants.wind_up(name, "r", by="o", reason="left")
    late = await key_of(base, name)
    assert await base.tenants.create(name, by="o")
    with pytest.raises(Unauthorized):
        await base.api_keys.authenticate(late)


async def test_what_is_no_tenant_is_not_suspended_resumed_or_removed(base: Base) -> None:
    for act in (base.tenants.suspend, base.tenants.resume, base.tenants.wind_up):
        with pytest.raises(NotFound, match="no tenant 'stranger'"):
            await act("stranger", "a", by="o")
