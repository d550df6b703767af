"""Money: integers, rounded up, never a float."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, strategies

from chimera.core.money import Window, microusd, parse_limits, usd


@pytest.mark.parametrize(
    ("amount", "micro"), [("0.25", 250_000), (1, 1_000_000), (0.1, 100_000), ("0.0000001", 1)]
)
def test_dollars_become_whole_micro_dollars_rounded_up(amount: str | float, micro: int) -> None:
    assert microusd(amount) == micro


@pytest.mark.parametrize("amount", ["-1", "nan", "inf", "two", 10**10])
def test_what_is_no_amount_is_refused(amount: str | int) -> None:
    with pytest.raises(ValueError, match=r"write USD as|out of range"):
        microusd(amount)


@given(strategies.integers(0, 10**15))
def test_shown_money_is_exact(amount: int) -> None:
    assert Decimal(usd(amount).replace("$", "").replace(",", "")) * 1_000_000 == amount


def test_limits_are_read_by_window() -> None:
    assert parse_limits(" day=5, month=50.5 ") == {Window.DAY: 5_000_000, Window.MONTH: 50_500_000}
    assert parse_limits("") == {}


def test_agents_and_models_have_limits_of_their_own() -> None:
    assert parse_limits("agent/digest/day=1,model/openai/gpt-5/hour=0.5") == {
        "agent/digest/day": 1_000_000,
        "model/openai/gpt-5/hour": 500_000,
    }


@pytest.mark.parametrize("text", ["day", "week=5", "day=x", "agent/day=1", "team/a/day=1", "agent/a b/day=1"])
def test_a_wrong_limit_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=r"write LIMIT=USD|limits nothing: write WINDOW|no amount"):
        parse_limits(text)
