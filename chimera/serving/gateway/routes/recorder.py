"""A tenant's flight recorder: all its events, live too, and whether its chain is whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import StreamingResponse

from chimera.core.chainviews import ChainView, Mark
from chimera.core.event import BEGINNING, Event, Position
from chimera.core.scope import FLEET
from chimera.errors import InvalidRequest
from chimera.serving.gateway.answers import answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import each_promptly, promptly
from chimera.serving.gateway.routes.streams import resume
from chimera.serving.gateway.streams import BEAT, END, HEARTBEAT_S, EventStream, Streams, Tail, frame
from chimera.serving.gateway.whose import Whose, named
from chimera.store.chain import verify as follow_chain

router = APIRouter(prefix="/v1", tags=["recorder"], route_class=Guarded, dependencies=[KEY])

MOST_KINDS = 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events are asked for.

    Attributes:
        kinds: how their kinds begin: ``task.``, ``spend.settled``; all where there is none.
        since, until: from an instant on, and before one.
    """

    mission_id: str = ""
    task_id: str = ""
    kinds: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    def has(self, event: Event) -> bool:
        """Whether it is one of them."""
        return (
            self.task_id in {"", event.task_id}
            and (not self.kinds or event.kind.startswith(self.kinds))
            and (self.since is None or event.at >= self.since)
            and (self.until is None or event.at < self.until)
        )

    def is_over(self, event: Event) -> bool:
        """Whether none of them can follow."""
        return self.until is not None and event.at >= self.until


@router.get("/events", response_class=StreamingResponse, openapi_extra=needs("read", of="both"))
async def events(
    caller: ByCaller,
    request: Request,
    tenant: Whose = "",
    kind: Annotated[
        str, Query(max_length=500, description="How kinds begin, comma between: `task.,spend.settled`.")
    ] = "",
    mission: Annotated[str, Query(max_length=64, description="Of this mission alone.")] = "",
    task: Annotated[str, Query(max_length=128, description="Of this task alone.")] = "",
    since: Annotated[datetime | None, Query(description="From this instant on.")] = None,
    until: Annotated[datetime | None, Query(description="Before this instant; it ends there.")] = None,
    live: Annotated[bool, Query(description="Only what happens from now on.")] = False,
    follow: Annotated[bool, Query(description="Wait for new events; else end with the newest.")] = True,
    last: Annotated[
        str | None, Header(alias="Last-Event-ID", description="Go on after this event; sent by EventSource.")
    ] = None,
) -> StreamingResponse:
    """Server-sent events of a tenant's whole flight recorder, oldest first: the name is the event's kind, the
    data an Event, the id what `Last-Event-ID` takes. Also of a tenant that was removed."""
    whom = _tenant(caller, tenant)
    wanted = Wanted(mission or task.partition(".")[0], task, _kinds(kind), _utc(since), _utc(until))
    recorder = caller.hub.base.of(whom).recorder
    streams: Streams = request.app.state.streams

    async def entries(tail: Tail) -> AsyncGenerator[bytes, None]:
        if last:
            position = resume(last)
        elif live:
            async with promptly():
                position = await recorder.last()
        elif wanted.since is not None:
            position = Position.before(int(wanted.since.timestamp() * 1000))
        else:
            position = BEGINNING
        while True:
            seen = tail.seen
            pages = recorder.pages(after=position, mission_id=wanted.mission_id)
            async for reached, lines in each_promptly(pages):
                for at, event in lines:
                    if wanted.is_over(event):
                        yield END
                        return
                    if wanted.has(event):
                        yield frame(event.kind, event.model_dump_json(), str(at))
                position = reached
            if not follow:
                yield END
                return
            while not await tail.changed(seen, HEARTBEAT_S):
                yield BEAT

    return EventStream(streams, whom, entries, await streams.join(whom))


@router.get("/recorder/verify", response_model=ChainView, openapi_extra=needs("read", of="both"))
async def verify(
    caller: ByCaller,
    tenant: Whose = "",
    position: Annotated[str, Query(max_length=40, description="Of an anchor: `EPOCH/SEQ`.")] = "",
    hashed: Annotated[str, Query(alias="hash", max_length=64, description="Its hash.")] = "",
) -> Response:
    """Follow the hash chain of a tenant's recorder, archive and stream: `wrong` is empty when it is whole.

    It reads all there is, so it takes a while: one at a time of a tenant. `position` and `hash` are an anchor
    that was noted before, which history must still lead through. Also of a tenant that was removed.
    """
    whom = _tenant(caller, tenant)
    since = Mark.parse(position, hashed) if position or hashed else None
    base = caller.hub.base
    async with caller.hub.reports.one(whom):
        found = await follow_chain(base.redis, whom, base.of(whom).archive, since=since)
    return answer(found)


def _tenant(caller: Caller, tenant: str) -> str:
    whom = named(caller, tenant)
    if whom == FLEET:
        raise InvalidRequest("a key of the whole fleet says whose recorder it means: tenant=NAME")
    return whom


def _kinds(text: str) -> tuple[str, ...]:
    found = tuple(filter(None, (part.strip() for part in text.split(","))))
    if len(found) > MOST_KINDS:
        raise InvalidRequest(f"kind names {len(found)} beginnings: at most {MOST_KINDS}")
    return found


def _utc(at: datetime | None) -> datetime | None:
    if at is None:
        return None
    try:
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except OverflowError as exc:  # by its zone it is before the first year, or after the last
        raise InvalidRequest(f"{at} is in no year that UTC has") from exc
