"""A Serve application as small as can be: what the fleet's tests deploy instead of the hub."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack
from typing import Any

from ray import serve
from starlette.responses import JSONResponse

from chimera.serving import door
from chimera.serving.loopback import bind_loopback


class TinyHub:
    """Answers every path, at the fleet's door, with its pid and the whole environment that it sees."""

    async def __init__(self) -> None:  # type: ignore[misc]  # Serve awaits it
        bind_loopback()
        self._stack = AsyncExitStack()
        await self._stack.enter_async_context(door.opened(answer, os.environ[door.DOOR]))

    async def __del__(self) -> None:
        await self._stack.aclose()


async def answer(scope: Any, receive: Any, send: Any) -> None:
    """The ASGI application."""
    await JSONResponse({"pid": os.getpid(), "environment": dict(os.environ)})(scope, receive, send)


def build(_: dict[str, Any]) -> serve.Application:
    """The application."""
    return serve.deployment(name="TinyHub", ray_actor_options={"num_cpus": 0.1, "resources": {"hub": 0.001}})(
        TinyHub
    ).bind()
