"""The Ray actors: thin shells around plain classes, each running its own event loop in a thread.

An agent that blocks the worker's loop must not stop Ray from reaching the actor, so the loop is
not Ray's own.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog
import uvloop

from chimera import settings as configuration
from chimera.agents.registry import Registry
from chimera.runtime import spare
from chimera.runtime.base import open_as
from chimera.runtime.brakes import Brakes
from chimera.runtime.canary import Canary, Trust
from chimera.runtime.crew import EXITS
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.herald import Herald
from chimera.runtime.memory import limit_memory
from chimera.runtime.worker import Worker
from chimera.serving.heap import freeze
from chimera.store import keys
from chimera.store.connection import connect, connect_sync
from chimera.store.signals import Wakeups
from chimera.store.users import as_role
from chimera.telemetry.logs import bind, configure

log = structlog.get_logger(__name__)


class LoopThread:
    """An event loop in a thread of its own, running one coroutine to its end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.error: str | None = None

    def run(self, main: Coroutine[Any, Any, Any], *, then: Any = None) -> None:
        """Run `main`; call `then` when it has ended, however it ended."""
        self._thread = threading.Thread(
            target=self._drive, args=(self._to_its_end(main, then),), name=self._name, daemon=True
        )
        self._thread.start()

    def _drive(self, main: Coroutine[Any, Any, None]) -> None:
        """Run the loop until `main` ends, and nobody else's exit before that."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            loop = runner.get_loop()
            task = loop.create_task(main)
            while not task.done():
                try:
                    loop.run_until_complete(task)
                except EXITS:
                    # A callback raised it, or a task that is no attempt's: asyncio hands it to us, and stops.
                    log.exception("loop.exit_refused", actor=self._name)

    def soon(self, call: Callable[[], Any]) -> None:
        """Call something on the loop, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    async def _to_its_end(self, main: Coroutine[Any, Any, Any], then: Any) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await main
        except (Exception, *EXITS) as exc:
            self.error = f"{type(exc).__name__}: {exc}"
            log.exception("actor.failed", actor=self._name)
        finally:
            # On the loop: its own end would wait for agents that do not listen to being cancelled.
            if then is not None:
                then()

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self._thread is not None and self._thread.is_alive()


class WorkerActor:
    """One worker of one tenant.

    Args:
        tenant: whose it is, or "" for a spare: that learns it later, once (see `chimera.runtime.spare`).
    """

    def __init__(self, tenant: str, worker_id: str) -> None:
        settings = configuration.load()
        configure(settings, role="worker", stream="stdout")
        self.tenant, self.worker_id, self.node = tenant, worker_id, _node()
        self.worker: Worker | None = None
        self._loop = LoopThread(f"worker {worker_id}")
        # This is the main thread as long as no method is a coroutine: else Ray runs all on a loop of its own.
        signal.signal(signal.SIGTERM, lambda *_: self._terminated(settings.preempt_s))
        self._loop.run(_work(self, settings), then=_leave)

    def _terminated(self, within_s: float) -> None:
        """Whoever ends this process (a container's end, a hand) gives it some seconds: use them."""
        if self.worker is None:
            _leave()  # it holds nothing
        else:
            self._loop.soon(partial(self.worker.drain, last_s=within_s))

    def ping(self) -> bool:
        """Whether its loop runs."""
        return self._loop.alive

    def __repr__(self) -> str:
        return f"worker {self.tenant}/{self.worker_id}"


async def _work(actor: WorkerActor, settings: configuration.Settings) -> None:
    """The worker's life, on its own loop. A spare's begins with waiting."""
    bind(worker=actor.worker_id)
    registry = Registry.load(settings.agents)
    if not actor.tenant:
        spare.warm()
        freeze()
        tenant = await _bound(actor.worker_id, as_role(settings, "spare"))
        if tenant is None:
            return
        actor.tenant = tenant
    settings = as_role(settings, "worker", actor.tenant)
    redis, blocking = connect(settings), connect(settings, blocking=True)
    sync = connect_sync(settings)
    try:
        bind(tenant=actor.tenant)
        limit_memory(settings.worker_memory_mb)
        actor.worker = worker = Worker(
            settings,
            actor.tenant,
            actor.worker_id,
            registry,
            redis=redis,
            blocking=blocking,
            sync=sync,
            stuck=_leave,
            node=actor.node,
        )
        freeze()
        await worker.run()
    finally:
        sync.close()
        await redis.aclose()
        await blocking.aclose()


async def _bound(spare_id: str, settings: configuration.Settings) -> str | None:
    """Whose a spare has become; None when it is to end. Until then it logs in as no tenant's."""
    redis, blocking = connect(settings), connect(settings, blocking=True)
    try:
        return await spare.bound(redis, blocking, spare_id)
    finally:
        await redis.aclose()
        await blocking.aclose()


class GovernorActor:
    """The governor: named and detached, so it outlives the replica that made it."""

    def __init__(self) -> None:
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
        """Whether its loop runs."""
        return self._loop.alive

    def __repr__(self) -> str:
        return "governor"


def _node() -> str:
    """The id of the Ray node that this process is on; "" where Ray did not start it."""
    # What Ray starts has imported it; what it did not start need not pay for that.
    ray = sys.modules.get("ray")
    return str(ray.get_runtime_context().get_node_id()) if ray and ray.is_initialized() else ""


def _leave() -> None:
    """End this actor's process: its work is over, and nothing restarts it behind our back."""
    # Ray's exit_actor works only inside an actor's own call; this is the loop's thread.
    os._exit(0)
