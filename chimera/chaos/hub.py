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
from chimera.runtime.base import open_base
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.judge import Judge
from chimera.runtime.orchestrator import Orchestrator, Rescuer
from chimera.store import keys
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
        base = await open_base(settings)
        stack.push_async_callback(base.close)

        async def wakeups(channel: str) -> Wakeups:
            return await stack.enter_async_context(Wakeups(base.blocking, channel))

        leads, pays = (Elector(base.election(role), replica) for role in ("orchestrator", "governor"))
        boundaries = load_boundaries(settings.boundaries_file)
        for service in (
            leads,
            pays,
            Orchestrator(base, leads, await wakeups(keys.MISSIONS)),
            Rescuer(base, replica),
            Governor(base, pays, await wakeups(keys.MONEY)),
            Judge(base, replica, await wakeups(keys.REVIEWS), boundaries),
        ):
            service.start()
            stack.push_async_callback(service.stop)
        os.write(1, f"{READY}\n".encode())  # sys.stdout goes to the log by now
        await stopping.wait()


if __name__ == "__main__":
    uvloop.run(main())
