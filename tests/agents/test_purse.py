"""The purse in memory: strict, exact, and each hold ends once."""

from __future__ import annotations

import pytest

from chimera.agents.purse import Charge, LocalPurse
from chimera.errors import BudgetExceeded, NotFound, RefusalKind


def charge(cost: int) -> Charge:
    return Charge(model="m", input_tokens=1, output_tokens=1, cost_microusd=cost, price_version="t")


async def hold(purse: LocalPurse, amount: int) -> str:
    return await purse.reserve(amount_microusd=amount, model="m", agent="a", ttl_s=1)


async def test_held_money_counts_against_the_limit_until_it_is_settled() -> None:
    purse = LocalPurse(100)
    first = await hold(purse, 60)
    with pytest.raises(BudgetExceeded) as refused:
        await hold(purse, 41)
    assert refused.value.kind is RefusalKind.CONTENDED
    await purse.settle(first, cost_microusd=10, charge=charge(10))
    await hold(purse, 90)
    assert (purse.settled_microusd, purse.held_microusd) == (10, 90)


async def test_what_can_never_fit_is_exhausted() -> None:
    with pytest.raises(BudgetExceeded) as refused:
        await hold(LocalPurse(100), 101)
    assert refused.value.kind is RefusalKind.EXHAUSTED


async def test_a_released_hold_gives_its_money_back() -> None:
    purse = LocalPurse(100)
    await purse.release(await hold(purse, 100))
    assert (await hold(purse, 100)) != ""


async def test_a_hold_ends_once() -> None:
    purse = LocalPurse()
    held = await hold(purse, 5)
    await purse.release(held)
    with pytest.raises(NotFound):
        await purse.settle(held, cost_microusd=1, charge=charge(1))
    assert purse.settled_microusd == 0
