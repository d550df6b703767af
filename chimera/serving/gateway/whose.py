"""Whom a call is about: a key of the fleet may name any tenant, a tenant's only its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Annotated

from fastapi import Query

from chimera.core.scope import FLEET, Scope, shown
from chimera.core.tenant import NAME
from chimera.errors import Forbidden, NotFound
from chimera.serving.gateway.auth import Caller
from chimera.serving.gateway.hub import promptly

Whose = Annotated[
    str,
    Query(
        max_length=64,
        description="The tenant, for a key of the fleet; without one the fleet itself. A tenant's key has no "
        "choice.",
    ),
]
MAX_REASON = 2_000
Reason = Annotated[
    str, Query(min_length=1, max_length=MAX_REASON, description="Why, in words; kept with the act.")
]


async def whose(caller: Caller, tenant: str) -> str:
    """The tenant that is meant, or `FLEET`.

    Raises:
        NotFound: there is none of that name; for a tenant's key also where there is.
    """
    if not caller.principal.of_fleet:
        if tenant not in {"", caller.tenant}:
            raise _not_ours(caller, tenant)
        return caller.tenant
    if tenant in {"", FLEET}:
        return FLEET
    async with promptly():
        await caller.hub.base.tenants.require(tenant)
    return tenant


def _not_ours(caller: Caller, tenant: str) -> NotFound:
    """What a tenant's key is told of any other tenant, be there one or not."""
    return NotFound(f"there is no tenant {tenant!r} for this key, which acts for {caller.tenant} alone")


def named(caller: Caller, tenant: str) -> str:
    """The same, of tenants that are no more too: whose recorders stay.

    Raises:
        NotFound: it can be no tenant's name; for a tenant's key, if it is not its own.
    """
    mine = tenant or caller.tenant
    known = mine == caller.tenant or (caller.principal.of_fleet and NAME.fullmatch(mine))
    if not known and not caller.principal.of_fleet:
        raise _not_ours(caller, tenant)
    if not known:
        raise NotFound(f"there is no tenant {tenant!r}: `chimera tenant list` shows them")
    return mine


def may_give(caller: Caller, scopes: Iterable[Scope]) -> None:
    """Let nobody give, or get by a rotation, what they do not have.

    Raises:
        Forbidden: naming the scopes.
    """
    if more := set(scopes) - caller.principal.scopes:
        raise Forbidden(
            f"key {caller.principal.key_id} cannot make one with {', '.join(shown(more))}, which it does not "
            "have itself: use a key that has"
        )


def act_id(operation: str | None) -> str:
    """The id of an act: the client's, or one of its own."""
    return operation or uuid.uuid4().hex
