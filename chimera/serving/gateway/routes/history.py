"""The flight recorder by question: a tenant's events by mission, task, kind and time, a page at a time."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime

from chimera.core.arguments import Kinds
from chimera.core.event import BEGINNING, Event, Position
from chimera.core.scope import FLEET
from chimera.core.views import EventView, Page
from chimera.errors import InvalidRequest
from chimera.serving.gateway.answers import After, Limit, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.whose import Whose, named

router = APIRouter(prefix="/v1/recorder", tags=["recorder"], route_class=Guarded, dependencies=[KEY])

QUERY_S = 10.0
"""It reads on through a recorder: longer than other calls."""
AHEAD_S = 1.0
"""It is read from so long before `since`: an entry's id may be older than what it says of its time."""
PAGES = 20
"""One question goes through this many pages of a tenant's recorder at most: some ten thousand events."""


@router.get("/events", response_model=Page[EventView], openapi_extra=needs("read", of="both"))
async def events(
    caller: ByCaller,
    tenant: Whose = "",
    mission: Annotated[str, Query(max_length=64, description="Of this mission alone.")] = "",
    task: Annotated[str, Query(max_length=128, description="Of this task alone.")] = "",
    kind: Annotated[
        str, Query(max_length=1_000, description="Kinds joined by commas; `task.*` is all of a noun's.")
    ] = "",
    since: Annotated[AwareDatetime | None, Query(description="Not older than this.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Older than this.")] = None,
    limit: Limit = 100,
    after: After = "",
) -> Response:
    """Events of the flight recorder, oldest first, from Redis and the archive.

    A question goes through so many events at once: a page may hold fewer than `limit`, even none, and still
    have a `next`.
    """
    whom = named(caller, tenant)
    if whom == FLEET:
        raise InvalidRequest("a key of the fleet says whose recorder it means: ?tenant=NAME")
    try:
        kinds = Kinds.parse(kind)
        start = Position.parse(after) if after else BEGINNING
    except ValueError as exc:
        raise InvalidRequest(str(exc)) from exc
    if since is not None and not after:
        start = Position.before(int((since.timestamp() - AHEAD_S) * 1000))

    def fits(event: Event) -> bool:
        young = since is None or event.at >= since
        return young and kinds.wants(event.kind) and task in {"", event.task_id}

    found: list[Event] = []
    following: str | None = None
    pages = 0
    async with promptly(QUERY_S):
        async for reached, lines in caller.hub.base.of(whom).recorder.pages(after=start, mission_id=mission):
            for at, event in lines:
                if until is not None and event.at >= until:
                    return answer(Page[EventView](items=tuple(found)))
                if fits(event):
                    found.append(event)
                    if len(found) == limit:
                        return answer(Page[EventView](items=tuple(found), next=str(at)))
            pages += 1
            following = str(reached)
            if pages == PAGES:
                break
        else:
            following = None
    return answer(Page[EventView](items=tuple(found), next=following))
