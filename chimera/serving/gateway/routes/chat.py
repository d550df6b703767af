"""For any framework: OpenAI's chat completions, each reserved before it is sent and settled after.

A client changes its base URL and is governed. Errors are OpenAI's, not problem documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Header, Request, Response

from chimera.agents.models.chat import ChatRefused, parse
from chimera.agents.models.embedded import MODEL_NAME
from chimera.agents.models.endpoint import CallFailed
from chimera.core import trace
from chimera.core.depth import MAX_DEPTH, too_deep
from chimera.core.mission import AGENT_PATTERN, MISSION_FINAL
from chimera.core.task import TaskStatus
from chimera.errors import (
    ChimeraError,
    Conflict,
    InvalidRequest,
    InvalidTransition,
    NotFound,
    PayloadTooLarge,
)
from chimera.runtime.chats import Chats, Payer
from chimera.serving.gateway.answers import MAX_OPERATION
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, JsonRequest, caller_of, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.problems import request_id
from chimera.serving.gateway.relayed import Relayed
from chimera.serving.gateway.spoken import spoken
from chimera.settings import Settings
from chimera.store.tasks import mission_of

AGENT = "http"
"""Whose limits bind a call that says nothing of its agent."""
MAX_ID = 64
"""Characters of a mission's or task's id."""
MISSION_ID = re.compile(rf"[a-z0-9_-]{{1,{MAX_ID}}}")
"""What an id may look like: a header, unlike a path, may hold anything, and an id leads to a file."""

Mission = Annotated[
    str | None, Header(alias="X-Chimera-Mission", description="Charged to this mission's budget too.")
]
OfTask = Annotated[
    str | None,
    Header(alias="X-Chimera-Task", description="Under this task's lease, and charged to its mission too."),
]
Agent = Annotated[
    str | None,
    Header(alias="X-Chimera-Agent", description="Whose limits bind; of a task it is the task's own agent."),
]
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "messages"],
                    "properties": {"model": {"type": "string"}, "messages": {"type": "array"}},
                    "description": "As OpenAI's: docs/any-framework.md lists the fields.",
                }
            }
        },
    }
}


class Spoke(Guarded):
    """A route whose errors are OpenAI's."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            try:
                return await handler(request)
            except (ChimeraError, CallFailed, ChatRefused) as exc:
                return spoken(exc).response(request_id(request.scope))

        return handle


class Completing(Spoke):
    """A route that takes the whole request by itself: FastAPI knows it for the document alone."""

    async def streamed(self, request: Request) -> Response | None:
        return await _complete(request)


router = APIRouter(prefix="/v1", tags=["chat"], route_class=Spoke, dependencies=[KEY])
completions = APIRouter(prefix="/v1", tags=["chat"], route_class=Completing, dependencies=[KEY])


@router.get("/models", openapi_extra=needs("read"))
async def models(caller: ByCaller) -> dict[str, Any]:
    """Models that chat completions may name, as OpenAI lists them."""
    names = offered(caller.hub.base.settings)
    data = [{"id": name, "object": "model", "created": 0, "owned_by": "chimera"} for name in names]
    return {"object": "list", "data": data}


@completions.post("/chat/completions", openapi_extra=needs("submit", BODY))
async def complete(
    request: Request, mission: Mission = None, task: OfTask = None, agent: Agent = None
) -> Response:
    """A chat completion of OpenAI's kind, streaming too, within the tenant's, the mission's, the agent's and
    the model's limits."""
    return await _complete(request)


async def _complete(request: Request) -> Response:
    caller = caller_of(request)
    settings = caller.hub.base.settings
    chat = parse(await _body(request, settings.max_chat_bytes), max_tokens=settings.model_max_tokens)
    if chat.model not in offered(settings):
        raise ChatRefused(
            f"model {chat.model[:80]!r} is not offered here: there are {', '.join(offered(settings))} "
            "(CHIMERA_MODEL and CHIMERA_CHAT_MODELS)",
            "model",
            "model_not_found",
        )
    payer = await payer_of(caller, request)
    chats: Chats = request.app.state.chats
    if chat.stream:
        return Relayed(await chats.stream(chat, payer))
    paid = await chats.whole(chat, payer, _key(request) if payer.token else "")
    cost = 0 if paid.charge is None else paid.charge.cost_microusd
    headers = {"x-chimera-cost-microusd": str(cost), "x-chimera-hold": paid.hold}
    if paid.charge is None:
        headers = {"x-chimera-cost-microusd": "0", "x-chimera-kept": "true"}
    return Response(paid.body, 200, headers, "application/json")


