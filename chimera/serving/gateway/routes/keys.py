"""Keys: made, listed, rotated, revoked; a tenant's by its own, any by a key of the fleet."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import ConfigDict, Field

from chimera.core.mistakes import Counted, at_most
from chimera.core.scope import WORKING, Scope, shown
from chimera.core.tenantviews import KeyView, NewKeyView, RevokedView
from chimera.core.views import Page
from chimera.serving.gateway.answers import Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.whose import MAX_REASON, Reason, Whose, act_id, may_give, whose
from chimera.store.apikeys import MOST_NAME, MOST_S, OVERLAP_S, RECOGNISED_S, KeyRecord, NewKey

router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Guarded, dependencies=[KEY])


class NewKeySpec(Counted):
    """A key to make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: Annotated[
        tuple[Scope, ...],
        Field(min_length=1, max_length=len(Scope), description="What it may do."),
        at_most(len(Scope)),
    ] = tuple(scope for scope in Scope if scope in WORKING)
    name: str = Field("", max_length=MOST_NAME, description="For people: what it is for.")
    expires_in_s: float | None = Field(None, ge=1, le=MOST_S, description="It ends after this; null: never.")
    requests_per_s: float = Field(
        0, ge=0, le=1_000_000, description="Its own rate, beside the tenant's; 0: none."
    )
    reason: str = Field("", max_length=MAX_REASON, description="Why, in words; kept with the act.")


class Rotation(Counted):
    """How a key is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap_s: float = Field(OVERLAP_S, ge=0, le=MOST_S, description="The old one is good for this yet.")
    reason: str = Field("", max_length=MAX_REASON, description="Why, in words; kept with the act.")


def key_view(record: KeyRecord) -> KeyView:
    """A key as the API shows it."""
    return KeyView(
        key_id=record.key_id,
        tenant=record.tenant,
        name=record.name,
        scopes=tuple(map(Scope, shown(record.scopes))),
        created_at=_at(record.created_at),
        expires_at=_at(record.expires_at),
        used_at=_at(record.used_at),
        requests_per_s=record.requests_per_s,
    )


def _at(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(int(seconds), UTC) if seconds else None


def _shown_once(made: NewKey) -> Response:
    view = NewKeyView(**key_view(made.record).model_dump(), api_key=made.key)
    return answer(view, 201, {"Cache-Control": "no-store"})


@router.get("", response_model=Page[KeyView], openapi_extra=needs("admin", of="both"))
async def keys(caller: ByCaller, tenant: Whose = "") -> Response:
    """Keys, oldest first: what each may do, when it was used last. The keys themselves are kept nowhere."""
    owner = await whose(caller, tenant)
    async with promptly():
        found = await caller.hub.base.api_keys.list(owner)
    return answer(Page[KeyView](items=tuple(map(key_view, found))))


@router.post("", status_code=201, response_model=NewKeyView, openapi_extra=needs("admin", of="both"))
async def create(
    spec: NewKeySpec, caller: ByCaller, tenant: Whose = "", operation: Operation = None
) -> Response:
    """Make a key, shown this once. Nobody can give a scope that they do not have. 409: this Idempotency-Key
    made its key before."""
    owner = await whose(caller, tenant)
    may_give(caller, spec.scopes)
    async with promptly():
        made = await caller.hub.base.api_keys.create(
            owner,
            act_id(operation),
            by=str(caller.principal),
            scopes=spec.scopes,
            name=spec.name,
            lives_s=spec.expires_in_s,
            requests_per_s=spec.requests_per_s,
            reason=spec.reason,
        )
    return _shown_once(made)


@router.post(
    "/{key_id}/rotate", status_code=201, response_model=NewKeyView, openapi_extra=needs("admin", of="both")
)
async def rotate(
    key_id: str,
    caller: ByCaller,
    how: Rotation | None = None,
    tenant: Whose = "",
    operation: Operation = None,
) -> Response:
    """Make a key in another's place, with its name, scopes and rate; the old one is good for the overlap."""
    owner, how = await whose(caller, tenant), how or Rotation()
    async with promptly():
        may_give(caller, (await caller.hub.base.api_keys.get(owner, key_id)).scopes)
        made = await caller.hub.base.api_keys.rotate(
            owner,
            key_id,
            act_id(operation),
            by=str(caller.principal),
            overlap_s=how.overlap_s,
            reason=how.reason,
        )
    return _shown_once(made)


@router.delete("/{key_id}", response_model=RevokedView, openapi_extra=needs("admin", of="both"))
async def revoke(
    key_id: str, caller: ByCaller, reason: Reason, tenant: Whose = "", operation: Operation = None
) -> Response:
    """Take a key away. Every gateway refuses it within `within_s`; requests under way end."""
    owner = await whose(caller, tenant)
    async with promptly():
        await caller.hub.base.api_keys.revoke(
            owner, key_id, act_id(operation), by=str(caller.principal), reason=reason
        )
    return answer(RevokedView(key_id=key_id, within_s=RECOGNISED_S))
