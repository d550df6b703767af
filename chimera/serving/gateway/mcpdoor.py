"""`/mcp`: the door for programs that speak MCP. Key, rate and size are looked at here, as on any route.

It takes streamable HTTP without sessions: each request stands for itself, so any gateway answers it. A page
in a browser sends an `Origin`, whatever name it reached us by; one that is not ours is refused, which is what
protects against DNS rebinding. Programs that are no browser send none.
"""

from __future__ import annotations

import asyncio
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chimera.errors import ChimeraError, Forbidden, InvalidRequest
from chimera.serving.gateway.auth import JsonRequest, recognise
from chimera.serving.gateway.problems import document, of_error, request_id
from chimera.settings import Settings

PATH = "/mcp"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class McpDoor:
    """An ASGI app. It asks the API, so it is given it once it is made.

    Attributes:
        path: as a route's, for the figures.
    """

    path = PATH

    def __init__(self, api: ASGIApp, settings: Settings) -> None:
        self._api = api
        self._settings = settings
        self._origins = origins(settings)
        self._sdk: Any = None
        self._server: Any = None
        self._importing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        request = JsonRequest(scope, receive)
        try:
            if (refusal := await self._refused(request)) is not None:
                await refusal(scope, receive, send)
                return
            body = await request.body()
            await self._load()
        except ChimeraError as exc:
            await of_error(exc, request_id(scope))(scope, receive, send)
            return
        await self._sdk.serve(self._server, scope, _again(body, receive), send)

    async def _refused(self, request: JsonRequest) -> Response | None:
        """The answer to what is no call. Raises ChimeraError as a guarded route does."""
        origin = request.headers.get("origin")
        if origin is not None and origin.lower() not in self._origins:
            raise Forbidden(
                f"pages of {origin[:200]!r} may not call {PATH}: where that is meant, the operator adds "
                f"the origin to "
                "CHIMERA_MCP_ORIGINS; a program that is no browser sends no Origin"
            )
        request.state.caller = await recognise(request)
        if request.method != "POST":
            detail = f"{PATH} takes POST alone: it has no sessions, and opens no stream of its own"
            name = request_id(request.scope)
            return document("no-such-method", 405, "Method Not Allowed", detail, {}, name, {"Allow": "POST"})
        await request.take_body(self._settings.max_request_bytes)
        request.weigh(self._settings.max_mission_bytes)
        if not await request.body():
            raise InvalidRequest("the body must be a message of MCP, as JSON; nothing was changed")
        return None

    async def _load(self) -> None:
        """The SDK takes a second of a processor: who never speaks MCP does without, and nobody else waits."""
        async with self._importing:
            if self._server is None:
                self._sdk = await asyncio.to_thread(import_module, "chimera.serving.gateway.mcpserver")
                self._server = self._sdk.server_of(self._api)


def origins(settings: Settings) -> frozenset[str]:
    """Whose pages may call: those of CHIMERA_MCP_ORIGINS, and what this hub itself serves."""
    named = {one.strip().lower().rstrip("/") for one in settings.mcp_origins.split(",") if one.strip()}
    own = urlsplit(settings.address)
    local = {f"http://{host}:{settings.http_port}" for host in LOOPBACK}
    return frozenset({*named, *local, f"{own.scheme}://{own.netloc}".lower()})


def _again(body: bytes, receive: Receive) -> Receive:
    """The body that was read, and then whatever comes: that the caller leaves."""
    given = False

    async def once_more() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return once_more