def offered(settings: Settings) -> tuple[str, ...]:
    """The models that may be named."""
    more = (name.strip() for name in settings.chat_models.split(","))
    return tuple(dict.fromkeys([settings.model or MODEL_NAME, *filter(None, more)]))


async def payer_of(caller: Caller, request: Request) -> Payer:
    """Whose money a request takes, as its headers say.

    Raises:
        NotFound: there is no such mission or task, or it is another tenant's.
        Conflict: nobody works on the task now, or the mission is over.
        InvalidRequest: the headers contradict one another, or name no agent.
    """
    said = request.headers.get
    mission_id, task_id, agent = said("x-chimera-mission"), said("x-chimera-task"), said("x-chimera-agent")
    if agent is not None and not re.fullmatch(AGENT_PATTERN, agent):
        raise InvalidRequest(f"X-Chimera-Agent {agent[:80]!r} is no agent's name ({AGENT_PATTERN})")
    if task_id is not None:
        payer = await _of_task(caller, task_id, mission_id, agent)
    elif mission_id is not None:
        payer = await _of_mission(caller, mission_id, agent or AGENT)
    else:
        payer = Payer(caller.tenant, "", 0, 0, agent or AGENT)
    # The client's span is the nearest that there is: one of ours would only stand between.
    given = trace.accepted(said(trace.HEADER))
    return replace(payer, traceparent=given) if given else payer


async def _of_task(caller: Caller, task_id: str, mission_id: str | None, agent: str | None) -> Payer:
    stores = caller.stores
    own = mission_of(task_id)
    unknown = NotFound(f"there is no task {task_id[:MAX_ID]!r} that is under way")
    if len(task_id) > MAX_ID or mission_id not in {None, own}:
        raise unknown
    async with promptly():
        (raw,) = await stores.tasks.fetch([task_id])
        if not raw.task:
            raise unknown  # there never was one, or it has left Redis: then it is over
        spec, state = await stores.missions.document(own)
    status = raw.task["status"]
    if status != TaskStatus.PENDING:
        raise Conflict(
            f"task {task_id} is {status}: calls are charged to a task only while a worker holds it "
            f"({TaskStatus.PENDING}); say X-Chimera-Mission to charge its mission"
        )
    its = spec.stages[raw.spec["stage"]].agent
    if agent not in {None, its}:
        raise InvalidRequest(f"task {task_id} is agent {its}'s: leave X-Chimera-Agent out, or say so")
    round_ = int(raw.task.get("round") or 0)
    found = trace.of_mission(caller.tenant, own, state.traceparent)
    span = trace.span(caller.tenant, task_id, round_, int(raw.task["attempt"]))
    return Payer(caller.tenant, task_id, int(raw.task["token"]), round_, its, found.parent(span))


async def _of_mission(caller: Caller, mission_id: str, agent: str) -> Payer:
    if not MISSION_ID.fullmatch(mission_id):
        raise NotFound(f"there is no mission {mission_id[:MAX_ID]!r}")
    async with promptly():
        mission = await caller.stores.readings.mission(mission_id)
    if mission.status in MISSION_FINAL:
        raise InvalidTransition(f"mission {mission_id} is {mission.status}: it pays no more")
    found = trace.of_mission(caller.tenant, mission_id, mission.state.traceparent)
    span = trace.span(caller.tenant, mission_id)
    return Payer(caller.tenant, mission_id, 0, 0, agent, found.parent(span))


async def _body(request: Request, limit: int) -> Any:
    bounded = JsonRequest(request.scope, request.receive)
    try:
        await bounded.take_body(limit)
    except PayloadTooLarge as exc:
        raise PayloadTooLarge(exc.what, exc.size_bytes, limit, "CHIMERA_MAX_CHAT_BYTES") from exc
    text = await bounded.body()
    try:
        body = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(f"the body is no JSON: {exc}") from exc
    if too_deep(body, text):
        raise InvalidRequest(f"the body is nested deeper than {MAX_DEPTH} levels: make it flatter")
    return body


def _key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if len(key) > MAX_OPERATION:
        raise InvalidRequest(f"Idempotency-Key must have 1 to {MAX_OPERATION} characters")
    return key
