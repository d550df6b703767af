"""Routes for those with a session: who looks, whether they may, whether a page of ours made the request."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Coroutine
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

from chimera.errors import (
    ChimeraError,
    Forbidden,
    InvalidRequest,
    PayloadTooLarge,
    Unauthorized,
)
from chimera.serving.gateway.auth import JsonRequest, allow, needed
from chimera.serving.gateway.dashboard.cookie import NOT_OURS, cookie_of, require_ours
from chimera.serving.gateway.dashboard.page import message_page
from chimera.serving.gateway.dashboard.viewer import Viewer, admit, viewer_of
from chimera.serving.gateway.problems import invalid_request, of_error, request_id

SAFE = frozenset({"GET", "HEAD"})
FORM_BYTES = 1 << 16
"""A form may be as large."""
CSRF = "X-CSRF-Token"
"""Header, or member of a form of the name `csrf`."""
LOGIN = "/dashboard/login"


async def _viewer(request: Request) -> Viewer:
    viewer: Viewer = request.state.viewer
    return viewer


ByViewer = Annotated[Viewer, Depends(_viewer)]


class PartRoute(APIRoute):
    """A route for those with a session: a part of a page, data, or an act. Errors are problem documents.

    Raises:
        ConfigurationError: it does not say what it needs.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()
        scope, of = needed(self)

        async def handle(request: Request) -> Response:
            try:
                caller, session = await admit(request)
                request.state.caller = caller
                allow(caller, scope, of)
                if request.method not in SAFE:
                    require_ours(request)
                    request = await _with_body(request)
                    _require_token(request, session.csrf)
                request.state.viewer = await viewer_of(caller, session, request.query_params)
                return await handler(request)
            except RequestValidationError as exc:
                return await self.refused(request, invalid_request(exc.errors(), exc.body))
            except ChimeraError as exc:
                return await self.refused(request, exc)

        return handle

    async def refused(self, request: Request, error: ChimeraError) -> Response:
        """The answer to what went wrong."""
        response = of_error(error, request_id(request.scope))
        if isinstance(error, Unauthorized):
            del response.headers["WWW-Authenticate"]  # a browser would ask for a password
            cookie_of(request).take(response)
        return response


class PageRoute(PartRoute):
    """The same of a whole page: errors are pages, and who has no session is led to the login."""

    async def refused(self, request: Request, error: ChimeraError) -> Response:
        if not isinstance(error, Unauthorized):
            return message_page(request, error)
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        if request.headers.get("sec-fetch-site") == "cross-site":
            # Whoever follows a link from elsewhere sends no cookie of this kind, until a page of ours asks.
            return Response(
                '<!doctype html><meta http-equiv="refresh" content="0"><title>Chimera</title>',
                media_type="text/html",
            )
        to = f"{LOGIN}?next={quote(here, safe='')}" if request.method in SAFE else LOGIN
        return Response(status_code=303, headers={"Location": to})


class FormRequest(JsonRequest):
    """A request whose body is a form, or JSON, of bounded size.

    Attributes:
        fields: of the form.
    """

    fields: dict[str, str]

    async def take_form(self) -> None:
        """Read the form.

        Raises:
            RequestTimeout, RateLimited, HubBusy: as of any body.
            InvalidRequest: it is too large, or neither form nor JSON.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        self.fields = {}
        if kind == "application/x-www-form-urlencoded":
            try:
                body = await self.take_bytes(FORM_BYTES, "")
            except PayloadTooLarge as exc:
                raise InvalidRequest(f"a form has {FORM_BYTES:,} bytes at most; nothing was changed") from exc
            try:
                self.fields = dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=100))
            except ValueError as exc:
                raise InvalidRequest(f"the form cannot be read: {exc}") from exc
        else:
            await self.take_body(FORM_BYTES)


async def _with_body(request: Request) -> FormRequest:
    taken = FormRequest(request.scope, request.receive)
    await taken.take_form()
    request.state.fields = taken.fields
    return taken


def fields_of(request: Request) -> dict[str, str]:
    """The fields of the form that a request brought; {} where it brought none."""
    fields: dict[str, str] = request.state.fields
    return fields


def _require_token(request: FormRequest, token: str) -> None:
    given = request.headers.get(CSRF) or request.fields.get("csrf", "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        raise Forbidden(NOT_OURS)
