"""The HTTP door, as a deployment."""

from __future__ import annotations

from typing import Any

from chimera.serving.gateway import Hub, create_app, leads
from chimera.serving.gateway.archive import RECORDER, RETENTION, archived, retained
from chimera.serving.replicas.replica import Replica


class Gateway(Replica):
    """The HTTP door. Deployed together with two that it does not call: they meet in Redis."""

    role = "gateway"

    async def __init__(self, *_together: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        await self.open()

    def __serve_build_asgi_app__(self) -> Any:
        roles = ("orchestrator", "governor", "judge")
        probes = {role: leads(self.base.election(role)) for role in roles}
        archives = {RECORDER: archived(self.base), RETENTION: retained(self.base)}
        return create_app(Hub(self.base, probes={**probes, **archives}))
