"""The audit: administrative acts, who did each and why."""

from __future__ import annotations

from fastapi import APIRouter, Response

from chimera.core.event import BEGINNING, Position
from chimera.core.scope import FLEET
from chimera.core.views import EventView, Page
from chimera.errors import InvalidRequest
from chimera.serving.gateway.answers import After, Limit, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.whose import Whose, named

router = APIRouter(prefix="/v1/audit", tags=["audit"], route_class=Guarded, dependencies=[KEY])

AUDIT_S = 10.0
"""It reads on through a recorder: longer than other calls."""


@router.get("", response_model=Page[EventView], openapi_extra=needs("read", of="both"))
async def audit(caller: ByCaller, tenant: Whose = "", limit: Limit = 100, after: After = "") -> Response:
    """Acts on a tenant, its keys, quota, limits and brakes, oldest first; or on the fleet's keys.

    They are events of the tenant's flight recorder, so those of a tenant that was removed are there too. A
    page may hold fewer than `limit`, even none, and still have a `next`.
    """
    base, whom = caller.hub.base, named(caller, tenant)
    async with promptly(AUDIT_S):
        if whom == FLEET:
            events, following = await base.audit.of_fleet(after=_entry(after), most=limit)
        else:
            events, at = await base.audit.of_tenant(
                base.of(whom).recorder, after=_position(after), most=limit
            )
            following = None if at is None else str(at)
    return answer(Page[EventView](items=tuple(events), next=following))


def _position(after: str) -> Position:
    try:
        return Position.parse(after) if after else BEGINNING
    except ValueError as exc:
        raise InvalidRequest(
            f"after={after!r} is no position: take it from `next` of the page before"
        ) from exc


def _entry(after: str) -> str:
    ms, _, number = after.partition("-")
    if after and not (ms.isdecimal() and number.isdecimal() and len(after) <= 40 and after.isascii()):
        raise InvalidRequest(f"after={after!r} is no position: take it from `next` of the page before")
    return after
