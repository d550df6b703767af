"""The HTTP door, as a deployment."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from chimera.errors import BackendError
from chimera.runtime.chats import Chats
from chimera.serving import door
from chimera.serving.gateway import Hub, create_app, leads
from chimera.serving.gateway.archive import EXPORT, RECORDER, RETENTION, archived, exported, retained
from chimera.serving.gateway.braked import CANARY, proven
from chimera.serving.gateway.modelled import MODEL, reached
from chimera.serving.replicas.replica import Replica, make_local_tenant, set_fleet_limits


class Gateway(Replica):
    """The HTTP door. Deployed together with two that it does not call: they meet in Redis."""

    role = "gateway"

    async def __init__(self, *_together: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        Replica.__init__(self)
        await self.open()
        await make_local_tenant(self.base)
        await set_fleet_limits(self.base)
        self._api = self._make_api()
        self._stack.push_async_callback(self._api.state.hub.films.close)
        self._stack.push_async_callback(self._api.state.hub.trails.close)
        # Where nobody lends a port, as on a cluster that is not ours, callers come through Serve's proxy.
        answers = answering(self._api, os.environ.get(door.DOOR, ""))
        self._door = await self._stack.enter_async_context(answers)
        self.ready()

    def _make_api(self) -> Any:
        roles = ("orchestrator", "governor", "judge")
        probes = {role: leads(self.base.election(role)) for role in roles}
        archives = {
            RECORDER: archived(self.base),
            RETENTION: retained(self.base),
            EXPORT: exported(self.base),
        }
        probes = {**probes, **archives, CANARY: proven(self.base)}
        return create_app(Hub(self.base, probes, {MODEL: reached(self.base.settings)}))

    def __serve_build_asgi_app__(self) -> Any:
        return self._api

    async def check_health(self) -> None:
        """As every replica's; and its own door must be open, if it has one."""
        await super().check_health()
        if self._door is not None and not self._door.is_open:
            raise BackendError("the gateway's door has closed")


@asynccontextmanager
async def answering(api: Any, path: str) -> AsyncIterator[door.Door | None]:
    """The API, behind a door where a port is lent at `path`.

    At the end chat completions under way end first, settled, while the door still waits for them: a stream is
    told so instead of being cut.
    """
    chats: Chats = api.state.chats
    async with AsyncExitStack() as stack:
        stack.push_async_callback(chats.close)
        opened = await stack.enter_async_context(door.opened(api, path)) if path else None
        stack.callback(chats.last_call)
        yield opened
