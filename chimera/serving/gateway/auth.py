"""Who calls, and whether they may: a key and its scopes, before anything else of the request is looked at.

The key is checked before the body is read, so that a stranger cannot make us hold one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from email.message import Message
from typing import Annotated, Any, Literal

import orjson
from fastapi import Depends, Request, Response, Security
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer

from chimera.core.scope import Scope, shown
from chimera.errors import (
    ConfigurationError,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    StoreUnavailable,
    Unauthorized,
)
from chimera.runtime.base import TenantStores
from chimera.serving.gateway.crowd import Visit
from chimera.serving.gateway.hub import Hub, promptly
from chimera.serving.gateway.throttle import Throttle
from chimera.store.apikeys import UNKNOWN, Principal, flag_of

BODY_S = 60.0
"""A JSON body must be there within this; lines have bounds of their own (`chimera.serving.gateway.lines`)."""
NEEDS = "x-chimera-scope"
"""A route's scope, in the OpenAPI document."""
FOR = "x-chimera-for"
"""Whose keys a route is for, in the OpenAPI document: ``tenant``, ``fleet`` or ``both``."""
INPUTS = "inputs"
"""Of a mission's members the one that goes to the blob store; each item has a limit of its own."""


def needs(
    scope: Literal["submit", "read", "operate", "admin", "limits"],
    extra: Mapping[str, Any] | None = None,
    *,
    of: Literal["tenant", "fleet", "both"] = "tenant",
) -> dict[str, Any]:
    """What a route says of itself: ``@router.get("/spend", openapi_extra=needs("read"))``.

    Args:
        scope: what the key must have.
        extra: more for the OpenAPI document.
        of: whose key it must be. Of ``fleet`` and ``both`` the route must not take `Caller.stores` for
            granted: a key of the fleet has no tenant.
    """
    return {**(extra or {}), NEEDS: scope, FOR: of}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request, and all of the store they may see.

    Attributes:
        suspended: why their tenant is suspended; None: it is not.
    """

    hub: Hub
    principal: Principal
    suspended: str | None = None

    @property
    def tenant(self) -> str:
        """Their tenant."""
        return self.principal.tenant

    @property
    def stores(self) -> TenantStores:
        """Their tenant's stores.

        Raises:
            Forbidden: they act for the whole fleet.
        """
        if self.principal.of_fleet:
            raise Forbidden("a key of the whole fleet acts for no tenant")
        return self.hub.base.of(self.tenant)


def hub_of(request: Request) -> Hub:
    """The hub this app was made for."""
    hub: Hub = request.app.state.hub
    return hub


def caller_of(request: Request) -> Caller:
    """Whom `Guarded` recognised."""
    caller: Caller = request.state.caller
    return caller


# FastAPI runs what is no coroutine in a thread, which costs more than both of these.
async def _hub(request: Request) -> Hub:
    return hub_of(request)


async def _caller(request: Request) -> Caller:
    return caller_of(request)


FromHub = Annotated[Hub, Depends(_hub)]
ByCaller = Annotated[Caller, Depends(_caller)]
KEY = Security(HTTPBearer(auto_error=False, description="A tenant's key: `Authorization: Bearer chi_…`."))
"""For the OpenAPI document; `Guarded` does the work."""


async def recognise(request: Request) -> Caller:
    """Who calls.

    Raises:
        Unauthorized: the same whether the key is missing or wrong; it says so where one has ended.
        RateLimited: the key or the tenant asks faster than it may, or for too much at once.
    """
    hub = hub_of(request)
    principal = await _principal(request)
    join(request, principal.tenant)
    suspended = None
    async with promptly():
        throttle: Throttle = request.app.state.throttle
        await throttle.admit_key(principal)
        if not principal.of_fleet:
            suspended = await throttle.admit(principal.tenant)
    return Caller(hub, principal, suspended)


async def require_fleet(request: Request, scope: Scope) -> None:
    """Let only a key of the whole fleet pass, where there is no `Guarded` and no crowd.

    Raises:
        Unauthorized, Forbidden: as of any route.
    """
    allow(Caller(hub_of(request), await _principal(request)), scope, "fleet")


async def _principal(request: Request) -> Principal:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key.strip():
        raise Unauthorized(UNKNOWN)
    async with promptly():
        return await _owner(hub_of(request), key.strip())


def join(request: Request, tenant: str) -> None:
    """A request is this tenant's. Raises as `Crowd.join` does."""
    visit = _visit(request)
    visit.crowd.join(visit, tenant)


def hold(request: Request, size: int) -> None:
    """So many bytes of a request are in memory. Raises as `Crowd.hold` does."""
    visit = _visit(request)
    visit.crowd.hold(visit, size)


def _visit(request: Request) -> Visit:
    found: Visit = request.state.visit
    return found


async def _owner(hub: Hub, key: str) -> Principal:
    """Whose key it is. A read, so it may be repeated once: after a restart of the store the connections
    kept from before are dead, and the first to use one learns so. Better here than in a write."""
    try:
        return await hub.base.api_keys.recognise(key)
    except StoreUnavailable:
        return await hub.base.api_keys.recognise(key)


