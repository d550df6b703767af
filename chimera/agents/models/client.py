"""The model client that agents call: worst case reserved, call bounded, real cost settled.

One call is::

    estimate → reserve → sent → ask → settle            the answer came; it is kept for a re-run
                             └→ release                  it was never sent, or refused unserved
                             └→ settle worst case        it was sent and nobody knows what it cost

and a failed try that may succeed later is tried again after a pause, under a hold of its own. The
library's own retries are off: they would spend money that nobody reserved. A re-run first looks for
what an earlier run of the same work has paid for.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar, overload

import structlog
from pydantic import BaseModel, SecretStr, ValidationError

from chimera.agents.models.bill import Bill
from chimera.agents.models.embedded import MODEL_NAME
from chimera.agents.models.endpoint import NEXT_STEP, Ask, CallFailed, Endpoint, Reply
from chimera.agents.models.kept import UNUSABLE, Kept, call_id, load, request_name
from chimera.agents.models.opening import open_endpoint
from chimera.agents.models.prices import Price, PriceList, Tokens
from chimera.agents.models.retry import pause_s
from chimera.agents.purse import Called, Charge, Keep, Purse
from chimera.errors import AnswerUnusable, ModelUnavailable
from chimera.settings import Settings
from chimera.telemetry.payloads import Payloads
from chimera.telemetry.redaction import redact

log = structlog.get_logger(__name__)

FRAME_TOKENS = 128
"""What a chat template may add around our text: roles, separators, a system prompt of its own."""

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")

Read = Callable[[str, Reply], T]
"""Takes a model's name and its reply, and gives what was asked for, or raises."""


