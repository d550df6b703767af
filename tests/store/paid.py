"""Paid calls by hand: held and settled by the real scripts, for tests of what is told of them."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from typing import Any

from chimera.core.lease import Claim
from chimera.errors import BudgetExceeded
from chimera.runtime.base import Base, TenantStores
from chimera.store.ledger import Reservation, Settlement
from tests.store import drive

_holds = itertools.count(1)


async def hold(
    stores: TenantStores, one: Claim, amount: int = 100, agent: str = "writer", model: str = "gpt"
) -> str | BudgetExceeded:
    """A hold's id; or the refusal."""
    name = f"{one.task_id}-{next(_holds)}"
    asked = Reservation(name, one.task_id, one.token, amount, 60, agent, model)
    (refused,) = await stores.ledger.reserve([asked], term=drive.TERM, by="g")
    assert refused is None or isinstance(refused, BudgetExceeded), refused
    return refused or name


async def settle(stores: TenantStores, name: str, cost: int, **charge: Any) -> None:
    """What it really cost."""
    told = json.dumps({"model": "gpt", "cost_microusd": cost, **charge})
    await stores.ledger.settle([Settlement(name, cost, told)], term=drive.TERM, by="g", **drive.KEEP)


async def call(
    stores: TenantStores, one: Claim, cost: int, agent: str = "writer", model: str = "gpt", **charge: Any
) -> None:
    """A call, held and settled."""
    name = await hold(stores, one, max(cost, 1), agent, model)
    assert isinstance(name, str), name
    await settle(stores, name, cost, model=model, **charge)


async def leased(
    base: Base, tenant: str, mission_id: str = "m1", inputs: int = 4, **fields: Any
) -> tuple[TenantStores, list[Claim]]:
    """A mission whose tasks are all under a lease."""
    spec = drive.spec(inputs=list(range(inputs)), **fields)
    stores = await drive.begin(base, tenant, spec, mission_id)
    return stores, await drive.claim(stores, inputs, lease_s=3_600)


def decimal(amount: int) -> Decimal:
    """µ$ as an invoice has them."""
    return Decimal(amount)
