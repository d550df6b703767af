"""Signals only hasten: however many come, all tenants are looked at in time."""

from __future__ import annotations

import asyncio

from chimera.runtime.base import Base
from chimera.store import keys
from chimera.store.signals import Wakeups


async def test_a_chatty_tenant_does_not_put_off_the_look_at_all_of_them(base: Base, tenant: str) -> None:
    subject = f"chimera:test:{tenant}"
    async with Wakeups(base.blocking, subject) as wakeups:
        heard: list[frozenset[str]] = []
        async with asyncio.timeout(60):  # for ever, if signals put it off
            while heard.count(frozenset()) < 3 or frozenset({"chatty"}) not in heard:
                await base.redis.publish(keys.channel(subject, "chatty"), "")
                heard.append(frozenset(await wakeups.wait(0.2)))


async def test_without_a_signal_it_is_time_to_look_at_all(base: Base, tenant: str) -> None:
    async with asyncio.timeout(60), Wakeups(base.blocking, f"chimera:test:{tenant}") as wakeups:
        assert await wakeups.wait(0.05) == set()
        assert await wakeups.wait(0.05) == set()