class Models:
    """The endpoints and prices of one event loop, opened when first used and shared by all attempts.

    Close it (`aclose`, or `async with`) on the loop it was used on.
    """

    def __init__(self, settings: Settings, open_: Callable[[str, str, str], Endpoint] | None = None) -> None:
        self.settings = settings
        self._prices = PriceList(settings)
        self._open = open_ or open_endpoint
        self._opened: dict[str, tuple[Endpoint, Price]] = {}
        self._opening = asyncio.Lock()
        self._former: list[Endpoint] = []
        """Opened with another key: calls under way end there."""

    def use_key(self, key: SecretStr | None) -> None:
        """Open endpoints with this key from now on; again with the same is nothing."""
        if key != self.settings.model_api_key:
            self.settings = self.settings.model_copy(update={"model_api_key": key})
            self._former += [endpoint for endpoint, _ in self._opened.values()]
            self._opened = {}

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
        former, self._former = self._former, []
        for endpoint in (*former, *(endpoint for endpoint, _ in opened.values())):
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
        ends_at: no try begins, and no pause reaches, beyond it (`time.monotonic`, which no clock's
            correction moves).
        idempotency_key: names this work, the same for each of its runs; "": nothing is kept of it.
        rerun: an earlier run of this work may have paid for its calls: look before paying.
        traceparent: the span that its calls are made within, for the header of that name; "": none is sent.
        permit: awaited before each try; raises when paid work must not start now (a brake, a drain).
        draw, pause: randomness and waiting, for tests.
    """

    models: Models
    purse: Purse
    agent: str
    ends_at: float | None = None
    idempotency_key: str = ""
    rerun: bool = False
    traceparent: str = ""
    permit: Callable[[], Awaitable[None]] | None = None
    draw: Callable[[], float] = random.random
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    charges: list[Charge] = field(default_factory=list)
    """Every charge of this attempt, in order."""
    _ordinals: Counter[str] = field(default_factory=Counter)

    async def text(
        self,
        prompt: str,
        *,
        system: str | None = None,
        max_tokens: int | None = None,
        temperature: float | None = None,
        seed: int | None = None,
        model: str | None = None,
        key: str = "",
    ) -> str:
        """Ask for text. Cut off at `max_tokens` (CHIMERA_MODEL_MAX_TOKENS unless given).

        A settled call is not paid twice: a re-run of this attempt's work (after a crash, an error, or
        when it was handed back) gets the reply that is kept, until the result is rejected.

        Args:
            key: names the call for a re-run, in place of the request itself: for prompts that differ
                from run to run. Used again in one attempt, it names another call.
        Raises:
            BudgetExceeded: a limit refuses the worst case; nothing was sent.
            ModelUnavailable: every try failed; says at which endpoint, why, and what to do.
        """
        return await self._call(
            lambda _, reply: reply.text,
            prompt,
            None,
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            model=model,
            key=key,
        )

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
        key: str = ...,
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
        key: str = ...,
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
        key: str = "",
    ) -> M | dict[str, Any]:
        """Ask for a JSON object that fits `schema`. Kept for a re-run as `text` is, if it does fit.

        Args:
            schema: a pydantic model, an instance of which is returned; or a JSON Schema of type
                object: then a dict comes back, which the endpoint's grammar shaped and which nobody
                here validated (the judge does).
            key: as `text`.
        Raises:
            AnswerUnusable: it is no JSON object, was cut off, or does not fit the pydantic model.
            BudgetExceeded, ModelUnavailable: as `text`.
        """

        def read(model: str, reply: Reply) -> M | dict[str, Any]:
            try:
                if not isinstance(schema, Mapping):
                    return schema.model_validate_json(reply.text)
                value = json.loads(reply.text)
            except (ValidationError, ValueError) as exc:
                cut = " (cut off at max_tokens: raise it)" if reply.truncated else ""
                raise AnswerUnusable(model, f"{exc}{cut}", reply.text) from exc
            if not isinstance(value, dict):
                raise AnswerUnusable(model, "it is no JSON object", reply.text)
            return value

        return await self._call(
            read,
            prompt,
            dict(schema) if isinstance(schema, Mapping) else schema.model_json_schema(),
            system=system,
            max_tokens=max_tokens,
            temperature=temperature,
            seed=seed,
            model=model,
            key=key,
        )

    async def _call(
        self,
        read: Read[T],
        prompt: str,
        schema: Mapping[str, Any] | None,
        *,
        system: str | None,
        max_tokens: int | None,
        temperature: float | None,
        seed: int | None,
        model: str | None,
        key: str,
    ) -> T:
        """One call, whole: found, or sent and paid for."""
        settings = self.models.settings
        endpoint, price = await self.models.open(model)
        most = settings.model_max_tokens if max_tokens is None else max_tokens
        request = (endpoint.name, prompt, system, schema, most, temperature, seed)
        call, kept = await self._find(f"key {key}" if key else request_name(request))
        if kept is not None:
            self.charges.append(free(kept, price.version))
            log.info("call.kept", call=call, model=kept.model)
            return read(kept.model, kept.reply)
        ask = Ask(
            prompt=prompt,
            system=system,
            schema=schema,
            max_tokens=most,
            temperature=temperature,
            seed=seed,
            timeout_s=settings.model_timeout_s,
            idempotency_key=call,
            traceparent=self.traceparent,
        )
        return await self._send(endpoint, price, ask, read)

    async def _find(self, name: str) -> tuple[str, Kept | None]:
        """The call's id, and its reply if an earlier run paid for it."""
        if not self.idempotency_key:
            return "", None
        while True:
            # Equal requests of one attempt are told apart by their order alone: each finds one of theirs.
            self._ordinals[name] += 1
            call = call_id(self.idempotency_key, name, self._ordinals[name])
            text = await self.purse.find(call) if self.rerun else None
            if text != UNUSABLE:
                return call, None if text is None else load(text)

    async def _send(self, endpoint: Endpoint, price: Price, ask: Ask, read: Read[T]) -> T:
        """Try until it is answered, or trying again is vain."""
        retries = self.models.settings.model_retries
        failure: CallFailed | None = None
        failed: list[dict[str, Any]] = []
        for tries in range(1, retries + 2):
            try:
                timeout_s = self._bound(ask.timeout_s)
                bounded = ask if timeout_s == ask.timeout_s else replace(ask, timeout_s=timeout_s)
                return await self._try(endpoint, price, bounded, read, failed)
            except CallFailed as exc:
                failure = exc
                failed.append({"error": _reason(exc), "sent": exc.sent})
            wait = pause_s(tries, failure.retry_after_s, self.draw()) if failure.retryable else None
            if wait is None or tries > retries or wait >= self._left():
                break
            await self.pause(wait)
        raise ModelUnavailable(
            f"model {endpoint.name!r} at {endpoint.url or endpoint.provider}: {failure}, "
            f"{tries} {'try' if tries == 1 else 'tries'}: {NEXT_STEP}"
        ) from failure

    async def _try(
        self, endpoint: Endpoint, price: Price, ask: Ask, read: Read[T], failed: Sequence[Mapping[str, Any]]
    ) -> T:
        if self.permit is not None:
            await self.permit()
        bill = await Bill.open(
            self.purse,
            model=endpoint.name,
            price=price,
            bound=Tokens(input=prompt_bound(ask), output=ask.max_tokens),
            agent=self.agent,
            ttl_s=ask.timeout_s + self.models.settings.hold_ttl_s,
        )
        payloads = Payloads(self.models.settings.recorder_payloads)
        called = Called(payloads.of(request_text(ask)), tries=tuple(failed))
        try:
            reply = await endpoint.ask(ask)
        except CallFailed as exc:
            if exc.sent:
                await self._settle(bill, bill.charge(None, called=replace(called, error=_reason(exc))))
            else:
                await bill.release()
            raise
        except BaseException as exc:  # cancelled, or a defect: it may have been sent
            error = f"{type(exc).__name__}, and nobody knows what came of it"
            await self._settle(bill, bill.charge(None, called=replace(called, error=error)))
            raise
        called = replace(called, reply=payloads.of(reply.text))
        paid = bill.charge(reply.tokens, reply.request_id, called)
        try:
            value = read(endpoint.name, reply)
        except Exception:
            await self._settle(bill, paid, Keep(ask.idempotency_key, UNUSABLE))
            raise
        await self._settle(bill, paid, Keep(ask.idempotency_key, Kept(endpoint.name, reply).text()))
        return value

    async def _settle(self, bill: Bill, charge: Charge, keep: Keep | None = None) -> None:
        self.charges.append(charge)
        await bill.settle(charge, keep)

    def _left(self) -> float:
        return float("inf") if self.ends_at is None else self.ends_at - time.monotonic()

    def _bound(self, timeout_s: float) -> float:
        left = self._left()
        if left <= 0:
            raise CallFailed("the attempt's time is over", sent=False, retryable=False)
        return min(timeout_s, left)


