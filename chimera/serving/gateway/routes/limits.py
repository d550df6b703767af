"""Limits of money: read, lowered; raised by those who have the scope for it, and say why."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from chimera.core.limitchange import raised
from chimera.core.mistakes import Counted
from chimera.core.money import MAX_USD, check_limit, microusd
from chimera.core.scope import FLEET, Scope, shown
from chimera.core.tenantviews import LimitsView
from chimera.errors import Forbidden, InvalidRequest
from chimera.serving.gateway.answers import Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.whose import MAX_REASON, Whose, act_id, whose
from chimera.store import keys
from chimera.store.ledger import Ledger

router = APIRouter(prefix="/v1/limits", tags=["limits"], route_class=Guarded, dependencies=[KEY])

AMOUNTS = 200
"""So many limits are changed at once."""


class LimitChange(Counted):
    """Which limits change; what is not named stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limits_usd: Annotated[
        dict[str, Annotated[Decimal, Field(ge=0, le=MAX_USD, decimal_places=6)] | None],
        Field(
            min_length=1,
            max_length=AMOUNTS,
            description="USD by limit (`day`, `agent/NAME/day`, `model/NAME/hour`); null removes one.",
        ),
    ]
    reason: str = Field(
        "", max_length=MAX_REASON, description="Why, in words; needed where a limit is raised or removed."
    )


@router.get("", response_model=LimitsView, openapi_extra=needs("read", of="both"))
async def limits(caller: ByCaller, tenant: Whose = "") -> Response:
    """A tenant's limits: its own, and those of its agents and models. The fleet's, for a key of the fleet."""
    return answer(await _view(caller, await whose(caller, tenant)))


@router.patch("", response_model=LimitsView, openapi_extra=needs("operate", of="both"))
async def change(
    change: LimitChange, caller: ByCaller, tenant: Whose = "", operation: Operation = None
) -> Response:
    """Change limits. They bind new reservations at once; what is held or spent stays. To raise or remove one
    takes the scope `limits` too, and a reason."""
    owner = await whose(caller, tenant)
    changes = {
        _checked(name, owner): None if usd is None else microusd(usd)
        for name, usd in change.limits_usd.items()
    }
    ledger = _ledger(caller, owner)
    async with promptly():
        if more := raised(await ledger.limits(), changes):
            _may_raise(caller, more, change.reason)
        await ledger.change_limits(
            changes,
            act_id(operation),
            by=str(caller.principal),
            reason=change.reason,
            only_lower=not more,  # as they stood a moment ago
        )
    return answer(await _view(caller, owner))


def _ledger(caller: Caller, owner: str) -> Ledger:
    base = caller.hub.base
    return Ledger(base.redis, keys.FLEET) if owner == FLEET else base.of(owner).ledger


async def _view(caller: Caller, tenant: str) -> LimitsView:
    async with promptly():
        found = await _ledger(caller, tenant).limits()
    return LimitsView(tenant=tenant, limits_microusd=dict(sorted(found.items())))


def _may_raise(caller: Caller, names: tuple[str, ...], reason: str) -> None:
    if Scope.LIMITS not in caller.principal.scopes:
        raise Forbidden(
            f"this raises or removes {', '.join(names)}, which needs a key with the scope `limits`; key "
            f"{caller.principal.key_id} has {', '.join(shown(caller.principal.scopes))}"
        )
    if not reason.strip():
        raise InvalidRequest(f"this raises or removes {', '.join(names)}: say why in `reason`")


def _checked(name: str, owner: str) -> str:
    try:
        if owner == FLEET and "/" in name:
            raise ValueError(f"{name!r}: agents and models are limited within a tenant; say ?tenant=NAME")
        return check_limit(name)
    except ValueError as exc:
        raise InvalidRequest("the limits cannot be changed; nothing was changed", (str(exc),)) from exc
