"""The hub as a Ray Serve application: three deployments, each a plain service wrapped once.

`serve_config.yaml` names `build` and holds the same shape; behaviour comes from the environment.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack
from typing import Any

import structlog
from ray import serve

from chimera import settings as configuration
from chimera.core.money import parse_limits
from chimera.errors import BackendError
from chimera.judging.boundaries import load_boundaries
from chimera.runtime.base import Base, open_base
from chimera.runtime.controller import FleetController
from chimera.runtime.elector import Elector
from chimera.runtime.judge import Judge as JudgeService
from chimera.runtime.orchestrator import Orchestrator as OrchestratorService
from chimera.runtime.orchestrator import Rescuer
from chimera.runtime.service import Service
from chimera.serving.backend import RayBackend
from chimera.serving.gateway import Hub, create_app, leads
from chimera.serving.keepers import GovernorKeeper, publish_catalogue
from chimera.serving.loopback import bind_loopback
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.signals import Wakeups
from chimera.telemetry.logs import bind, configure

log = structlog.get_logger(__name__)

LOCAL_TENANT = "local"
"""The tenant of the key that the hub's own environment names."""


class Replica:
    """What every deployment's replica does: start, tell its health, end."""

    role = "hub"

    def __init__(self) -> None:
        bind_loopback()
        self.settings: Settings = configuration.load()
        configure(self.settings, role=self.role, stream="stdout")
        self.replica_id = f"{self.role}-{os.getpid()}-{os.urandom(3).hex()}"
        bind(worker=self.replica_id)
        self._stack = AsyncExitStack()
        self._services: list[Service] = []
        self.base: Base

    async def open(self) -> None:
        """Connect, and make the tenant of the hub's own key."""
        self.base = await open_base(self.settings)
        self._stack.push_async_callback(self.base.close)
        await make_local_tenant(self.base)

    async def run(self, *services: Service) -> None:
        """Start services; they stop in the opposite order."""
        for service in services:
            service.start()
            self._stack.push_async_callback(service.stop)
            self._services.append(service)
        log.info("replica.ready", replica=self.replica_id)

    async def wakeups(self, channel: str) -> Wakeups:
        """Names of tenants on a channel, for one service."""
        return await self._stack.enter_async_context(Wakeups(self.base.blocking, channel))

    async def check_health(self) -> None:
        """Serve asks every few seconds: each service's loop must be alive, and the store there.

        The store's absence is no reason to be replaced: a new replica would find no store either.
        """
        for service in self._services:
            if not service.running:
                raise BackendError(f"{service.name} has stopped")

    async def __del__(self) -> None:
        # Serve's hook for a graceful end.
        await self._stack.aclose()


class Gateway(Replica):
    """The HTTP door. Deployed together with two that it does not call: they meet in Redis."""

    role = "gateway"

    async def __init__(self, *_together: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        await self.open()

    def __serve_build_asgi_app__(self) -> Any:
        roles = ("orchestrator", "governor", "judge")
        return create_app(Hub(self.base, probes={role: leads(self.base.election(role)) for role in roles}))


class Orchestrator(Replica):
    """Plans, watches, rescues, scales; keeps the governor."""

    role = "orchestrator"

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        await self.open()
        # Imports of agents take a second: begin at once, so that the gateway can check names.
        catalogue = asyncio.create_task(publish_catalogue())
        elector = Elector(self.base.election("orchestrator"), self.replica_id)
        await self.run(
            elector,
            GovernorKeeper(),
            OrchestratorService(self.base, elector, await self.wakeups(keys.WAKE)),
            Rescuer(self.base, self.replica_id),
            FleetController(self.base, elector, RayBackend(), await self.wakeups(keys.WAKE)),
        )
        await catalogue


class Judge(Replica):
    """Judges results."""

    role = "judge"

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        await self.open()
        boundaries = load_boundaries(self.settings.boundaries_file)
        await self.run(
            # Judges share the work; that one of them holds this lead tells that there is one.
            Elector(self.base.election("judge"), self.replica_id),
            JudgeService(self.base, self.replica_id, await self.wakeups(keys.WAKE), boundaries),
        )


async def make_local_tenant(base: Base) -> None:
    """Let the key of the hub's own environment act for the tenant `local`; idempotent."""
    if base.settings.api_key is None:
        return
    await base.tenants.add(LOCAL_TENANT)
    await base.tenants.set_key(LOCAL_TENANT, base.settings.api_key.get_secret_value())
    if base.settings.tenant_limits:
        await base.of(LOCAL_TENANT).ledger.set_limits(
            parse_limits(base.settings.tenant_limits), by="environment"
        )


SMALL: dict[str, Any] = {"num_cpus": 0.1}
"""Hub replicas wait more than they compute: they must fit beside workers on two cores."""


def build(args: dict[str, Any]) -> serve.Application:
    """The application. `args` is Serve's; this one takes none."""
    orchestrator = serve.deployment(
        name="Orchestrator", num_replicas=1, ray_actor_options=SMALL, health_check_period_s=2
    )(Orchestrator)
    judge = serve.deployment(name="Judge", num_replicas=1, ray_actor_options=SMALL, health_check_period_s=2)(
        Judge
    )
    gateway = serve.deployment(
        name="Gateway",
        num_replicas=1,
        ray_actor_options=SMALL,
        max_ongoing_requests=1_000,
        health_check_period_s=2,
    )(serve.ingress()(Gateway))
    return gateway.bind(orchestrator.bind(), judge.bind())
