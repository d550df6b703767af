"""Tenants, for keys of the fleet: made, listed, changed, suspended, removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import ConfigDict, Field

from chimera.core.mistakes import Counted, at_most
from chimera.core.scope import USUAL, Scope
from chimera.core.tenant import FIELDS, NAME, check_name
from chimera.core.tenantviews import NewKeyView, NewTenantView, RemovedView, TenantView
from chimera.core.views import Damaged, Page
from chimera.serving.gateway.answers import After, Limit, Operation, answer
from chimera.serving.gateway.auth import KEY, ByCaller, Caller, Guarded, needs
from chimera.serving.gateway.hub import promptly
from chimera.serving.gateway.routes.keys import key_view
from chimera.serving.gateway.whose import MAX_REASON, Reason, act_id, may_give
from chimera.store.damage import apart
from chimera.store.purge import purge as purge_tenant
from chimera.store.tenants import TenantRecord

router = APIRouter(prefix="/v1/tenants", tags=["tenants"], route_class=Guarded, dependencies=[KEY])

PURGE_S = 60.0
"""To delete what it left takes longer still."""
REMOVE_S = 10.0
"""To cancel what is open takes longer than other calls."""


class NewTenant(Counted):
    """A tenant to make, with a first key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=f"^{NAME.pattern}$", description="What it is called, for good.")
    scopes: Annotated[
        tuple[Scope, ...],
        Field(min_length=1, max_length=len(Scope), description="Of its first key."),
        at_most(len(Scope)),
    ] = tuple(scope for scope in Scope if scope in USUAL)
    reason: str = Field("", max_length=MAX_REASON, description="Why, in words; kept with the act.")


class Bounds(Counted):
    """What of a tenant's quota changes: what is left out stays, null is the fleet's default, 0 no bound."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_agents: int | None = Field(None, ge=0, le=10_000_000)
    max_ready: int | None = Field(None, ge=0, le=100_000_000)
    requests_per_s: float | None = Field(None, ge=0, le=1_000_000)
    burst: int | None = Field(None, ge=0, le=1_000_000)
    weight: int | None = Field(None, ge=1, le=1_000)
    spoke: bool | None = Field(None, description="Its workers are kept by its spoke, not by the hub.")
    reason: str = Field("", max_length=MAX_REASON, description="Why, in words; kept with the act.")


class Because(Counted):
    """Why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: str = Field(min_length=1, max_length=MAX_REASON, description="In words; kept with the act.")


def tenant_view(record: TenantRecord) -> TenantView:
    """A tenant as the API shows it."""
    since = datetime.fromtimestamp(record.suspended_at_us / 1e6, UTC) if record.suspended else None
    return TenantView(
        tenant=record.name,
        **record.quota.model_dump(),
        suspended_at=since,
        suspended_reason=record.reason,
    )


async def _view(caller: Caller, name: str) -> TenantView:
    async with promptly():
        return tenant_view(await caller.hub.base.tenants.record(name))


async def _require(caller: Caller, name: str) -> None:
    async with promptly():
        await caller.hub.base.tenants.require(name)


@router.get("", response_model=Page[TenantView], openapi_extra=needs("read", of="fleet"))
async def tenants(caller: ByCaller, limit: Limit = 100, after: After = "") -> Response:
    """Tenants by name, each with what it may have at most."""
    store = caller.hub.base.tenants

    async def read(some: Sequence[str]) -> Mapping[str, TenantView]:
        return {name: tenant_view(one) for name, one in (await store.records(some)).items()}

    async with promptly():
        names = [name for name in await store.names() if name > after]
        views, damaged = await apart(names[:limit], read)
    for name, exc in damaged.items():
        caller.hub.bulkhead.name(exc, name)
    return answer(
        Page[TenantView](
            items=tuple(views.values()),
            next=names[limit - 1] if len(names) > limit else None,
            damaged=tuple(Damaged(id=name, detail=str(exc)) for name, exc in damaged.items()),
        )
    )


