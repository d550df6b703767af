"""Panels: parts of pages that live. Each is one document, shown as HTML in pages and as JSON to programs.

However many watch one, it is computed once a second for whomever it is about, in each process.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chimera.core.scope import FLEET
from chimera.core.views import View
from chimera.dashboard.rendering import render
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.dashboard.session import ByViewer, PartRoute
from chimera.serving.gateway.dashboard.viewer import Viewer
from chimera.serving.gateway.hub import Hub, promptly
from chimera.serving.gateway.problems import invalid_request
from chimera.serving.gateway.whose import whose

AnAsked = TypeVar("AnAsked", bound="Asked")
FRESH_S = 0.9
"""A panel is computed anew when it is older: so what changes is seen within two seconds, of which a browser
asks once."""
PACKED_BYTES = 4_096
"""A part that is larger goes gzipped. It holds nothing that is secret, so its size tells nothing."""
FORGET_S = 10.0
"""What nobody asked for again within this time is forgotten: a replay asks for many moments, each once."""
MOST_KEPT = 1_000
"""Panels that one process remembers; the one that was asked for longest ago goes first."""
MOST_BYTES = 64 << 20
"""Of all that it remembers: a page of results may have twenty of a mebibyte each."""


class Asked(BaseModel):
    """What a panel may be asked: the query of its address. More by inheritance."""

    model_config = ConfigDict(frozen=True)

    tenant: str = Field(
        "",
        max_length=64,
        description="The tenant, for a key of the fleet; without one all of them. A tenant's key has no "
        "choice.",
    )


def asked_of(model: type[AnAsked], **said: Any) -> AnAsked:
    """What a page asks a panel, from its own address.

    Raises:
        InvalidRequest: it cannot be asked.
    """
    try:
        return model.model_validate(said)
    except ValidationError as exc:
        raise invalid_request(exc.errors(), said) from exc


@dataclass(frozen=True, slots=True)
class Sight:
    """What a panel is about.

    Attributes:
        tenants: whom; all of them by name, or the one that was asked for.
        whole: it is about all tenants.
    """

    hub: Hub
    tenants: Sequence[str]
    whole: bool


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel.

    Args:
        name: in addresses; ``panels/<name>.html`` is its template, which gets `panel`, `viewer` and `asked`.
        title: its heading.
        model: of its document. One that says `still` is not looked at again by itself: nothing of it changes.
        compute: the document. It may depend on nothing but what it is given: others are shown it too.
        asked: what it may be asked.
        about: one sentence for the OpenAPI document.
        fresh_s: it is computed anew when it is older.
        wide: it takes the page's whole width.
    """

    name: str
    title: str
    model: type[View]
    compute: Callable[[Sight, Any], Awaitable[View]]
    about: str
    asked: type[Asked] = Asked
    fresh_s: float = FRESH_S
    wide: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """A document, and what programs are sent of it."""

    document: View
    body: bytes
    tag: str


@dataclass(slots=True)
class Kept:
    """A document while it is made and after, and how it was shown."""

    made_at: float
    making: asyncio.Task[Made]
    shown: dict[object, tuple[Markup, str]] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """About how many bytes it takes, once it is made."""
        made = 0 if not self.making.done() or _failed(self.making) else len(self.making.result().body)
        return made + sum(len(markup) for markup, _ in self.shown.values())


class Panels:
    """What one process computed lately."""

    def __init__(self, hub: Hub, most_bytes: int = MOST_BYTES) -> None:
        self._hub, self._most_bytes = hub, most_bytes
        self._kept: OrderedDict[tuple[str, str, str], Kept] = OrderedDict()

    @property
    def weight(self) -> int:
        """About how many bytes it all takes."""
        return sum(kept.weight for kept in self._kept.values())

    async def made(self, panel: Panel, owner: str, asked: Asked) -> Made:
        """A panel's document for a tenant, or `FLEET` for all.

        Raises:
            ChimeraError: as computing it does.
        """
        made = await asyncio.shield(self._of(panel, owner, asked).making)
        self._bound()
        return made

    async def fragment(self, panel: Panel, viewer: Viewer, asked: Asked) -> tuple[Markup, str]:
        """A panel as part of a page, and the tag of its content. Raises as `made` does."""
        kept = self._of(panel, viewer.tenant or FLEET, asked)
        document = (await asyncio.shield(kept.making)).document
        # What else it is shown by: who may do what, and whose pages send what.
        who = viewer.caller.principal.scopes, viewer.of_fleet, viewer.caller.suspended
        if who not in kept.shown:
            kept.shown[who] = _shown(panel, document, viewer, asked)
            self._bound()
        return kept.shown[who]

    def forget(self, owner: str) -> None:
        """Something of a tenant was just changed here: what shows it is computed anew."""
        for key in [key for key in self._kept if key[1] in {owner, FLEET}]:
            del self._kept[key]

    def _of(self, panel: Panel, owner: str, asked: Asked) -> Kept:
        key = panel.name, owner, asked.model_dump_json(exclude={"tenant"})
        kept = self._kept.get(key)
        if kept is None or time.monotonic() - kept.made_at > panel.fresh_s or _failed(kept.making):
            making = asyncio.create_task(self._compute(panel, owner, asked), name=f"panel {panel.name}")
            # Whoever asked may have left by the time it fails.
            making.add_done_callback(lambda task: task.cancelled() or task.exception())
            kept = self._kept[key] = Kept(time.monotonic(), making)
        self._kept.move_to_end(key)
        forgotten = time.monotonic() - FORGET_S
        while len(self._kept) > MOST_KEPT or next(iter(self._kept.values())).made_at < forgotten:
            self._kept.popitem(last=False)
        return kept

    def _bound(self) -> None:
        while len(self._kept) > 1 and self.weight > self._most_bytes:
            self._kept.popitem(last=False)

    async def _compute(self, panel: Panel, owner: str, asked: Asked) -> Made:
        async with promptly():
            whole = owner == FLEET
            tenants = await self._hub.base.tenants.names() if whole else [owner]
            document = await panel.compute(Sight(self._hub, tenants, whole), asked)
        body = document.model_dump_json().encode()
        return Made(document, body, hashlib.sha256(body).hexdigest()[:20])


