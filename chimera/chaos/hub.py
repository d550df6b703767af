"""A second hub beside a fleet's own, without Ray: what a rolling upgrade has for a while.

    python -m chimera.chaos.hub

It takes the environment of the first, says ``{"event": "ready"}`` on stdout when it runs, and leaves on
SIGTERM. It has no fleet controller: workers are the first one's.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import AsyncExitStack

import uvloop

from chimera import settings as configuration
from chimera.judging.boundaries import load_boundaries
from chimera.runtime.base import Base, open_as
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.judge import Judge
from chimera.runtime.orchestrator import Orchestrator, Rescuer
from chimera.store import keys
from chimera.store.rights import Role
from chimera.store.signals import Wakeups
from chimera.telemetry.logs import bind, configure

READY = '{"event": "ready"}'


async def main() -> None:
    """Run until SIGTERM."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    settings = configuration.load()
    configure(settings, role="second hub", stream="stderr")
    replica = f"second-{os.getpid()}"
    bind(worker=replica)
    async with AsyncExitStack() as stack:

        async def opened(role: Role) -> Base:
            base = await open_as(settings, role)
            stack.push_async_callback(base.close)
            return base

        async def wakeups(base: Base, subject: str) -> Wakeups:
            return await stack.enter_async_context(Wakeups(base.blocking, subject))

        hub, money, judges = await opened("orchestrator"), await opened("governor"), await opened("judge")
        leads = Elector(hub.election("orchestrator"), replica)
        pays = Elector(money.election("governor"), replica)
        boundaries = load_boundaries(settings.boundaries_file)
        for service in (
            leads,
            pays,
            Orchestrator(hub, leads, await wakeups(hub, keys.MISSIONS)),
            Rescuer(hub, replica),
            Governor(money, pays, await wakeups(money, keys.MONEY)),
            Judge(judges, replica, await wakeups(judges, keys.REVIEWS), boundaries),
        ):
            service.start()
            stack.push_async_callback(service.stop)
        os.write(1, f"{READY}\n".encode())  # sys.stdout goes to the log by now
        await stopping.wait()


if __name__ == "__main__":
    uvloop.run(main())
