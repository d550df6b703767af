"""The governor's process in this event loop: governor, brakes, herald and canary under one term."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from chimera.runtime.base import Base
from chimera.runtime.brakes import Brakes
from chimera.runtime.canary import Canary, Trust
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.herald import Herald
from chimera.runtime.service import Service
from chimera.store import keys
from chimera.store.signals import Wakeups


@dataclass(frozen=True)
class Parts:
    """Handles on what runs."""

    elector: Elector
    governor: Governor
    brakes: Brakes
    herald: Herald
    canary: Canary
    trust: Trust


@asynccontextmanager
async def braking(
    base: Base,
    tenant: str,
    replica: str = "governor",
    *,
    governor: bool = True,
    brakes: bool = True,
    canary: bool = False,
) -> AsyncIterator[Parts]:
    """All of it, until the block ends; another may take over then, under a term of its own.

    Args:
        governor: answers requests; else the test calls the ledger.
        brakes: looks at spending by itself; else the test calls it.
        canary: asks by itself.
    """
    async with Wakeups(base.blocking, keys.MONEY) as wakeups:
        trust = await Trust.known(base)
        elector = Elector(base.election(f"governor of {tenant}"), replica)
        herald = Herald(base, elector)
        parts = Parts(
            elector,
            Governor(base, elector, wakeups, trust),
            Brakes(base, elector, trust, herald),
            herald,
            Canary(base, elector, trust),
            trust,
        )
        services: list[Service] = [elector, herald]
        services += [parts.governor] if governor else []
        services += [parts.brakes] if brakes else []
        services += [parts.canary] if canary else []
        for service in services:
            service.start()
        try:
            await elector.led()
            yield parts
        finally:
            for service in reversed(services):
                await service.stop()
