"""What a model call costs: integer micro-dollars, always rounded up, never 0.

A price comes from the first of: the environment by model (CHIMERA_MODEL_PRICES), the environment for all
models (CHIMERA_MODEL_PRICE_INPUT_USD and CHIMERA_MODEL_PRICE_OUTPUT_USD), the embedded model's own price, the
price list of genai-prices (the snapshot in the installed package: nothing is fetched), the ceiling. A model
that nobody knows a price for is charged the ceiling or refused, as CHIMERA_UNPRICED says; it is never free.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from importlib.metadata import version

import genai_prices

from chimera.agents.models.embedded import MODEL_NAME
from chimera.core.money import parse_prices
from chimera.errors import ConfigurationError
from chimera.settings import Settings

EMBEDDED_INPUT_USD = Decimal("0.05")
EMBEDDED_OUTPUT_USD = Decimal("0.20")
"""USD per million tokens: about what such a model costs to host, so that no ledger line is 0."""

MOST_TOKENS = 1_000_000_000
"""No call has more."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """A call's tokens. `input` includes `cached`, `output` includes `reasoning`."""

    input: int
    output: int
    cached: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def believable(self) -> bool:
        """Whether a call may have had them: a prompt, no more of it cached than there is, and no count
        that the ledger could not take."""
        counts = (self.input, self.output, self.cached, self.cache_write, self.reasoning)
        cached = self.cached + self.cache_write
        return self.input > 0 and min(counts) >= 0 and max(counts) <= MOST_TOKENS and cached <= self.input


@dataclass(frozen=True, slots=True)
class Price:
    """One model's price.

    Attributes:
        version: where the figures come from, for the ledger: a cost can be recomputed from it.
        input_usd, output_usd: USD per million tokens; None where the price list's own rules (tiers,
            cached tokens) decide.
        listed: model and provider as the price list knows them.
    """

    version: str
    input_usd: Decimal | None
    output_usd: Decimal | None
    listed: tuple[str, str] | None = None

    def cost_microusd(self, tokens: Tokens) -> int:
        """What these tokens cost, in µ$, rounded up, at least 1."""
        # USD per million tokens is µ$ per token.
        if self.input_usd is not None and self.output_usd is not None:
            exact = tokens.input * self.input_usd + tokens.output * self.output_usd
        else:
            listed_in, listed_out = self._listed_usd(tokens)
            exact = (listed_in * 1_000_000 if self.input_usd is None else tokens.input * self.input_usd) + (
                listed_out * 1_000_000 if self.output_usd is None else tokens.output * self.output_usd
            )
        return max(1, int(exact.to_integral_value(rounding=ROUND_CEILING)))

    def worst_case_microusd(self, input_tokens: int, max_tokens: int) -> int:
        """The most a call may cost: nothing cached, or all of it written to a cache, all output used."""
        plain = Tokens(input=input_tokens, output=max_tokens)
        if self.input_usd is not None:
            return self.cost_microusd(plain)  # one price for every token of the prompt
        written = Tokens(input=input_tokens, output=max_tokens, cache_write=input_tokens)
        return max(self.cost_microusd(plain), self.cost_microusd(written))

    def _listed_usd(self, tokens: Tokens) -> tuple[Decimal, Decimal]:
        if self.listed is None:
            raise ConfigurationError(f"price {self.version!r} is incomplete: it needs both directions")
        model, provider = self.listed
        usage = genai_prices.Usage(
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cache_read_tokens=tokens.cached,
            cache_write_tokens=tokens.cache_write,
        )
        price = genai_prices.calc_price(usage, model, provider_id=provider)
        return price.input_price, price.total_price - price.input_price


class PriceList:
    """Prices under one set of settings."""

    def __init__(self, settings: Settings) -> None:
        self._by_model = parse_prices(settings.model_prices)
        self._input = _decimal(settings.model_price_input_usd)
        self._output = _decimal(settings.model_price_output_usd)
        self._ceiling = Decimal(str(settings.price_ceiling_usd))
        self._refuse = settings.unpriced == "refuse"

    def price(self, model: str, *, provider: str = "", url: str = "") -> Price:
        """The price of a model.

        Args:
            model: its name without the provider.
            provider: `openai`, `anthropic`, …; empty at an endpoint of one's own.
            url: that endpoint; a known provider's address is recognised.
        Raises:
            ConfigurationError: it has no price, and CHIMERA_UNPRICED is `refuse`.
        """
        named = self._by_model.get(f"{provider}:{model}") or self._by_model.get(model)
        if named is not None:
            return Price(f"environment:{named[0]}/{named[1]}", *named)
        if self._input is not None and self._output is not None:
            return Price(f"environment:{self._input}/{self._output}", self._input, self._output)
        base = self._base(model, provider, url)
        if self._input is None and self._output is None:
            return base
        return Price(
            f"environment:{self._input}/{self._output}+{base.version}",
            base.input_usd if self._input is None else self._input,
            base.output_usd if self._output is None else self._output,
            base.listed,
        )

    def _base(self, model: str, provider: str, url: str) -> Price:
        if model == MODEL_NAME:
            figures = f"{EMBEDDED_INPUT_USD}/{EMBEDDED_OUTPUT_USD}"
            return Price(f"embedded:{figures}", EMBEDDED_INPUT_USD, EMBEDDED_OUTPUT_USD)
        try:
            # A name alone proves nothing at an endpoint of one's own: only provider or address counts.
            if not (provider or url):
                raise LookupError(model)
            nothing = genai_prices.Usage(input_tokens=1, output_tokens=1)
            known = (
                genai_prices.calc_price(nothing, model, provider_id=provider)
                if provider
                else genai_prices.calc_price(nothing, model, provider_api_url=url)
            )
        except LookupError:
            return self._unknown(model)
        return Price(f"genai-prices:{version('genai-prices')}", None, None, (model, known.provider.id))

    def _unknown(self, model: str) -> Price:
        if self._refuse:
            raise ConfigurationError(
                f"no price is known for model {model!r}: set CHIMERA_MODEL_PRICE_INPUT_USD and "
                "CHIMERA_MODEL_PRICE_OUTPUT_USD (USD per million tokens), or CHIMERA_UNPRICED=ceiling"
            )
        return Price(f"ceiling:{self._ceiling}", self._ceiling, self._ceiling)


def _decimal(usd: float | None) -> Decimal | None:
    return None if usd is None else Decimal(str(usd))
