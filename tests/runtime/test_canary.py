"""The canary: refused while limits hold; granted once, everything freezes until a person lets go."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from structlog.testing import capture_logs

from chimera.core.brake import BrakeCause, BrakeState
from chimera.core.event import Event
from chimera.errors import BudgetExceeded
from chimera.runtime import canary as canaries
from chimera.runtime.base import Base, open_base
from chimera.runtime.brakeviews import canary_health
from chimera.runtime.desk import Desk
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.brakes import BrakeStore, CanaryRecord, Look, Order
from chimera.store.keys import TenantKeys
from chimera.store.ledger import Ledger
from chimera.store.scripts import source
from tests.runtime.braking import braking
from tests.store import drive

S, C = BrakeState, BrakeCause
REFUSES = "if l.settled + held + amount <= l.limit then return end"
"""The line of the script on which every limit stands."""


@contextmanager
def broken() -> Iterator[None]:
    """The script that reserves refuses nothing, as if another had taken its place."""

    def harmless(name: str) -> str:
        text = source(name)
        if name != "reserve_holds":
            return text
        assert REFUSES in text
        return text.replace(REFUSES, "if true then return end")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chimera.store.scripts.source", harmless)
        patch.setattr(
            "chimera.store.scripts.digest",
            lambda name: hashlib.sha1(harmless(name).encode(), usedforsecurity=False).hexdigest(),
        )
        yield


@pytest.fixture
async def base(settings: Settings, tenant: str) -> AsyncIterator[Base]:
    """A fleet of two tenants whose canary sings often, and leaves nothing behind."""
    opened = await open_base(settings.model_copy(update={"canary_s": 0.05}))
    await forget(opened)
    for name in (tenant, f"{tenant}-other"):
        await opened.tenants.add(name)
    yield opened
    for name in (tenant, f"{tenant}-other"):
        await opened.tenants.remove(name)
    await forget(opened)
    await opened.close()


async def forget(base: Base) -> None:
    """The canary is the whole store's, and each test's governor has terms of its own."""
    await base.redis.delete(keys.CANARY, *await base.redis.keys(f"{{{keys.CANARY}}}:*"))


async def until_said(base: Base, said: str, after_us: int = 0) -> CanaryRecord:
    store = BrakeStore(base.redis)
    async with asyncio.timeout(30):
        while (record := await store.canary()).said != said or record.at_us <= after_us:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)  # nothing tells of it
    return record


async def until_state(base: Base, tenant: str, state: BrakeState) -> Look:
    store = BrakeStore(base.redis)
    async with asyncio.timeout(30):
        while True:
            look = (await store.look([tenant], short_s=60, long_s=300))[tenant]
            assert isinstance(look, Look)
            if look.brake.state is state:
                return look
            await asyncio.sleep(0.02)


async def changes(base: Base, tenant: str) -> list[Event]:
    return [event async for _, event in base.of(tenant).recorder.read() if event.kind == "brake.changed"]


async def test_it_is_refused_on_the_way_of_all_others_while_limits_hold(base: Base, tenant: str) -> None:
    async with braking(base, tenant, canary=True):
        record = await until_said(base, "refused")
        await until_said(base, "refused", record.at_us)
    assert canary_health(record, base.settings.canary_s).ok
    assert record.failure == ""
    # It shows nowhere: no tenant, no brake that moved, and its own recorder does not grow for ever.
    assert keys.CANARY not in await base.tenants.names()
    assert await changes(base, tenant) == []
    await BrakeStore(base.redis).trim_canary(1)
    assert await base.redis.xlen(TenantKeys(keys.CANARY).log) == 1
    assert await base.redis.llen(TenantKeys(keys.CANARY).requests) == 0


async def test_granted_everything_freezes_and_says_so_until_a_person_lets_go(base: Base, tenant: str) -> None:
    other, store = f"{tenant}-other", BrakeStore(base.redis)
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (claim,) = await drive.claim(stores, lease_s=60)
    desk = Desk(base.redis, base.blocking, tenant, "w1", wait_s=0)
    desk.start()
    try:
        with capture_logs() as logs:
            async with braking(base, tenant, canary=True) as parts:
                await store.order(other, Order.OVERRIDE, "o", by="operator", reason="launch", seconds=600)
                with broken():
                    record = await until_said(base, "granted")
                    for name in (tenant, other):
                        assert (await until_state(base, name, S.FROZEN)).brake.cause is C.CANARY
                    # Though the script would grant it.
                    with pytest.raises(BudgetExceeded) as refused:
                        await desk.reserve(claim.task_id, claim.token, 100, 60)
                    assert refused.value.braked
                    assert (await stores.ledger.balance()).held == 0
                record = await until_said(base, "refused")
                assert record.failure, "refused again, and yet not trusted until somebody looked"
                assert not canary_health(record, base.settings.canary_s).ok
                assert parts.trust.withdrawn(tenant)
                # One that is made later is frozen as well.
                late = f"{tenant}-late"
                await base.tenants.add(late)
                try:
                    await until_state(base, late, S.FROZEN)
                finally:
                    await base.tenants.remove(late)
                # One may go on while the others wait; then all do.
                await store.order(tenant, Order.THAW, "t1", by="operator", reason="seen to", of_fleet=True)
                async with asyncio.timeout(30):
                    while parts.trust.withdrawn(tenant):  # noqa: ASYNC110 (nothing tells of it)
                        await asyncio.sleep(0.02)  # nothing tells of it
                assert await desk.reserve(claim.task_id, claim.token, 100, 60)
                assert parts.trust.withdrawn(other)
                await store.clear_canary()
                await store.order(other, Order.THAW, "t2", by="operator", reason="seen to", of_fleet=True)
                async with asyncio.timeout(30):
                    while parts.trust.failure or parts.trust.withdrawn(other):  # noqa: ASYNC110 (nothing tells of it)
                        await asyncio.sleep(0.02)  # nothing tells of it
    finally:
        await desk.stop()
    assert {line["log_level"] for line in logs if line["event"] == "canary.granted"} == {"error"}
    told = [(event.details["to"], event.details["cause"]) for event in await changes(base, tenant)]
    assert told == [("frozen", "canary"), ("open", "operator")], "once for one failure"


async def test_a_governor_that_begins_knows_of_the_failure_before_it_grants(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1]))
    (claim,) = await drive.claim(stores, lease_s=60)
    await BrakeStore(base.redis).report_canary("granted", "", "c1", term=0)
    desk = Desk(base.redis, base.blocking, tenant, "w1", wait_s=0)
    desk.start()
    try:
        async with braking(base, tenant, brakes=False):
            with pytest.raises(BudgetExceeded) as refused:
                await desk.reserve(claim.task_id, claim.token, 100, 60)
    finally:
        await desk.stop()
    assert refused.value.level == "brake/frozen"


async def test_without_an_answer_nothing_is_frozen_and_the_governor_is_said_to_be_away(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries, "ANSWER_S", 0.2)
    async with braking(base, tenant, governor=False, canary=True):
        record = await until_said(base, "silent")
    assert (record.failure, record.proven_us) == ("", 0)
    assert await changes(base, tenant) == []


async def test_another_refusal_than_that_of_its_limit_proves_nothing(base: Base, tenant: str) -> None:
    await base.redis.hset(TenantKeys(keys.CANARY).brake, mapping={"state": "frozen", "since": 1})
    async with braking(base, tenant, canary=True):
        record = await until_said(base, "odd")
    assert "brake/frozen" in record.detail
    assert not canary_health(record, base.settings.canary_s).ok
    assert record.failure == ""


async def test_a_store_that_lost_the_canarys_limit_is_no_failure_of_limits(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(self: Ledger, limits: object, **said: object) -> None:
        """As if the store had come back without that write."""

    monkeypatch.setattr(Ledger, "set_limits", lost)
    async with braking(base, tenant, canary=True):
        record = await until_said(base, "odd")
    assert record.failure == ""
    assert await changes(base, tenant) == []


async def test_where_no_canary_is_wanted_none_is_asked_for(base: Base, tenant: str) -> None:
    quiet = await open_base(base.settings.model_copy(update={"canary_s": 0}))
    try:
        async with braking(quiet, tenant, canary=True) as parts:
            assert not parts.canary.running
    finally:
        await quiet.close()
