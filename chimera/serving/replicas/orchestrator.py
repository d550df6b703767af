"""The orchestrator, with controller, rescuer, courier, archivist, retention, shelver, sampler, deployed."""

from __future__ import annotations

import asyncio

from chimera.runtime.archivist import Archivist
from chimera.runtime.base import open_base
from chimera.runtime.controller import FleetController
from chimera.runtime.courier import Courier
from chimera.runtime.elector import Elector
from chimera.runtime.exporter import Exporter
from chimera.runtime.orchestrator import Orchestrator as OrchestratorService
from chimera.runtime.orchestrator import Rescuer
from chimera.runtime.retention import Retention
from chimera.runtime.sampler import Sampler
from chimera.runtime.service import Service
from chimera.runtime.shelver import Shelver
from chimera.runtime.users import UserKeeper, reconcile
from chimera.serving.backend import RayBackend
from chimera.serving.keepers import GovernorKeeper, publish_catalogue
from chimera.serving.raymetrics import RayMetrics
from chimera.serving.replicas.replica import Replica
from chimera.store import keys
from chimera.store.signals import Wakeups
from chimera.store.users import keeps_users


class Orchestrator(Replica):
    """Plans, watches, rescues, scales, carries out actions; keeps the governor, archives and shelves."""

    role = "orchestrator"

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        keepers = await self._users()
        await self.open()
        # Imports of agents take a second: begin at once, so that the gateway can check names.
        catalogue = asyncio.create_task(publish_catalogue(self.base))
        elector = Elector(self.base.election("orchestrator"), self.replica_id)
        await self.run(
            *keepers,
            elector,
            GovernorKeeper(),
            OrchestratorService(self.base, elector, await self.wakeups(keys.MISSIONS)),
            Rescuer(self.base, self.replica_id),
            Courier(self.base, self.replica_id, await self.wakeups(keys.ERRANDS)),
            FleetController(self.base, elector, RayBackend(self.settings), await self.wakeups(keys.LOAD)),
            Archivist(self.base, elector),
            *([Exporter(self.base, elector)] if self.settings.mcp_url else []),
            Retention(self.base, elector),
            Shelver(self.base, elector),
            Sampler(self.base, elector, RayMetrics().tell),
        )
        await catalogue

    async def _users(self) -> list[Service]:
        """Where it has the operator's login: make the users of Redis, its own among them; who keeps them."""
        if not keeps_users(self.settings):
            return []
        operator = await open_base(self.settings)
        self._stack.push_async_callback(operator.close)
        await reconcile(operator)
        wakeups = await self._stack.enter_async_context(Wakeups(operator.blocking, keys.USERS))
        return [UserKeeper(operator, wakeups)]
