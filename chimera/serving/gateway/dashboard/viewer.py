"""Who looks at the dashboard, and whom they look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi import Request

from chimera.core.scope import FLEET, Scope
from chimera.errors import NotFound, StoreUnavailable, Unauthorized
from chimera.serving.gateway.auth import Caller, hub_of, join
from chimera.serving.gateway.dashboard.cookie import cookie_of
from chimera.serving.gateway.hub import Hub, promptly
from chimera.serving.gateway.throttle import Throttle
from chimera.serving.gateway.whose import whose
from chimera.store.sessions import Session, Sessions

REQUESTS_PER_S = 50.0
"""What one session may ask for: a page with many panels asks for each once a second. The tenant's own rate is
not touched by it."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, and whom at.

    Attributes:
        tenant: of whom a page is asked for; "" for all tenants, which only a key of the fleet may.
    """

    caller: Caller
    session: Session
    tenant: str

    @property
    def hub(self) -> Hub:
        """The gateway's surroundings."""
        return self.caller.hub

    @property
    def of_fleet(self) -> bool:
        """Whether they may look at any tenant."""
        return self.caller.principal.of_fleet

    @property
    def one(self) -> str:
        """The tenant that is meant; raises NotFound where a key of the fleet named none."""
        if not self.tenant:
            raise NotFound("this is of one tenant: choose one")
        return self.tenant

    @property
    def csrf(self) -> str:
        """What their pages send with whatever changes something."""
        return self.session.csrf

    def may(self, scope: str) -> bool:
        """Whether their key has a scope, and its tenant is not suspended."""
        return scope in self.caller.principal.scopes and (
            self.caller.suspended is None or scope == Scope.READ
        )

    async def tenants(self) -> Sequence[str]:
        """All tenants they may choose among, by name."""
        if not self.of_fleet:
            return (self.caller.tenant,)
        async with promptly():
            return await self.hub.base.tenants.names()


async def admit(request: Request) -> tuple[Caller, Session]:
    """Who has the session that a request's cookie names.

    Raises:
        Unauthorized: there is none, or its key has ended or was taken away, and so it has ended too.
        RateLimited: it asks faster than it may, or for too much at once.
    """
    hub = hub_of(request)
    session_id = request.cookies.get(cookie_of(request).name, "")
    if not session_id:
        raise Unauthorized("log in with a key first")
    sessions = Sessions(hub.base.redis)
    async with promptly():
        session = await _again(sessions, session_id)
        if session is None:
            raise Unauthorized("this session has ended: log in again")
        try:
            principal = await hub.base.api_keys.recognise_digest(session.key_digest)
        except Unauthorized:
            await sessions.end(session_id)
            raise
        join(request, principal.tenant)
        throttle: Throttle = request.app.state.throttle
        await throttle.admit_session(principal.tenant, session.key_digest[:16], REQUESTS_PER_S)
        suspended = None
        if not principal.of_fleet and request.method not in {"GET", "HEAD"}:
            suspended = await throttle.admit(principal.tenant)
    return Caller(hub, principal, suspended), session


async def _again(sessions: Sessions, session_id: str) -> Session | None:
    """A read, so it may be repeated once, over another connection."""
    try:
        return await sessions.find(session_id)
    except StoreUnavailable:
        return await sessions.find(session_id)


async def viewer_of(caller: Caller, session: Session, query: Mapping[str, str]) -> Viewer:
    """The viewer of a page that is asked for with `?tenant=`.

    Raises:
        NotFound: there is no such tenant; for a tenant's key, if it is not its own.
    """
    owner = await whose(caller, query.get("tenant", ""))
    return Viewer(caller, session, "" if owner == FLEET else owner)
