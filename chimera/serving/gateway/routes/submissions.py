"""Submitting a mission: as one JSON document, or as lines that are stored as they come."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from chimera.core import trace
from chimera.core.mission import MissionBase, MissionSpec
from chimera.core.views import MissionView
from chimera.errors import InvalidRequest
from chimera.serving.gateway.answers import MAX_OPERATION, Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, JsonRequest, caller_of, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.intake import listed, take_in
from chimera.serving.gateway.lines import MEDIA_TYPES, Lines, are_lines
from chimera.serving.gateway.render import mission_view
from chimera.store.missions import Receipt

LINES: dict[str, Any] = {
    "requestBody": {
        "content": {
            MEDIA_TYPES[0]: {
                "schema": {
                    "type": "string",
                    "description": "The mission without `inputs` on the first line, then an input a line.",
                }
            }
        }
    }
}


Traceparent = Annotated[
    str | None,
    Header(
        description="The trace that the mission belongs to, as W3C Trace Context has it; else it has one."
    ),
]


class Submitted(Guarded):
    """A route that takes lines too, and a document that is in order without FastAPI's help.

    To find out what a function wants costs FastAPI a fifth of a whole submit. What is not in order still goes
    to it: it says what is wrong, as everywhere.
    """

    async def streamed(self, request: Request) -> Response | None:
        if not are_lines(request.headers.get("content-type", "")):
            return None
        caller = caller_of(request)
        operation = request.headers.get("idempotency-key")
        if not _is_operation(operation):
            raise InvalidRequest(f"Idempotency-Key must have 1 to {MAX_OPERATION} characters")
        lines = Lines(request, caller.hub.base.settings)
        mission = await lines.mission()
        given = trace.accepted(request.headers.get(trace.HEADER))
        receipt = await take_in(mission, lines.inputs(mission), caller, operation or "", given)
        return await _answer(receipt, caller)

    async def taken(self, request: JsonRequest) -> Response | None:
        operation = request.headers.get("idempotency-key")
        if not _is_operation(operation):
            return None
        try:
            spec = MissionSpec.model_validate(await request.json())
        except ValueError:  # no JSON, or no mission
            return None
        return await submit(spec, caller_of(request), operation, request.headers.get(trace.HEADER))


def _is_operation(text: str | None) -> bool:
    return text is None or 1 <= len(text) <= MAX_OPERATION


router = APIRouter(prefix="/v1/missions", tags=["missions"], route_class=Submitted, dependencies=[KEY])


@router.post("", status_code=201, response_model=MissionView, openapi_extra=needs("submit", LINES))
async def submit(
    spec: MissionSpec, caller: ByCaller, operation: Operation = None, traceparent: Traceparent = None
) -> Response:
    """Submit a mission. 201: it is stored and will be done. 200: this Idempotency-Key made it before.

    As `application/x-ndjson` it is a stream: the mission without `inputs` on the first line, then an input a
    line; so a million of them are taken in bounded memory.
    """
    mission = MissionBase.model_construct(**{name: getattr(spec, name) for name in MissionBase.model_fields})
    inputs = listed(spec.inputs, caller.hub.base.settings)
    receipt = await take_in(mission, inputs, caller, operation or "", trace.accepted(traceparent))
    return await _answer(receipt, caller)


async def _answer(receipt: Receipt, caller: Caller) -> Response:
    mission_id, made = receipt
    record = made
    if record is None:
        async with promptly():
            record = await caller.stores.readings.mission(mission_id)
    view = mission_view(record, caller.tenant)
    return answer(view, 201 if made else 200, {"Location": f"/v1/missions/{mission_id}"})
