"""Couriers in this event loop: begun, killed, waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from chimera.errors import StoreError
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.courier import Courier
from chimera.store import keys
from chimera.store.connection import end
from chimera.store.recorder import Recorder
from chimera.store.signals import Wakeups
from tests.runtime.receiver import Receiver


def allowing(base: Base, receiver: Receiver, **settings: Any) -> Base:
    """The same connections, under settings that let actions reach the receiver."""
    changes = {"action_hosts": receiver.host, "action_timeout_s": 2.0, **settings}
    return replace(base, settings=base.settings.model_copy(update=changes), _stores={})


@asynccontextmanager
async def delivering(
    base: Base, *names: str, transport: httpx.AsyncBaseTransport | None = None
) -> AsyncIterator[list[Courier]]:
    """Couriers at work until the block ends."""
    async with AsyncExitStack() as stack:
        couriers = []
        for name in names or ("c1",):
            wakeups = await stack.enter_async_context(Wakeups(base.blocking, keys.ERRANDS))
            courier = Courier(base, name, wakeups, transport)
            courier.start()
            stack.push_async_callback(courier.stop)
            couriers.append(courier)
        yield couriers


async def kill(courier: Courier) -> None:
    """End a courier as a crash would: whatever it is doing stops there, and nothing is said of it."""
    mine = (courier.name, f"{courier.courier_id} ")
    await end(*(task for task in asyncio.all_tasks() if task.get_name().startswith(mine)))


async def until(
    stores: TenantStores, base: Base, mission_id: str = "m1", timeout_s: float = 30, **counts: int
) -> None:
    """Wait until the mission's actions stand so: told by the recorder, not by a clock."""
    waiting = Recorder(base.blocking, stores.actions.keys.tenant, stores.archive)
    async with asyncio.timeout(timeout_s):
        while True:
            try:
                seen = await stores.recorder.last()
                actions = (await stores.missions.get(mission_id)).actions
                if all(actions[status] == count for status, count in counts.items()):
                    return
                await waiting.wait(after=seen, timeout_s=1)
            except StoreError:
                await asyncio.sleep(0.05)  # the test took the store away