def request_text(ask: Ask) -> str:
    """What is asked, as one JSON text: whoever has the parts can make its hash again."""
    said = {"prompt": ask.prompt, "system": ask.system, "schema": ask.schema}
    return json.dumps(said, separators=(",", ":"), ensure_ascii=False)


def _reason(exc: CallFailed) -> str:
    return redact(str(exc))[:200]


def prompt_bound(ask: Ask) -> int:
    """An upper bound of the prompt's tokens, for any tokenizer in use.

    Byte-level and byte-fallback tokenizers spend at least one UTF-8 byte of the text on each token,
    so bytes bound tokens from above (real English is about a quarter of that). The schema is counted
    too, as some providers put it into the prompt, and a frame for the chat template.
    """
    parts = (ask.prompt, ask.system or "", "" if ask.schema is None else json.dumps(ask.schema))
    return sum(len(part.encode("utf-8", "replace")) for part in parts) + FRAME_TOKENS


def free(kept: Kept, price_version: str) -> Charge:
    """The charge of a call that an earlier run paid for."""
    tokens = kept.reply.tokens
    return Charge(
        model=kept.model,
        input_tokens=tokens.input,
        output_tokens=tokens.output,
        cached_tokens=tokens.cached,
        reasoning_tokens=tokens.reasoning,
        cost_microusd=0,
        price_version=price_version,
        provider_request_id=kept.reply.request_id,
        kept=True,
    )
