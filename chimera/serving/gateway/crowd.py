"""The crowd: requests that are under way at once, in this process and of one tenant.

One counts from its head to the last byte of its answer, streams included; so what is slow to send or to read
takes a place as long as it lasts, and a tenant that is slow in many requests leaves places to the others.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from chimera.errors import HubBusy, RateLimited
from chimera.serving.gateway.problems import of_error, request_id

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 1.0
"""Who is turned away may come back after this: most requests take far less."""
SAY_AGAIN_S = 60.0
"""That somebody is turned away is logged this often."""


class Crowd:
    """The requests of one process.

    Args:
        most: under way at once.
        most_of_tenant: of these, of one tenant.
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most, self._most_of_tenant = most, most_of_tenant
        self._of_tenant: Counter[str] = Counter()
        self._said_at = float("-inf")
        self.size = 0
        """How many are under way."""

    def enter(self) -> Visit:
        """One request more; end it with `leave`.

        Raises:
            HubBusy: there are as many as may be.
        """
        if self.size >= self._most:
            if time.monotonic() - self._said_at >= SAY_AGAIN_S:
                self._said_at = time.monotonic()
                log.warning("http.crowded", requests=self.size)
            raise HubBusy(
                f"this gateway answers {self._most:,} requests at once, and has as many", RETRY_AFTER_S
            )
        self.size += 1
        return Visit(self)

    def join(self, visit: Visit, tenant: str) -> None:
        """The request is this tenant's.

        Raises:
            RateLimited: the tenant has as many under way as it may.
        """
        if self._of_tenant[tenant] >= self._most_of_tenant:
            raise RateLimited(
                f"this tenant has {self._most_of_tenant:,} requests under way on this gateway: let some end",
                RETRY_AFTER_S,
            )
        self._of_tenant[tenant] += 1
        visit.tenant = tenant

    def leave(self, visit: Visit) -> None:
        """It is over."""
        self.size -= 1
        if visit.tenant:
            self._of_tenant[visit.tenant] -= 1
            if not self._of_tenant[visit.tenant]:
                del self._of_tenant[visit.tenant]


@dataclass(slots=True, eq=False)
class Visit:
    """One request under way. `tenant` is "" until its key is known."""

    crowd: Crowd
    tenant: str = ""


class Entrance:
    """ASGI middleware: lets in as many requests as there may be. Pure: it neither buffers nor waits.

    Args:
        aside: paths that are let in always and do not count: those of probes, which matter most just then.
    """

    def __init__(self, app: ASGIApp, crowd: Crowd, aside: frozenset[str]) -> None:
        self.app, self._crowd, self._aside = app, crowd, aside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._aside:
            await self.app(scope, receive, send)
            return
        try:
            visit = self._crowd.enter()
        except HubBusy as exc:
            await of_error(exc, request_id(scope))(scope, receive, send)
            return
        scope.setdefault("state", {})["visit"] = visit
        try:
            await self.app(scope, receive, send)
        finally:
            self._crowd.leave(visit)
