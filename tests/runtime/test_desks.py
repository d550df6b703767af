"""Desks of a process that pays for many tenants: shared, bounded, closed when idle."""

from __future__ import annotations

import asyncio

import pytest

from chimera.errors import HubBusy
from chimera.runtime.base import Base
from chimera.runtime.desks import Desks


def desks_of(base: Base, most: int = 2, idle_s: float = 60) -> Desks:
    return Desks(base.redis, base.blocking, "gateway-1", wait_s=0.2, most=most, idle_s=idle_s)


async def test_calls_of_one_tenant_share_a_desk_and_tenants_do_not(base: Base, tenant: str) -> None:
    desks = desks_of(base)
    async with desks.of(tenant) as one, desks.of(tenant) as same, desks.of("other") as other:
        assert one is same
        assert other is not one
    async with desks.of(tenant) as again:
        assert again is one, "it is kept for a while"
    await desks.close()


async def test_the_longest_unused_desk_makes_room_and_one_in_use_does_not(base: Base, tenant: str) -> None:
    desks = desks_of(base)
    async with desks.of(tenant), desks.of("b"):
        with pytest.raises(HubBusy):
            async with desks.of("c"):
                pass
    async with desks.of(tenant):
        pass
    async with desks.of("c"):
        assert desks.open == {tenant, "c"}
    await desks.close()
    assert not desks.open


async def test_a_desk_that_nobody_uses_closes_and_one_in_use_does_not(base: Base, tenant: str) -> None:
    desks = desks_of(base, idle_s=0.0)
    async with desks.of(tenant):
        async with desks.of("b"):
            pass
        async with asyncio.timeout(10):
            while "b" in desks.open:  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)
        assert desks.open == {tenant}
    await desks.close()