def allow(caller: Caller, scope: Scope, of: str) -> None:
    """Let only those pass who may. A suspended tenant may read, and nothing else.

    Raises:
        Forbidden: what the key lacks, or that its tenant is suspended.
    """
    principal = caller.principal
    if of != "both" and principal.of_fleet != (of == "fleet"):
        raise Forbidden(
            "this call is for a tenant's key, and this key is the whole fleet's: make one with "
            "`chimera key create --tenant NAME`"
            if principal.of_fleet
            else "this call is for a key of the whole fleet, and this key is a tenant's: ask the operator"
        )
    if scope not in principal.scopes:
        raise Forbidden(
            f"this call needs a key with the scope `{scope}`, and key {principal.key_id} has "
            f"{', '.join(shown(principal.scopes))}: whoever has the scope `admin` makes one "
            f"(`chimera key create {flag_of(principal.tenant)} --scopes {scope}`)"
        )
    if caller.suspended is not None and scope is not Scope.READ:
        raise Forbidden(
            f"tenant {principal.tenant} is suspended ({caller.suspended or 'no reason given'}): it may read, "
            "and nothing else, until the operator resumes it"
        )


def needed(route: APIRoute) -> tuple[Scope, str]:
    """What a route said by `needs`: the scope, and whose key.

    Raises:
        ConfigurationError: it does not say what it needs.
    """
    said = route.openapi_extra or {}
    if NEEDS not in said:
        raise ConfigurationError(
            f"the route {route.path} names no scope: give it `openapi_extra=needs(…)` "
            "(chimera/serving/gateway/auth.py)"
        )
    return Scope(said[NEEDS]), str(said[FOR])


class Guarded(APIRoute):
    """A route for those with a key: the key and its scopes first, then a body of bounded size, read fast.

    Raises:
        ConfigurationError: it does not say what it needs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        scope, of = needed(self)

        async def handle(request: Request) -> Response:
            caller = request.state.caller = await recognise(request)
            allow(caller, scope, of)
            if (answered := await self.streamed(request)) is not None:
                return answered
            bounded = JsonRequest(request.scope, request.receive)
            settings = hub_of(request).base.settings
            await bounded.take_body(settings.max_request_bytes)
            bounded.weigh(settings.max_mission_bytes)
            if (answered := await self.taken(bounded)) is not None:
                return answered
            return await handler(bounded)

        return handle

    async def streamed(self, request: Request) -> Response | None:
        """The answer to a body that is read as it comes; None where it is read whole first."""
        return None

    async def taken(self, request: JsonRequest) -> Response | None:
        """The answer to a document that this route takes by itself; None where FastAPI is to look at it."""
        return None


class JsonRequest(Request):
    """A request whose body is JSON of bounded size."""

    async def take_body(self, limit: int) -> None:
        """Read the body, and stop as soon as it is over the limit.

        Raises:
            PayloadTooLarge: naming the size as far as it was read or declared.
            RequestTimeout: it is not there after `BODY_S`.
            RateLimited, HubBusy: too much is in memory already, of the tenant's or of all.
            InvalidRequest: there is a body and it does not say that it is JSON.
        """
        body = await self.take_bytes(limit, "CHIMERA_MAX_REQUEST_BYTES")
        if body and not is_json(self.headers.get("content-type", "")):
            raise InvalidRequest(
                "the body must be JSON and say so, with Content-Type: application/json; nothing was changed"
            )

    async def take_bytes(self, limit: int, setting: str) -> bytes:
        """Read a body of whatever kind, and stop as soon as it is over the limit, which a setting gives.

        Raises:
            PayloadTooLarge, RequestTimeout, RateLimited, HubBusy: as `take_body` does.
        """
        try:
            async with asyncio.timeout(BODY_S):
                body = await self._body_within(limit, setting)
        except TimeoutError as exc:
            raise RequestTimeout(
                f"the request was not there after {BODY_S:g} s; nothing was changed: send less at once; many "
                "inputs may come as lines (application/x-ndjson), which are read as long as some come"
            ) from exc
        self._body = body
        return body

    async def _body_within(self, limit: int, setting: str) -> bytes:
        declared = self.headers.get("content-length", "0")
        size = int(declared) if declared.isdecimal() else 0
        chunks: list[bytes] = []
        if size <= limit:
            size = 0
            async for chunk in self.stream():
                size += len(chunk)
                if size > limit:
                    break
                hold(self, size)
                chunks.append(chunk)
        if size > limit:
            raise PayloadTooLarge("the request", size, limit, setting)
        return b"".join(chunks)

    def weigh(self, limit: int) -> None:
        """Refuse what is too large beside its inputs, before a closer look, which takes far longer.

        Raises:
            PayloadTooLarge: naming the size.
            InvalidRequest: it is nested too deeply.
        """
        if not self._body:
            return
        try:
            value = self._json = orjson.loads(self._body)
        except orjson.JSONDecodeError:
            return  # whoever takes the body says where it is no JSON
        if isinstance(value, dict):
            value = {name: inner for name, inner in value.items() if name != INPUTS}
        try:
            size = len(orjson.dumps(value))
        except orjson.JSONEncodeError as exc:
            raise InvalidRequest(f"the request cannot be taken ({exc}): make it flatter") from exc
        if size > limit:
            raise PayloadTooLarge(
                f"the request without its {INPUTS}", size, limit, "CHIMERA_MAX_MISSION_BYTES"
            )

    async def json(self) -> Any:
        """The body's value."""
        return self._json if hasattr(self, "_json") else orjson.loads(self._body)


def is_json(content_type: str) -> bool:
    """``application/json``, ``application/*+json``."""
    if content_type == "application/json":
        return True
    message = Message()
    message["content-type"] = content_type
    kind = message.get_content_type()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))
