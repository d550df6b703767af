"""One part of a fleet in a process of its own, without Ray: ``python -m tests.runtime.process PART``.

What it is comes from the environment, as everywhere. A worker and a governor are the very actors that Ray
would start; the hub's parts are put together as its replicas do it. A part says `part.ready` in its log, and
lives until it ends by itself or is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog
import uvloop

from chimera.agents.secrets import Secrets
from chimera.judging.boundaries import load_boundaries
from chimera.runtime import spare
from chimera.runtime.base import open_as
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.judge import Judge
from chimera.runtime.orchestrator import Orchestrator, Rescuer
from chimera.runtime.service import Service
from chimera.serving.actors import GovernorActor
from chimera.serving.cell import Cell
from chimera.settings import Settings, load
from chimera.store import keys
from chimera.store.rights import Role
from chimera.store.signals import Wakeups
from chimera.store.users import as_role
from chimera.telemetry.logs import bind, configure

log = structlog.get_logger(__name__)


class Hub:
    """The hub's services in one event loop."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._settings, self._name = settings, name
        self._stack = AsyncExitStack()

    async def run(self, *parts: Role) -> None:
        """Start parts, each logged in as its role, and stay."""
        for part in parts:
            self._base = await open_as(self._settings, part)
            for service in await getattr(self, f"_{part}")():
                service.start()
        log.info("part.ready")
        await asyncio.Event().wait()

    async def _orchestrator(self) -> list[Service]:
        elector = self._elector("orchestrator")
        wakeups = await self._wakeups(keys.MISSIONS)
        return [elector, Orchestrator(self._base, elector, wakeups), Rescuer(self._base, self._name)]

    async def _judge(self) -> list[Service]:
        boundaries = load_boundaries(self._settings.boundaries_file)
        return [
            self._elector("judge"),
            Judge(self._base, self._name, await self._wakeups(keys.REVIEWS), boundaries),
        ]

    async def _governor(self) -> list[Service]:
        elector = self._elector("governor")
        return [elector, Governor(self._base, elector, await self._wakeups(keys.MONEY))]

    def _elector(self, role: str) -> Elector:
        return Elector(self._base.election(role), self._name)

    async def _wakeups(self, channel: str) -> Wakeups:
        return await self._stack.enter_async_context(Wakeups(self._base.blocking, channel))


def hub(*parts: Role) -> Callable[[argparse.Namespace], Coroutine[Any, Any, None]]:
    async def run(arguments: argparse.Namespace) -> None:
        settings = load()
        configure(settings, role="-".join(parts), stream="stdout")
        bind(worker=arguments.name)
        await Hub(settings, arguments.name).run(*parts)

    return run


HUBS = {
    "orchestrator": hub("orchestrator"),
    "judge": hub("judge"),
    "planner-and-judge": hub("orchestrator", "judge"),
    "hub": hub("orchestrator", "judge", "governor"),
}


def worker(tenant: str, name: str) -> Cell:
    """A worker, or a spare that hears in this very process whose it is: its actor's part."""
    settings, imported = load(), threading.Event()
    configure(settings, role="worker", stream="stdout")
    if tenant:
        return Cell(as_role(settings, "worker", tenant), tenant, name)
    cell = Cell(settings, "", name, ready=imported.set)

    def wait() -> None:
        imported.wait()
        owner = asyncio.run(spare.wait(as_role(settings, "spare"), name))
        if owner is None:
            os._exit(0)
        cell.serve(owner, as_role(settings, "worker", owner), Secrets())

    threading.Thread(target=wait, daemon=True).start()
    return cell


def main() -> None:
    """Be one part, for good."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=("worker", "governor", *HUBS))
    parser.add_argument("--name", default=f"part-{os.getpid()}")
    parser.add_argument("--tenant", default="")
    arguments = parser.parse_args()
    if arguments.part in HUBS:
        uvloop.run(HUBS[arguments.part](arguments))
        return
    part: Any = GovernorActor() if arguments.part == "governor" else worker(arguments.tenant, arguments.name)
    assert part.ping()
    threading.Event().wait()  # its own thread ends the process


if __name__ == "__main__":
    main()
