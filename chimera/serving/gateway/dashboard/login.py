"""Logging in with an API key, and out."""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse

from chimera.core.scope import Scope
from chimera.dashboard.rendering import render
from chimera.errors import ChimeraError, InvalidRequest, Unauthorized
from chimera.serving.gateway.auth import Caller, allow, hub_of, join, needs
from chimera.serving.gateway.dashboard.cookie import cookie_of, require_ours
from chimera.serving.gateway.dashboard.page import message_page
from chimera.serving.gateway.dashboard.session import LOGIN, ByViewer, FormRequest, PageRoute
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.throttle import Throttle
from chimera.store.sessions import Session, Sessions
from chimera.version import __version__

HOME = "/dashboard"
INSIDE = re.compile(r"/dashboard(?:/[\w.~-]+)*(?:\?[\w.~%=&+,:*-]*)?", re.ASCII)
"""Where a login may lead: to pages of ours alone."""
UNKNOWN = "this key is not known here: see that it is whole, and of this fleet"

public = APIRouter(include_in_schema=False)
router = APIRouter(route_class=PageRoute, include_in_schema=False)


@public.get(LOGIN)
async def form(to: Annotated[str, Query(alias="next", max_length=2_000)] = "") -> Response:
    """The form."""
    return HTMLResponse(_form(_inside(to)))


@public.post(LOGIN)
async def login(request: Request) -> Response:
    """Open a session for a key that may read, and lead to where the caller was going."""
    to = HOME
    try:
        require_ours(request)
        taken = FormRequest(request.scope, request.receive)
        await taken.take_form()
        to = _inside(taken.fields.get("next", ""))
        session = await _open(request, taken.fields.get("key", "").strip())
    except ChimeraError as exc:
        said = Unauthorized(UNKNOWN) if isinstance(exc, Unauthorized) and "has ended" not in str(exc) else exc
        return message_page(request, said, template="login.html", next=to)
    response = Response(status_code=303, headers={"Location": to})
    cookie_of(request).give(response, session.session_id)
    return response


@router.post("/dashboard/logout", openapi_extra=needs("read", of="both"))
async def logout(request: Request, viewer: ByViewer) -> Response:
    """End the session."""
    async with promptly():
        await Sessions(viewer.hub.base.redis).end(viewer.session.session_id)
    response = Response(status_code=303, headers={"Location": LOGIN})
    cookie_of(request).take(response)
    return response


async def _open(request: Request, key: str) -> Session:
    hub = hub_of(request)
    throttle: Throttle = request.app.state.throttle
    sessions = Sessions(hub.base.redis)
    async with promptly():
        await throttle.admit_login(request.client.host if request.client else "nowhere")
        if not key:
            raise InvalidRequest("give a key: it begins with chi_")
        principal = await hub.base.api_keys.recognise(key)
        join(request, principal.tenant)
        await throttle.admit_key(principal)
        allow(Caller(hub, principal), Scope.READ, "both")
        if before := request.cookies.get(cookie_of(request).name):
            await sessions.end(before)
        return await sessions.open(key, principal.tenant)


def _inside(to: str) -> str:
    return to if INSIDE.fullmatch(to) else HOME


def _form(to: str) -> str:
    return render(
        "login.html",
        next=to,
        title="",
        detail="",
        problems=(),
        status=200,
        request_id="",
        version=__version__,
    )