def _failed(making: asyncio.Task[Made]) -> bool:
    return making.done() and (making.cancelled() or making.exception() is not None)


def _shown(panel: Panel, document: View, viewer: Viewer, asked: Asked) -> tuple[Markup, str]:
    body = render(f"panels/{panel.name}.html", panel=document, viewer=viewer, asked=asked)
    tag = hashlib.sha256(body.encode()).hexdigest()[:20]
    said = asked.model_dump(mode="json", exclude_defaults=True)
    query = f"?{urlencode(said)}" if said else ""
    still = bool(getattr(document, "still", False))
    return render("panel.html", about=panel, body=body, tag=tag, query=query, still=still), tag


def panels_of(request: Request) -> Panels:
    """This process's."""
    found: Panels = request.app.state.panels
    return found


async def fragments(request: Request, viewer: Viewer, asked: Mapping[Panel, Asked]) -> dict[str, Markup]:
    """Panels for a page's first sight, by name, computed side by side. Raises as computing them does."""
    panels = panels_of(request)
    found = await asyncio.gather(*(panels.fragment(panel, viewer, how) for panel, how in asked.items()))
    return {panel.name: markup for panel, (markup, _) in zip(asked, found, strict=True)}


def routers(panels: Sequence[Panel]) -> tuple[APIRouter, APIRouter]:
    """The routes of panels: for keys under `/v1/panels`, for sessions under `/dashboard/panels`."""
    for_keys = APIRouter(prefix="/v1/panels", tags=["panels"], route_class=Guarded, dependencies=[KEY])
    for_pages = APIRouter(prefix="/dashboard/panels", route_class=PartRoute, include_in_schema=False)
    for panel in panels:
        _add(for_keys, for_pages, panel)
    return for_keys, for_pages


def _add(for_keys: APIRouter, for_pages: APIRouter, panel: Panel) -> None:
    extra = needs("read", of="both")

    async def by_key(request: Request, caller: ByCaller, asked: Asked) -> Response:
        owner = await whose(caller, asked.tenant)
        return _json(request, await panels_of(request).made(panel, owner, asked))

    async def data(request: Request, viewer: ByViewer, asked: Asked) -> Response:
        return _json(request, await panels_of(request).made(panel, viewer.tenant or FLEET, asked))

    async def part(request: Request, viewer: ByViewer, asked: Asked) -> Response:
        markup, tag = await panels_of(request).fragment(panel, viewer, asked)
        if request.headers.get("if-none-match") == f'"{tag}"':
            return Response(status_code=304, headers={"ETag": f'"{tag}"'})
        headers = {"ETag": f'"{tag}"', "Vary": "Accept-Encoding"}
        body = markup.encode()
        if len(body) > PACKED_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return HTMLResponse(body, headers=headers)

    for one in (by_key, data, part):
        one.__annotations__["asked"] = Annotated[panel.asked, Query()]
    name = panel.name
    for_keys.add_api_route(
        f"/{name}",
        by_key,
        name=name,
        summary=panel.title,
        description=panel.about,
        response_model=panel.model,
        openapi_extra=extra,
        operation_id=f"panel_{name.replace('-', '_')}",
    )
    for_pages.add_api_route(f"/{name}.json", data, openapi_extra=extra, response_model=None)
    for_pages.add_api_route(f"/{name}", part, openapi_extra=extra, response_model=None)


def _json(request: Request, made: Made) -> Response:
    tag = f'"{made.tag}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    return Response(made.body, headers={"ETag": tag}, media_type="application/json")
