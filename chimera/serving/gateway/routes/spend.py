"""A tenant's money: what is spent and left, what it went to, and what limits refused."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, ConfigDict, Field

from chimera.core.mistakes import Counted, at_most
from chimera.core.report import Acknowledged, FlagView, ReportView, as_csv
from chimera.core.usage import By
from chimera.core.views import Page, SpendView
from chimera.errors import InvalidRequest
from chimera.runtime.base import TenantStores
from chimera.runtime.spending import Question, flag_view, report
from chimera.serving.gateway.answers import Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.render import spend_view
from chimera.store.flags import ALL

router = APIRouter(prefix="/v1/spend", tags=["spend"], route_class=Guarded, dependencies=[KEY])

CSV = "text/csv"
MOST_NAMES = 500


class Acknowledgement(Counted):
    """Which flags are seen."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    levels: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=300)], ...],
        Field(
            max_length=MOST_NAMES,
            description="Levels as flags name them, each with all its missions; `mission MISSION`: one "
            "mission's.",
        ),
        at_most(MOST_NAMES),
    ] = ()
    all: bool = Field(False, description="Every flag there is.")
    comment: str = Field("", max_length=2_000, description="Kept in the flight recorder.")


@router.get("", response_model=SpendView, openapi_extra=needs("read"))
async def spend(caller: ByCaller) -> Response:
    """The tenant's limits, what is spent in each window, and what is held."""
    async with promptly():
        return answer(spend_view(await caller.stores.ledger.balance(), caller.tenant))


@router.get(
    "/report",
    response_model=ReportView,
    responses={200: {"content": {CSV: {"schema": {"type": "string"}}}}},
    openapi_extra=needs("read"),
)
async def spend_report(
    request: Request,
    caller: ByCaller,
    by: Annotated[
        str,
        Query(
            max_length=100,
            description="mission, agent, model, day; several joined by commas.",
            examples=["day,model"],
        ),
    ] = "model",
    since: Annotated[AwareDatetime | None, Query(description="30 days before `until`, unless given.")] = None,
    until: Annotated[AwareDatetime | None, Query(description="Not in it. Now, unless given.")] = None,
    mission: Annotated[str, Query(max_length=64, description="Of this mission alone.")] = "",
) -> Response:
    """What money went to, how fast it goes, every limit and how it stands. `Accept: text/csv` gives the rows
    as CSV.

    The rows are read from the flight recorder: a long span takes its time, and is refused after a minute.
    """
    question = Question(by=cuts(by.split(",")), since=_utc(since), until=_utc(until), mission_id=mission)
    async with caller.hub.reports.one(caller.tenant):
        found = await report(caller.hub.base, caller.tenant, question)
    if CSV in request.headers.get("accept", ""):
        return Response(
            "".join(as_csv(found.rows, found.by)), media_type=f"{CSV}; charset=utf-8; header=present"
        )
    return answer(found)


@router.get("/flags", response_model=Page[FlagView], openapi_extra=needs("read"))
async def flags(caller: ByCaller) -> Response:
    """What limits refused and nobody has acknowledged, the last refused first."""
    async with promptly():
        found = await caller.stores.flags.all()
    return answer(Page[FlagView](items=tuple(map(flag_view, found))))


@router.post("/flags/ack", response_model=Acknowledged, openapi_extra=needs("operate"))
async def acknowledge(said: Acknowledgement, caller: ByCaller, operation: Operation = None) -> Response:
    """Say that flags are seen: they are shown no more, until the same is refused again."""
    return answer(await acknowledged(caller, caller.stores, said, operation))


async def acknowledged(
    caller: Caller, stores: TenantStores, said: Acknowledgement, operation: str | None
) -> Acknowledged:
    """Take flags of a tenant down by a caller's word.

    Raises:
        InvalidRequest: it names none.
    """
    if not said.levels and not said.all:
        raise InvalidRequest("nothing to acknowledge: name levels, or say all")
    async with promptly():
        count = await stores.flags.acknowledge(
            [ALL] if said.all else said.levels,
            operation or uuid.uuid4().hex,
            by=str(caller.principal),
            comment=said.comment,
        )
    return Acknowledged(acknowledged=count)


def cuts(names: Sequence[str]) -> tuple[By, ...]:
    """What rows are told apart by.

    Raises:
        InvalidRequest: one is not known, or stands twice.
    """
    try:
        found = tuple(By(name.strip()) for name in names if name.strip())
    except ValueError as exc:
        raise InvalidRequest(f"{exc}: rows are told apart by {', '.join(By)}") from exc
    if len(set(found)) < len(found):
        raise InvalidRequest("by names one twice")
    return found


def _utc(at: datetime | None) -> datetime | None:
    try:
        return None if at is None else at.astimezone(UTC)
    except OverflowError as exc:  # by its zone it is before the first year, or after the last
        raise InvalidRequest(f"{at} is in no year that UTC has") from exc