@router.post("", status_code=201, response_model=NewTenantView, openapi_extra=needs("admin", of="fleet"))
async def add(new: NewTenant, caller: ByCaller, operation: Operation = None) -> Response:
    """Make a tenant with a first key, shown this once. 200: there is one of that name; nothing changed."""
    may_give(caller, new.scopes)
    base, by, act = caller.hub.base, str(caller.principal), act_id(operation)
    async with promptly():
        if not await base.tenants.create(new.name, by=by, reason=new.reason):
            record = await base.tenants.record(new.name)
            return answer(NewTenantView(tenant=tenant_view(record), made=False))
        made = await base.api_keys.create(
            new.name, act, by=by, scopes=new.scopes, name="first", reason=new.reason
        )
    key = NewKeyView(**key_view(made.record).model_dump(), api_key=made.key)
    view = NewTenantView(tenant=await _view(caller, new.name), made=True, key=key)
    return answer(view, 201, {"Location": f"/v1/tenants/{new.name}"})


@router.get("/{name}", response_model=TenantView, openapi_extra=needs("read", of="fleet"))
async def tenant(name: str, caller: ByCaller) -> Response:
    """One tenant."""
    await _require(caller, name)
    return answer(await _view(caller, name))


@router.patch("/{name}", response_model=TenantView, openapi_extra=needs("admin", of="fleet"))
async def change(name: str, bounds: Bounds, caller: ByCaller, operation: Operation = None) -> Response:
    """Change what a tenant may have at most. It binds at once; a lowered bound takes nothing back."""
    changes = {field: getattr(bounds, field) for field in FIELDS if field in bounds.model_fields_set}
    async with promptly():
        await caller.hub.base.tenants.set_quota(
            name, changes, act_id(operation), by=str(caller.principal), reason=bounds.reason
        )
    return answer(await _view(caller, name))


@router.post("/{name}/suspend", response_model=TenantView, openapi_extra=needs("admin", of="fleet"))
async def suspend(name: str, why: Because, caller: ByCaller, operation: Operation = None) -> Response:
    """Suspend a tenant: nothing of it is submitted, claimed or reserved; it may still read. Twice is fine."""
    async with promptly():
        await caller.hub.base.tenants.suspend(
            name, act_id(operation), by=str(caller.principal), reason=why.reason
        )
    return answer(await _view(caller, name))


@router.post("/{name}/resume", response_model=TenantView, openapi_extra=needs("admin", of="fleet"))
async def resume(
    name: str, caller: ByCaller, why: Because | None = None, operation: Operation = None
) -> Response:
    """Let a suspended tenant go on. Twice is fine."""
    async with promptly():
        await caller.hub.base.tenants.resume(
            name, act_id(operation), by=str(caller.principal), reason=why.reason if why else ""
        )
    return answer(await _view(caller, name))


@router.delete("/{name}", response_model=RemovedView, openapi_extra=needs("admin", of="fleet"))
async def remove(
    name: str,
    caller: ByCaller,
    reason: Reason,
    force: Annotated[bool, Query(description="Cancel what is open; ask again until it has ended.")] = False,
    purge: Annotated[
        bool, Query(description="Delete its missions and all their content too; its recorder stays.")
    ] = False,
    operation: Operation = None,
) -> Response:
    """Remove a tenant: its keys, quota and limits go; its missions and its recorder stay.

    409 while work of it is open; with `force` that is cancelled, and 409 says how much is still to end. With
    `purge` what it left is deleted, for good, also of a tenant that was removed before; a call that runs out
    of time is to be asked again.
    """
    base, op, by = caller.hub.base, act_id(operation), str(caller.principal)
    async with promptly(PURGE_S if purge else REMOVE_S):
        if not purge or name in await base.tenants.names():
            await base.tenants.wind_up(name, op, by=by, reason=reason, force=force)
        if purge:
            await purge_tenant(base.redis, base.blobs, check_name(name), op, by=by, reason=reason)
    return answer(RemovedView(tenant=name, purged=purge))
