"""Sinks of the flight recorder: how far each is, and what the MCP server would not take."""

from __future__ import annotations

import uuid
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from chimera.core.mistakes import Counted, at_most
from chimera.core.scope import FLEET
from chimera.core.sinkviews import DeadAnswer, DeadLetter, SinkView
from chimera.core.views import Page
from chimera.errors import InvalidRequest
from chimera.runtime.exporting import sinks
from chimera.serving.gateway.answers import Limit, Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.whose import Whose, named, whose
from chimera.store.exports import EVERY, Exports

router = APIRouter(prefix="/v1/recorder", tags=["recorder"], route_class=Guarded, dependencies=[KEY])

AfterId = Annotated[str, Query(max_length=200, description="`next` of the page before: an event's id.")]
MOST_IDS = 500
AWAY = "it does not go on now: the operator sees why"


class Letters(Counted):
    """Which dead letters are meant."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ids: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
        Field(max_length=MOST_IDS, description="Ids of events, as the list has them."),
        at_most(MOST_IDS),
    ] = ()
    all: bool = Field(False, description="Every one there is.")
    reason: str = Field("", max_length=2_000, description="Kept in the flight recorder.")


@router.get("/sinks", response_model=Page[SinkView], openapi_extra=needs("read", of="both"))
async def progress(caller: ByCaller, tenant: Whose = "") -> Response:
    """How far each sink is: of the tenant, or with a key of the fleet of all."""
    base, whom = caller.hub.base, await whose(caller, tenant)
    async with promptly():
        names = await base.tenants.names() if whom == FLEET else [whom]
        found = await sinks(base, names)
    if (
        not caller.principal.of_fleet
    ):  # where the operator's server is, and what it said, is not a tenant's to see
        found = [one.model_copy(update={"trouble": one.trouble and AWAY}) for one in found]
    return answer(Page[SinkView](items=tuple(found)))


@router.get("/dead", response_model=Page[DeadLetter], openapi_extra=needs("read", of="both"))
async def dead(caller: ByCaller, tenant: Whose = "", limit: Limit = 100, after: AfterId = "") -> Response:
    """Events that the MCP server refused each time, in their order; `after` is the last one's id."""
    async with promptly():
        found = await _exports(caller, tenant).dead(limit, after)
    following = found[-1].id if len(found) == limit else None
    return answer(Page[DeadLetter](items=tuple(found), next=following))


@router.post("/dead/retry", response_model=DeadAnswer, openapi_extra=needs("operate", of="fleet"))
async def retry(said: Letters, caller: ByCaller, tenant: Whose = "", operation: Operation = None) -> Response:
    """Have dead letters told again, within a second or so."""
    return await _answer(caller, tenant, "retry", said, operation)


@router.post("/dead/drop", response_model=DeadAnswer, openapi_extra=needs("operate", of="fleet"))
async def drop(said: Letters, caller: ByCaller, tenant: Whose = "", operation: Operation = None) -> Response:
    """Give dead letters up: the MCP server is never told of these events. They stay in the recorder."""
    return await _answer(caller, tenant, "drop", said, operation)


async def _answer(caller: Caller, tenant: str, word: str, said: Letters, operation: str | None) -> Response:
    if not said.ids and not said.all:
        raise InvalidRequest(f"nothing to {word}: name ids, or say all")
    exports = _exports(caller, tenant)
    async with promptly():
        count = await exports.answer(
            word,
            [EVERY] if said.all else said.ids,
            operation or uuid.uuid4().hex,
            by=str(caller.principal),
            reason=said.reason,
        )
    return answer(DeadAnswer(count=count))


def _exports(caller: Caller, tenant: str) -> Exports:
    whom = named(caller, tenant)
    if whom == FLEET:
        raise InvalidRequest("a key of the fleet says whose it means: ?tenant=NAME")
    return Exports(caller.hub.base.redis, whom)
