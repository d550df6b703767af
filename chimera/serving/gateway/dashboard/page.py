"""A whole page: the frame that all share, around what one of them shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse

from chimera.core.scope import FLEET
from chimera.dashboard.rendering import render
from chimera.errors import ChimeraError, InvalidRequest
from chimera.serving.gateway.dashboard.nav import Entry
from chimera.serving.gateway.dashboard.viewer import Viewer
from chimera.serving.gateway.problems import STATUS, nearest, of_error, request_id
from chimera.version import __version__


async def dashboard_page(request: Request, viewer: Viewer, template: str, **context: Any) -> Response:
    """A page from a template, which extends ``base.html``: it gets `viewer`, `tenants` and `context`."""
    entries: Sequence[Entry] = request.app.state.nav
    here = request.url.path
    return HTMLResponse(
        render(
            template,
            viewer=viewer,
            tenants=await viewer.tenants(),
            entries=entries,
            current=next((one.path for one in entries if _within(here, one.path)), ""),
            here=here,
            version=__version__,
            fleet=FLEET,
            **context,
        )
    )


def message_page(
    request: Request, error: ChimeraError, *, template: str = "error.html", **context: Any
) -> Response:
    """A page that says what went wrong, with the status that the API would answer."""
    status, title = STATUS[nearest(error)]
    problems = error.problems if isinstance(error, InvalidRequest) else ()
    detail = error.summary if isinstance(error, InvalidRequest) else str(error)
    identity = request_id(request.scope)
    headers = {
        name: of_error(error, identity).headers[name] for name in ("Retry-After",) if status in {429, 503}
    }
    return HTMLResponse(
        render(
            template,
            title=title,
            status=status,
            detail=detail,
            problems=problems,
            request_id=identity,
            version=__version__,
            **context,
        ),
        status,
        headers,
    )


def _within(here: str, path: str) -> bool:
    return here == path or here.startswith(f"{path}/")
