"""Prices: integers, rounded up, never 0, never less than the truth."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from chimera.agents.models.embedded import MODEL_NAME
from chimera.agents.models.prices import MOST_TOKENS, Price, PriceList, Tokens
from chimera.agents.models.retry import LONGEST_RETRY_AFTER_S, pause_s
from chimera.core.money import parse_prices
from chimera.errors import ConfigurationError
from chimera.settings import Settings

MakeSettings = Callable[..., Settings]


def test_the_embedded_model_has_a_price_of_its_own(make_settings: MakeSettings) -> None:
    price = PriceList(make_settings()).price(MODEL_NAME)
    assert price.version == "embedded:0.05/0.20"
    assert price.cost_microusd(Tokens(input=1_000_000, output=1_000_000)) == 250_000
    assert price.cost_microusd(Tokens(input=1, output=0)) == 1
    assert price.cost_microusd(Tokens(input=0, output=0)) == 1


def test_the_environment_wins(make_settings: MakeSettings) -> None:
    settings = make_settings(model_price_input_usd=2, model_price_output_usd=0.5)
    price = PriceList(settings).price("gpt-4o", provider="openai")
    assert price.cost_microusd(Tokens(input=10, output=10)) == 25


def test_the_environment_prices_models_one_by_one(make_settings: MakeSettings) -> None:
    settings = make_settings(
        model_prices="gpt-4o=2/0.5, openai:o4=1/1", model_price_input_usd=9, model_price_output_usd=9
    )
    prices, tokens = PriceList(settings), Tokens(input=10, output=10)
    assert prices.price("gpt-4o", provider="openai").cost_microusd(tokens) == 25
    assert prices.price("o4", provider="openai").cost_microusd(tokens) == 20
    assert prices.price("o4", url="http://127.0.0.1:9/v1").cost_microusd(tokens) == 180
    assert prices.price("gpt-4o", provider="openai").version == "environment:2/0.5"


@pytest.mark.parametrize(
    "text", ["gpt-4o", "gpt-4o=1", "gpt-4o=1/x", "gpt-4o=1.2.3/1", "gpt-4o=-1/1", "m=1/1000001"]
)
def test_what_is_no_price_is_named_at_the_start(text: str) -> None:
    with pytest.raises(ValueError, match="write MODEL=INPUT/OUTPUT"):
        parse_prices(text)


def test_one_price_of_the_environment_joins_the_list(make_settings: MakeSettings) -> None:
    settings = make_settings(model_price_output_usd=7)
    embedded = PriceList(settings).price(MODEL_NAME)
    assert embedded.cost_microusd(Tokens(input=100, output=100)) == 5 + 700
    listed = PriceList(settings).price("gpt-4o", provider="openai")
    assert listed.cost_microusd(Tokens(input=100, output=100)) == 250 + 700


def test_listed_models_are_priced_by_the_list(make_settings: MakeSettings) -> None:
    price = PriceList(make_settings()).price("gpt-4o", provider="openai")
    assert price.version.startswith("genai-prices:")
    assert price.cost_microusd(Tokens(input=1_000_000, output=100_000)) == 2_500_000 + 1_000_000
    assert price.cost_microusd(Tokens(input=1_000_000, output=0, cached=1_000_000)) < 2_500_000


def test_the_worst_case_counts_what_writing_to_a_cache_costs(make_settings: MakeSettings) -> None:
    price = PriceList(make_settings()).price("claude-sonnet-4-5", provider="anthropic")
    plain = price.cost_microusd(Tokens(input=100_000, output=1_000))
    assert price.worst_case_microusd(100_000, 1_000) > plain


@pytest.mark.parametrize("where", [{}, {"url": "http://127.0.0.1:9/v1"}, {"provider": "openai"}])
def test_an_unknown_model_is_charged_the_ceiling_or_refused(
    make_settings: MakeSettings, where: dict[str, str]
) -> None:
    price = PriceList(make_settings(price_ceiling_usd=40)).price("never-heard-of", **where)
    assert price.cost_microusd(Tokens(input=3, output=2)) == 200
    with pytest.raises(ConfigurationError, match="CHIMERA_UNPRICED=ceiling"):
        PriceList(make_settings(unpriced="refuse")).price("never-heard-of", **where)


def test_a_listed_name_at_an_own_endpoint_is_unknown(make_settings: MakeSettings) -> None:
    price = PriceList(make_settings()).price("gpt-4o-mini", url="http://127.0.0.1:9/v1")
    assert price.version == "ceiling:100.0"


@hypothesis_settings(deadline=None)
@given(st.integers(0, 10**7), st.integers(0, 10**6), st.decimals("0.000001", 1000, places=6))
def test_no_real_cost_is_above_its_worst_case_nor_below_the_exact_one(
    prompt: int, answer: int, usd: Decimal
) -> None:
    price = Price("test", usd, usd)
    cost = price.cost_microusd(Tokens(input=prompt, output=answer))
    assert cost <= price.worst_case_microusd(prompt, answer)
    assert cost >= 1
    assert cost >= (prompt + answer) * usd


@pytest.mark.parametrize("jitter", [0.0, 0.5, 0.999])
def test_pauses_grow_and_stay_bounded(jitter: float) -> None:
    pauses = [pause_s(tries, None, jitter) or 0.0 for tries in range(1, 12)]
    assert all(0.25 <= pause <= 20 for pause in pauses)
    assert pauses[3] > pauses[0]


def test_a_retry_after_is_honoured_up_to_a_minute() -> None:
    assert pause_s(1, 7, 0.0) == 7
    assert 7 <= (pause_s(1, 7, 0.99) or 0) <= 8.75
    assert pause_s(1, LONGEST_RETRY_AFTER_S + 1, 0.5) is None


@pytest.mark.parametrize(
    ("tokens", "believed"),
    [
        (Tokens(10, 2, cached=4, cache_write=6), True),
        (Tokens(10, 0), True),
        (Tokens(10, 2, cached=11), False),
        (Tokens(10, 2, cached=5, cache_write=6), False),
        (Tokens(0, 2), False),
        (Tokens(10, -1), False),
        (Tokens(10, MOST_TOKENS + 1), False),
    ],
)
def test_counts_that_no_call_can_have_are_not_believed(tokens: Tokens, believed: bool) -> None:
    assert tokens.believable is believed
