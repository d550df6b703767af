"""Around every request: its id, its figures, and the last net for what nobody expected."""

from __future__ import annotations

import re
import time
import uuid

import structlog
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chimera.serving.gateway.problems import internal
from chimera.telemetry.metrics import Metrics

log = structlog.get_logger(__name__)

HEADER = "X-Request-Id"
FIT = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""An id that we echo and log as it is; any other is replaced."""


class Envelope:
    """ASGI middleware. Pure: it neither buffers nor hides a client that leaves."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self._requests = metrics.counter("chimera_http_requests_total")
        self._seconds = metrics.histogram("chimera_http_seconds")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(HEADER.lower().encode(), b"").decode("latin-1")
        identity = given if FIT.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = identity
        started, answered = time.perf_counter(), False

        async def seal(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and not answered:
                answered = True
                MutableHeaders(scope=message)[HEADER] = identity
                # To the answer's first byte: a stream's length says nothing about us.
                self._count(scope, message["status"], time.perf_counter() - started)
            await send(message)

        with structlog.contextvars.bound_contextvars(request_id=identity):
            try:
                await self.app(scope, receive, seal)
            except Exception:
                log.exception("http.crashed", path=scope["path"])
                if answered:
                    raise
                await internal(identity)(scope, receive, seal)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        # The route's template, never the path itself: labels must stay few.
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(route, scope["method"], str(status)).inc()
        self._seconds.labels(route).observe(seconds)
