"""The model client that agents call: worst case reserved, call bounded, real cost settled.

One call is::

    estimate → reserve → send → settle            the answer came
                             └→ release           it was never sent, or refused unserved
                             └→ settle worst case it was sent and nobody knows what it cost

and a failed try that may succeed later is tried again after a pause, under a hold of its own. The
library's own retries are off: they would spend money that nobody reserved.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, TypeVar, overload

from pydantic import BaseModel, ValidationError

from chimera.agents.models.embedded import MODEL_NAME
from chimera.agents.models.endpoint import NEXT_STEP, Ask, CallFailed, Endpoint, Reply
from chimera.agents.models.prices import Price, PriceList, Tokens
from chimera.agents.models.retry import pause_s
from chimera.agents.purse import Charge, Purse
from chimera.errors import AnswerUnusable, ModelUnavailable
from chimera.settings import Settings

FRAME_TOKENS = 128
"""What a chat template may add around our text: roles, separators, a system prompt of its own."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


def open_provider(model: str, url: str, api_key: str) -> Endpoint:
    """See `providers.open_endpoint`, imported when the first model is opened."""
    from chimera.agents.models.providers import open_endpoint  # noqa: PLC0415 (it takes seconds)

    return open_endpoint(model, url, api_key)


class Models:
    """The endpoints and prices of one event loop, opened when first used and shared by all attempts.

    Close it (`aclose`, or `async with`) on the loop it was used on.
    """

    def __init__(self, settings: Settings, open_: Callable[[str, str, str], Endpoint] | None = None) -> None:
        self.settings = settings
        self._prices = PriceList(settings)
        self._open = open_ or open_provider
        self._opened: dict[str, tuple[Endpoint, Price]] = {}
        self._opening = asyncio.Lock()

    async def open(self, model: str | None = None) -> tuple[Endpoint, Price]:
        """As `get`, off the event loop the first time: the model library takes seconds to import."""
        if (model or self.settings.model or MODEL_NAME) in self._opened:
            return self.get(model)
        async with self._opening:  # one at a time: a second endpoint of the same model would never be closed
            return await asyncio.to_thread(self.get, model)

    def get(self, model: str | None = None) -> tuple[Endpoint, Price]:
        """A model's endpoint and price; CHIMERA_MODEL's, or the embedded one's, unless named.

        Raises:
            ModelUnavailable: it has no endpoint. ConfigurationError: it has no price.
        """
        name = model or self.settings.model or MODEL_NAME
        if name not in self._opened:
            key = self.settings.model_api_key
            endpoint = self._open(name, self.settings.model_url, key.get_secret_value() if key else "")
            price = self._prices.price(endpoint.name, provider=endpoint.provider, url=endpoint.url)
            self._opened[name] = endpoint, price
        return self._opened[name]

    async def aclose(self) -> None:
        """Close every connection; what is asked for afterwards is opened anew."""
        opened, self._opened = self._opened, {}
        for endpoint, _ in opened.values():
            await endpoint.close()

    async def __aenter__(self) -> Models:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


