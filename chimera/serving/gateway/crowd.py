"""The crowd: requests that are under way at once, in this process and of one tenant.

One counts from its head to the last byte of its answer, streams included; so what is slow to send or to read
takes a place as long as it lasts, and a tenant that is slow in many requests leaves places to the others.
One that is large takes several, since what waits for its end waits in memory.
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
PLACE_BYTES = 1 << 20
"""So much of a body may a request have in memory for each place that it takes."""
LARGE = "a large one counts for each MiB of it"
SAY_AGAIN_S = 60.0
"""That somebody is turned away is logged this often."""


class Crowd:
    """The requests of one process.

    Args:
        most: places for requests under way at once.
        most_of_tenant: of these, for those of one tenant.
    """

    def __init__(self, most: int, most_of_tenant: int) -> None:
        self._most, self._most_of_tenant = most, most_of_tenant
        self._of_tenant: Counter[str] = Counter()
        self._said_at = float("-inf")
        self.size = 0
        """How many places are taken."""

    def enter(self) -> Visit:
        """One request more; end it with `leave`.

        Raises:
            HubBusy: there are as many as may be.
        """
        self._require(1)
        self.size += 1
        return Visit(self)

    def join(self, visit: Visit, tenant: str) -> None:
        """The request is this tenant's.

        Raises:
            RateLimited: the tenant has as many under way as it may.
        """
        self._require_of(tenant, visit.places)
        self._of_tenant[tenant] += visit.places
        visit.tenant = tenant

    def hold(self, visit: Visit, size: int) -> None:
        """So many bytes of a tenant's request are in memory: it takes a place for each `PLACE_BYTES` begun.

        It keeps them to its end, however little it holds later.

        Raises:
            HubBusy, RateLimited: there are no more places, or the tenant has its share of them.
        """
        more = -(-size // PLACE_BYTES) - visit.places
        if more > 0:
            self._require(more)
            self._require_of(visit.tenant, more)
            self.size += more
            self._of_tenant[visit.tenant] += more
            visit.places += more

    def leave(self, visit: Visit) -> None:
        """It is over."""
        self.size -= visit.places
        if visit.tenant:
            self._of_tenant[visit.tenant] -= visit.places
            if not self._of_tenant[visit.tenant]:
                del self._of_tenant[visit.tenant]

    def _require(self, more: int) -> None:
        if self.size + more > self._most:
            if time.monotonic() - self._said_at >= SAY_AGAIN_S:
                self._said_at = time.monotonic()
                log.warning("http.crowded", requests=self.size)
            raise HubBusy(
                f"this gateway answers {self._most:,} requests at once, and has as many ({LARGE})",
                RETRY_AFTER_S,
            )

    def _require_of(self, tenant: str, more: int) -> None:
        if self._of_tenant[tenant] + more > self._most_of_tenant:
            raise RateLimited(
                f"this tenant has {self._most_of_tenant:,} requests under way on this gateway ({LARGE}): "
                "let some end",
                RETRY_AFTER_S,
            )


@dataclass(slots=True, eq=False)
class Visit:
    """One request under way. `tenant` is "" until its key is known."""

    crowd: Crowd
    tenant: str = ""
    places: int = 1


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
