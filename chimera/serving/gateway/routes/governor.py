"""The tenant's brake: how it stands, and a person's word on it."""

from __future__ import annotations

import uuid

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from chimera.core.brake import MAX_OVERRIDE_S
from chimera.core.mistakes import Counted
from chimera.core.scope import FLEET
from chimera.core.views import GovernorView
from chimera.errors import ChimeraError, InvalidRequest
from chimera.runtime.brakeviews import governor_view
from chimera.serving.gateway.answers import Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.whose import Whose, whose
from chimera.store.brakes import MAX_REASON_CHARS, BrakeStore, Order

router = APIRouter(prefix="/v1/governor", tags=["governor"], route_class=Guarded, dependencies=[KEY])


class Word(Counted):
    """Why the brake is moved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(min_length=1, max_length=MAX_REASON_CHARS, description="In words; recorded.")


class Override(Word):
    """Why, and for how long, the brake keeps its hands off."""

    minutes: float = Field(ge=1, le=MAX_OVERRIDE_S / 60, description="From now.")


@router.get("", response_model=GovernorView, openapi_extra=needs("read", of="both"))
async def status(caller: ByCaller, tenant: Whose = "") -> Response:
    """Where the tenant's brake stands, why, and what it was decided on."""
    return answer(await _view(caller, await _owner(caller, tenant)))


@router.post("/freeze", response_model=GovernorView, openapi_extra=needs("operate", of="both"))
async def freeze(word: Word, caller: ByCaller, tenant: Whose = "", operation: Operation = None) -> Response:
    """No paid call of the tenant's starts any more, until it is thawed. Twice is fine."""
    return answer(await ordered(caller, tenant, Order.FREEZE, word, operation))


@router.post("/thaw", response_model=GovernorView, openapi_extra=needs("operate", of="both"))
async def thaw(word: Word, caller: ByCaller, tenant: Whose = "", operation: Operation = None) -> Response:
    """Paid calls start again; what was spent before is not held against it. What the canary froze, only a key
    of the fleet thaws."""
    return answer(await ordered(caller, tenant, Order.THAW, word, operation))


@router.post("/override", response_model=GovernorView, openapi_extra=needs("operate", of="both"))
async def override(
    word: Override, caller: ByCaller, tenant: Whose = "", operation: Operation = None
) -> Response:
    """The brake is open, and stays so for a while whatever is spent. The limits hold."""
    return answer(await ordered(caller, tenant, Order.OVERRIDE, word, operation, word.minutes * 60))


async def _owner(caller: Caller, tenant: str) -> str:
    owner = await whose(caller, tenant)
    if owner == FLEET:
        raise InvalidRequest("a key of the fleet says whose brake it means: ?tenant=NAME")
    return owner


async def ordered(
    caller: Caller, tenant: str, order: Order, word: Word, operation: str | None, seconds: float = 0
) -> GovernorView:
    """Move a tenant's brake by a caller's word, and say where it stands then.

    Raises:
        InvalidRequest: a key of the fleet named no tenant.
        NotFound: there is none of that name, or the caller may not know.
        Conflict: the canary froze it.
    """
    owner = await _owner(caller, tenant)
    async with promptly():
        await BrakeStore(caller.hub.base.redis).order(
            owner,
            order,
            operation or uuid.uuid4().hex,
            by=str(caller.principal),
            reason=word.reason,
            seconds=seconds,
            of_fleet=caller.principal.of_fleet,
        )
    return await _view(caller, owner)


async def _view(caller: Caller, tenant: str) -> GovernorView:
    store, rules = BrakeStore(caller.hub.base.redis), caller.hub.base.settings.brake_rules
    async with promptly():
        looks = await store.look([tenant], short_s=rules.short_s, long_s=rules.long_s)
    look = looks[tenant]
    if isinstance(look, ChimeraError):
        raise look
    return governor_view(tenant, look, rules)
