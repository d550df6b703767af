"""The governor's Ray actor: a thin shell around a plain class, which runs on an event loop in a thread.

What runs in it must not stop Ray from reaching the actor, so the loop is not Ray's own. Workers' actors are
in `chimera.serving.shell`.
"""

from __future__ import annotations

import asyncio
import os
import resource

from chimera import settings as configuration
from chimera.runtime.base import open_as
from chimera.runtime.brakes import Brakes
from chimera.runtime.canary import Canary, Trust
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.herald import Herald
from chimera.serving.heap import freeze
from chimera.serving.loop import LoopThread
from chimera.store import keys
from chimera.store.signals import Wakeups
from chimera.telemetry.logs import begin, configure

ANSWER_S = 3.0
"""A loop that turns answers within this."""


class GovernorActor:
    """The governor: named and detached, so it outlives the replica that made it."""

    def __init__(self) -> None:
        begin("governor")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file is a copy of all secrets
        settings = configuration.load()
        configure(settings, role="governor", stream="stdout")
        self._loop = LoopThread("governor")
        self._loop.run(self._main(settings), then=_leave)

    async def _main(self, settings: configuration.Settings) -> None:
        base = await open_as(settings, "governor")
        elector = Elector(base.election("governor"), f"governor-{os.getpid()}-{os.urandom(3).hex()}")
        async with Wakeups(base.blocking, keys.MONEY) as wakeups:
            # Before the first grant: a failure of the canary may stand.
            trust = await Trust.known(base)
            herald = Herald(base, elector)
            services = (
                elector,
                Governor(base, elector, wakeups, trust),
                herald,
                Brakes(base, elector, trust, herald),
                Canary(base, elector, trust),
            )
            for service in services:
                service.start()
            freeze()
            try:
                await asyncio.Event().wait()
            finally:
                for service in reversed(services):
                    await service.stop()
                await base.close()

    def ping(self) -> bool:
        """Whether its loop runs, and is held by nothing."""
        return self._loop.answers(ANSWER_S)

    def __repr__(self) -> str:
        return "governor"


def _leave() -> None:
    """End this actor's process: its work is over, and nothing restarts it behind our back."""
    # Ray's exit_actor works only inside an actor's own call; this is the loop's thread.
    os._exit(0)
