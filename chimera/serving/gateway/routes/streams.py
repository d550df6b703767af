"""A mission's event streams: its snapshots, and its flight recorder."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import StreamingResponse

from chimera.core.event import Position
from chimera.core.mission import MISSION_FINAL
from chimera.core.task import OPEN
from chimera.errors import InvalidRequest
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import each_promptly, promptly
from chimera.serving.gateway.render import mission_view
from chimera.serving.gateway.streams import BEAT, END, HEARTBEAT_S, EventStream, Streams, Tail, frame
from chimera.store.missionrecord import MissionRecord

router = APIRouter(prefix="/v1/missions", tags=["streams"], route_class=Guarded, dependencies=[KEY])

LastEventId = Annotated[
    str | None, Header(alias="Last-Event-ID", description="Go on after this event; sent by EventSource.")
]


@router.get("/{mission_id}/watch", response_class=StreamingResponse, openapi_extra=needs("read"))
async def watch(mission_id: str, caller: ByCaller, request: Request) -> StreamingResponse:
    """Server-sent events named `mission`: a MissionView now, and again whenever something changed,
    at most five a second. Ends with an event `end` once the mission is final."""
    async with promptly():
        await caller.stores.readings.mission(mission_id)

    async def snapshots(tail: Tail) -> AsyncGenerator[bytes, None]:
        shown = ""
        while True:
            seen = tail.seen
            async with promptly():
                record = await caller.stores.readings.mission(mission_id)
            snapshot = mission_view(record, caller.tenant).model_dump_json()
            if snapshot != shown:
                shown = snapshot
                yield frame("mission", snapshot)
            if record.status in MISSION_FINAL:
                yield END
                return
            while not await tail.changed(seen, HEARTBEAT_S):
                yield BEAT

    streams: Streams = request.app.state.streams
    return EventStream(streams, caller.tenant, snapshots, await streams.join(caller.tenant))


@router.get("/{mission_id}/events", response_class=StreamingResponse, openapi_extra=needs("read"))
async def events(
    mission_id: str,
    caller: ByCaller,
    request: Request,
    follow: Annotated[bool, Query(description="Wait for new events; else end with the newest.")] = True,
    last: LastEventId = None,
) -> StreamingResponse:
    """Server-sent events of the mission's flight recorder, oldest first: the name is the event's kind,
    the data an Event, the id what `Last-Event-ID` takes. Ends with an event `end` once the mission and
    all its tasks are final."""
    async with promptly():
        record = await caller.stores.readings.mission(mission_id)
    beginning = resume(last) if last else Position.before(record.submitted_at_us // 1000)

    async def entries(tail: Tail) -> AsyncGenerator[bytes, None]:
        position = beginning
        while True:
            seen = tail.seen
            async with promptly():
                record = await caller.stores.readings.mission(mission_id)
            pages = caller.stores.recorder.pages(after=position, mission_id=mission_id)
            async for reached, lines in each_promptly(pages):
                for at, event in lines:
                    yield frame(event.kind, event.model_dump_json(), str(at))
                position = reached
            if settled(record) or not follow:
                yield END
                return
            while not await tail.changed(seen, HEARTBEAT_S):
                yield BEAT

    streams: Streams = request.app.state.streams
    return EventStream(streams, caller.tenant, entries, await streams.join(caller.tenant))


def settled(record: MissionRecord) -> bool:
    """Whether the mission and all its tasks are final: nothing of note will follow."""
    return record.status in MISSION_FINAL and not any(record.counts[status] for status in OPEN)


def resume(last: str) -> Position:
    """Where to go on from an event's id: its position in the recorder.

    Raises:
        InvalidRequest: it is no id of ours.
    """
    try:
        return Position.parse(last)
    except ValueError as exc:
        raise InvalidRequest(
            f"Last-Event-ID {last[:80]!r} is no event's id: take it from an event of this stream"
        ) from exc
