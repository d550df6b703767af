"""What every replica of the hub does: start, tell its health, end."""

from __future__ import annotations

import logging
import os
import resource
from contextlib import AsyncExitStack

import structlog

from chimera import settings as configuration
from chimera.core.money import parse_limits
from chimera.runtime.base import Base, open_as
from chimera.runtime.service import Service, see_that_all_are_well
from chimera.serving.heap import freeze
from chimera.serving.loopback import bind_loopback
from chimera.settings import Settings
from chimera.store.fleetledger import FleetLedger
from chimera.store.rights import Role
from chimera.store.signals import Wakeups
from chimera.telemetry.logs import begin, bind, configure

log = structlog.get_logger(__name__)

LOCAL_TENANT = "local"
"""The tenant of the key that the hub's own environment names."""


class Replica:
    """What every deployment's replica does: start, tell its health, end."""

    role: Role

    def __init__(self) -> None:
        begin(self.role)
        hear_serve()
        bind_loopback()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file is a copy of all secrets
        self.settings: Settings = configuration.load()
        configure(self.settings, role=self.role, stream="stdout")
        self.replica_id = f"{self.role}-{os.getpid()}-{os.urandom(3).hex()}"
        bind(worker=self.replica_id)
        self._stack = AsyncExitStack()
        self._services: list[Service] = []
        self.base: Base

    async def open(self) -> None:
        """Connect, as the role that this replica has."""
        self.base = await open_as(self.settings, self.role)
        self._stack.push_async_callback(self.base.close)

    async def run(self, *services: Service) -> None:
        """Start services; they stop in the opposite order."""
        for service in services:
            service.start()
            self._stack.push_async_callback(service.stop)
            self._services.append(service)
        self.ready()

    def ready(self) -> None:
        """All of its start is done."""
        freeze()
        log.info("replica.ready", replica=self.replica_id)

    async def wakeups(self, channel: str) -> Wakeups:
        """Names of tenants on a channel, for one service."""
        return await self._stack.enter_async_context(Wakeups(self.base.blocking, channel))

    async def check_health(self) -> None:
        """Serve asks every few seconds, on the loop that all of it runs on: each service must be alive, and
        none hang. A loop that hangs answers nothing, and Serve takes that for unhealthy too.

        The store's absence is no reason to be replaced: a new replica would find no store either.

        Raises:
            BackendError: names what is not well; after three times Serve replaces this replica.
        """
        see_that_all_are_well(self._services)

    async def __del__(self) -> None:
        # Serve's hook for a graceful end.
        await self._stack.aclose()


def hear_serve() -> None:
    """What Serve says in this process, tracebacks of ours above all, are records as all else is.

    It writes JSON into files of its own, and text to stderr whatever it is told.
    """
    serves = logging.getLogger("ray.serve")
    for handler in serves.handlers[:]:
        if type(handler) is logging.StreamHandler:
            serves.removeHandler(handler)
    serves.propagate = True


async def set_fleet_limits(base: Base) -> None:
    """The limits that the hub's own environment states over all tenants; idempotent."""
    if base.settings.fleet_limits:
        await FleetLedger(base.redis).set_limits(
            parse_limits(base.settings.fleet_limits), by="environment", stated=base.settings.fleet_limits
        )


async def make_local_tenant(base: Base) -> None:
    """Let the key of the hub's own environment act for the tenant `local`; idempotent."""
    if base.settings.api_key is None:
        return
    await base.tenants.add(LOCAL_TENANT)
    await base.api_keys.let_in(LOCAL_TENANT, base.settings.api_key.get_secret_value())
    if base.settings.tenant_limits:
        await base.of(LOCAL_TENANT).ledger.set_limits(
            parse_limits(base.settings.tenant_limits), by="environment", stated=base.settings.tenant_limits
        )