@dataclass(slots=True, kw_only=True)
class ModelClient:
    """One attempt's way to models.

    Attributes:
        models: the process's endpoints.
        purse: where this attempt's money comes from.
        agent: the agent's registered name, for the ledger.
        deadline: no try begins, and no pause reaches, beyond it (aware).
        idempotency_key: names this attempt's work; each call adds its ordinal.
        permit: awaited before each try; raises when paid work must not start now (a brake, a drain).
        draw, pause: randomness and waiting, for tests.
    """

    models: Models
    purse: Purse
    agent: str
    deadline: datetime | None = None
    idempotency_key: str = ""
    permit: Callable[[], Awaitable[None]] | None = None
    draw: Callable[[], float] = random.random
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    charges: list[Charge] = field(default_factory=list)
    """Every charge of this attempt, in order."""
    _calls: int = 0

    async def text(
        self,
        prompt: str,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        model: str | None = None,
    ) -> str:
        """Ask for text. Cut off at `max_tokens` (CHIMERA_MODEL_MAX_TOKENS unless given).

        Raises:
            BudgetExceeded: a limit refuses the worst case; nothing was sent.
            ModelUnavailable: every try failed; says at which endpoint, why, and what to do.
        """
        reply, _ = await self.call(
            prompt,
            None,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            model=model,
        )
        return reply.text

    @overload
    async def structured(
        self,
        prompt: str,
        schema: type[M],
        *,
        system: str | None = ...,
        max_tokens: int | None = ...,
        temperature: float | None = ...,
        seed: int | None = ...,
        model: str | None = ...,
    ) -> M: ...
    @overload
    async def structured(
        self,
        prompt: str,
        schema: Mapping[str, Any],
        *,
        system: str | None = ...,
        max_tokens: int | None = ...,
        temperature: float | None = ...,
        seed: int | None = ...,
        model: str | None = ...,
    ) -> dict[str, Any]: ...
    async def structured(
        self,
        prompt: str,
        schema: type[M] | Mapping[str, Any],
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        model: str | None = None,
    ) -> M | dict[str, Any]:
        """Ask for a JSON object that fits `schema`.

        Args:
            schema: a pydantic model, an instance of which is returned; or a JSON Schema of type
                object: then a dict comes back, which the endpoint's grammar shaped and which nobody
                here validated (the judge does).
        Raises:
            AnswerUnusable: it is no JSON object, was cut off, or does not fit the pydantic model.
            BudgetExceeded, ModelUnavailable: as `text`.
        """
        as_json = dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema()
        reply, charge = await self.call(
            prompt,
            as_json,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            model=model,
        )
        try:
            if not isinstance(schema, Mapping):
                return schema.model_validate_json(reply.text)
            value = json.loads(reply.text)
        except (ValidationError, ValueError) as exc:
            cut = " (cut off at max_tokens: raise it)" if reply.truncated else ""
            raise AnswerUnusable(charge.model, f"{exc}{cut}", reply.text) from exc
        if not isinstance(value, dict):
            raise AnswerUnusable(charge.model, "it is no JSON object", reply.text)
        return value

    async def call(
        self,
        prompt: str,
        schema: Mapping[str, Any] | None = None,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        model: str | None = None,
    ) -> tuple[Reply, Charge]:
        """The call under `text` and `structured`: the raw reply, and what it cost."""
        settings = self.models.settings
        endpoint, price = await self.models.open(model)
        self._calls += 1
        ask = Ask(
            prompt=prompt,
            system=system,
            schema=schema,
            max_tokens=settings.model_max_tokens if max_tokens is None else max_tokens,
            temperature=temperature,
            seed=seed,
            timeout_s=settings.model_timeout_s,
            idempotency_key="",
        )
        ask = replace(ask, idempotency_key=call_key(self.idempotency_key, self._calls, endpoint.name, ask))
        failure: CallFailed | None = None
        for tries in range(1, settings.model_retries + 2):
            try:
                return await self._try(endpoint, price, replace(ask, timeout_s=self._bound(ask.timeout_s)))
            except CallFailed as exc:
                failure = exc
            wait = pause_s(tries, failure.retry_after_s, self.draw()) if failure.retryable else None
            if wait is None or tries > settings.model_retries or wait >= self._left():
                break
            await self.pause(wait)
        raise ModelUnavailable(
            f"model {endpoint.name!r} at {endpoint.url or endpoint.provider}: {failure}, "
            f"{tries} {'try' if tries == 1 else 'tries'}: {NEXT_STEP}"
        ) from failure

    async def _try(self, endpoint: Endpoint, price: Price, ask: Ask) -> tuple[Reply, Charge]:
        if self.permit is not None:
            await self.permit()
        bound = Tokens(input=prompt_bound(ask), output=ask.max_tokens)
        worst = price.worst_case_microusd(bound.input, bound.output)
        ttl_s = ask.timeout_s + self.models.settings.hold_ttl_s
        hold = await self.purse.reserve(
            amount_microusd=worst, model=endpoint.name, agent=self.agent, ttl_s=ttl_s
        )
        began = time.perf_counter()

        def charge(tokens: Tokens, cost: int, request_id: str = "", estimated: bool = False) -> Charge:
            return Charge(
                model=endpoint.name,
                input_tokens=tokens.input,
                output_tokens=tokens.output,
                cached_tokens=tokens.cached,
                reasoning_tokens=tokens.reasoning,
                cost_microusd=cost,
                price_version=price.version,
                provider_request_id=request_id,
                latency_ms=round((time.perf_counter() - began) * 1000),
                estimated=estimated,
            )

        try:
            reply = await endpoint.ask(ask)
        except CallFailed as exc:
            if exc.sent:
                await self._settle(hold, charge(bound, worst, estimated=True))
            else:
                await unbroken(self.purse.release(hold))
            raise
        except BaseException:  # cancelled, or a defect: it may have been sent
            await self._settle(hold, charge(bound, worst, estimated=True))
            raise
        # An endpoint that reports no usage is charged what was held, not nothing.
        known = reply.tokens.input > 0
        paid = (
            charge(reply.tokens, price.cost_microusd(reply.tokens), reply.request_id)
            if known
            else charge(bound, worst, reply.request_id, estimated=True)
        )
        await self._settle(hold, paid)
        return reply, paid

    async def _settle(self, hold: str, charge: Charge) -> None:
        self.charges.append(charge)
        await unbroken(self.purse.settle(hold, cost_microusd=charge.cost_microusd, charge=charge))

    def _left(self) -> float:
        if self.deadline is None:
            return float("inf")
        return (self.deadline - datetime.now(UTC)).total_seconds()

    def _bound(self, timeout_s: float) -> float:
        left = self._left()
        if left <= 0:
            raise CallFailed("the attempt's time is over", sent=False, retryable=False)
        return min(timeout_s, left)


def prompt_bound(ask: Ask) -> int:
    """An upper bound of the prompt's tokens, for any tokenizer in use.

    Byte-level and byte-fallback tokenizers spend at least one UTF-8 byte of the text on each token,
    so bytes bound tokens from above (real English is about a quarter of that). The schema is counted
    too, as some providers put it into the prompt, and a frame for the chat template.
    """
    parts = (ask.prompt, ask.system or "", "" if ask.schema is None else json.dumps(ask.schema))
    return sum(len(part.encode("utf-8", "replace")) for part in parts) + FRAME_TOKENS


def call_key(attempt_key: str, ordinal: int, model: str, ask: Ask) -> str:
    """The provider's idempotency key: equal for every try of one call, and for its re-run after a crash."""
    if not attempt_key:
        return ""
    request = [attempt_key, ordinal, model, ask.prompt, ask.system, ask.schema, ask.max_tokens, ask.seed]
    return sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()[:32]


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Finish `work` even when the caller is cancelled meanwhile; the cancellation follows after it."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
