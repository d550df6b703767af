"""Endpoints that speak OpenAI's chat completions, asked directly: a fleet's most frequent call.

A model library's request costs five milliseconds of CPU here, ten times that of all the rest of a paid
call; this is one POST over a connection that is kept. Providers with a name of their own go through
that library (`providers`).
"""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import orjson
from pydantic import BaseModel, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator
from yarl import URL

from chimera.agents.models.endpoint import NEXT_STEP, Ask, CallFailed, Reply
from chimera.agents.models.prices import Tokens
from chimera.core import trace
from chimera.core.retryafter import retry_after_s
from chimera.errors import ModelUnavailable

MOST_BYTES = 16 * 2**20
"""Of an answer."""
CONNECT_S = 10.0
"""A connection that is not there by then will hardly come: nothing was sent, and nothing is charged."""
KEEP_S = 4.0
"""An idle connection is kept so long: many servers close theirs after five seconds, and what is sent into a
connection that just closes is charged at its worst case, for nobody knows whether it arrived."""
NEWER_NAME = frozenset({"api.openai.com"})
UNSERVED_PHASES = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
THOUGHT = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
"""What models that think aloud put before their answer, where the endpoint does not take it out."""


class Details(BaseModel):
    """Of which kind some of the tokens were."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class Usage(BaseModel):
    """What the endpoint counted."""

    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: Details | None = None
    completion_tokens_details: Details | None = None

    @property
    def tokens(self) -> Tokens:
        """In our words."""
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Tokens(
            input=self.prompt_tokens,
            output=self.completion_tokens,
            cached=(prompt and prompt.cached_tokens) or 0,
            reasoning=(completion and completion.reasoning_tokens) or 0,
        )


class Part(BaseModel):
    """A piece of a message; only text is read."""

    text: str = ""


class Message(BaseModel):
    """The answer itself."""

    content: str | list[Part] | None = None

    @property
    def text(self) -> str:
        """What was said, without what was thought."""
        content = self.content or ""
        text = content if isinstance(content, str) else "".join(part.text for part in content)
        return THOUGHT.sub("", text) if "<think>" in text else text


class Choice(BaseModel):
    """One of the answers; we ask for one."""

    message: Message
    finish_reason: str | None = None


class Completion(BaseModel):
    """The body of an answer with a status of 200 to 299."""

    id: str | None = None
    choices: list[Choice] = Field(min_length=1)
    usage: Usage | None = None

    @field_validator("usage", mode="wrap")
    @classmethod
    def _or_none(cls, value: Any, validate: ValidatorFunctionWrapHandler) -> Usage | None:
        try:
            return validate(value)  # type: ignore[no-any-return]  # (pydantic does not type its handler)
        except ValidationError:
            return None  # the answer is good; what it cost is unknown, and is charged at the hold

    @property
    def reply(self) -> Reply:
        """In our words."""
        first = self.choices[0]
        return Reply(
            text=first.message.text,
            tokens=self.usage.tokens if self.usage else Tokens(0, 0),
            request_id=self.id or "",
            truncated=first.finish_reason == "length",
        )


class CompatibleEndpoint:
    """An `Endpoint` over HTTP.

    Args:
        model: as the endpoint knows it.
        url: the base, up to `/v1` as a rule; its query, if any, is sent with each call.
        api_key: sent as a bearer token, unless "", or the URL has a name and a password.
        provider: whose endpoint it is, for its prices; "": one's own.
    Raises:
        ModelUnavailable: it is no URL of an endpoint; or its proxy or key cannot be used.
    """

    def __init__(self, model: str, url: str, api_key: str, provider: str = "") -> None:
        self.name, self.url, self.provider = model, url, provider
        try:
            base = URL(url)
            host = base.host
        except ValueError as exc:
            raise ModelUnavailable(f"{url!r} is no URL ({exc}): {NEXT_STEP}") from exc
        if base.scheme not in {"http", "https"} or not host:
            raise ModelUnavailable(f"{url!r} is no http(s) URL: {NEXT_STEP}")
        self._to = (base / "chat" / "completions").with_query(base.query)
        self._proxy = _proxy(base.scheme, host)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if not api_key.isprintable():
            raise ModelUnavailable("the key in CHIMERA_MODEL_API_KEY has a line break or the like: remove it")
        if api_key and base.user is None:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, ask: Ask) -> Reply:
        """See `Endpoint.ask`."""
        try:
            data = orjson.dumps(body_of(self.name, ask))
        except orjson.JSONEncodeError as exc:  # half of a surrogate pair
            raise CallFailed(f"the call cannot be made ({exc})", False, False) from exc
        async with self.posted(
            data, timeout_s=ask.timeout_s, call=ask.idempotency_key, traceparent=ask.traceparent
        ) as response:
            body = await whole(response)
        if not 200 <= response.status < 300:
            raise refusal(response.status, body, dict(response.headers))
        try:
            return Completion.model_validate_json(body).reply
        except ValidationError as exc:
            wrong = exc.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(step) for step in wrong["loc"])
            raise CallFailed(f"it answered what cannot be read ({where} {wrong['msg']})", True, True) from exc

    @property
    def cap(self) -> str:
        """The field that bounds the output: OpenAI's newer models know one name, all others the older."""
        return "max_completion_tokens" if self._to.host in NEWER_NAME else "max_tokens"

    @asynccontextmanager
    async def posted(
        self,
        data: bytes,
        *,
        timeout_s: float,
        connect_s: float = float("inf"),
        call: str = "",
        traceparent: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one POST, whatever its status, while its body is read.

        Args:
            data: the body, JSON.
            timeout_s: for all of it, to the end of the block.
            connect_s: the connection must be there within this.
            call: sent as `Idempotency-Key`, unless "".
            traceparent: sent under that name, unless "".
        Raises:
            CallFailed: also for what goes wrong while the body is read.
        """
        named = {"Idempotency-Key": call, trace.HEADER: traceparent}
        headers = self._headers | {name: value for name, value in named.items() if value}
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.post(
                    self._to,
                    data=data,
                    headers=headers,
                    proxy=self._proxy,
                    timeout=_within(min(timeout_s, connect_s)),
                    allow_redirects=False,
                ) as response,
            ):
                yield response
        except UNSERVED_PHASES as exc:
            raise CallFailed(f"it cannot be reached ({exc})", False, True) from exc
        except TimeoutError as exc:
            raise CallFailed(f"it did not answer within {timeout_s:g} s", True, True) from exc
        except aiohttp.ClientHttpProxyError as exc:  # the proxy refused: no endpoint has seen it
            raise CallFailed(f"the proxy answered HTTP {exc.status}", False, True) from exc
        except aiohttp.ClientError as exc:
            raise CallFailed(f"the connection broke ({exc or type(exc).__name__})", True, True) from exc

    async def close(self) -> None:
        """See `Endpoint.close`."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def _http(self) -> aiohttp.ClientSession:
        """Opened on the loop that asks first: this object may be made on another thread.

        Raises:
            CallFailed: the certificates that SSL_CERT_FILE names cannot be read.
        """
        if self._session is None:
            try:
                secure = httpx.create_ssl_context() if self._to.scheme == "https" else True
            except OSError as exc:
                raise CallFailed(f"the call cannot be made ({exc})", False, False) from exc
            self._session = aiohttp.ClientSession(
                # As many connections as there are calls: the slots bound those.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_S, ssl=secure),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def body_of(model: str, ask: Ask) -> dict[str, Any]:
    """A request as the endpoint takes it. `max_tokens` is the name that all of them know."""
    messages = [{"role": "system", "content": ask.system}] if ask.system else []
    messages.append({"role": "user", "content": ask.prompt})
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": ask.max_tokens,
        "stream": False,
    }
    if ask.temperature is not None:
        body["temperature"] = ask.temperature
    if ask.seed is not None:
        body["seed"] = ask.seed
    if ask.schema is not None:
        # Untouched: patterns and lengths reach the endpoint's grammar.
        shape = {"name": "answer", "schema": dict(ask.schema)}
        body["response_format"] = {"type": "json_schema", "json_schema": shape}
    return body


def refusal(status: int, body: bytes, headers: dict[str, str]) -> CallFailed:
    """What a status that is no success means for money and patience.

    A refusal was not served and is not charged. A gateway's 408 and 504 tell nothing about the model
    behind it, and count as sent. A quota that is used up will not be there in a minute.
    """
    said, kind = _said(body)
    lowered = {name.lower(): value for name, value in headers.items()}
    if 300 <= status < 400:
        said = (
            f"it redirects to {lowered.get('location', '')[:200]}, which is not followed: name that address"
        )
    retryable = (status in {408, 409, 425, 429} or status >= 500) and kind != "insufficient_quota"
    return CallFailed(
        f"it answered HTTP {status}{f' ({said})' if said else ''}",
        status in {408, 504},
        retryable,
        retry_after_s(lowered.get("retry-after", ""), lowered.get("date", "")),
    )


def _said(body: bytes) -> tuple[str, str]:
    """An error's message, at most 200 characters, and its code."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return " ".join(body[:200].decode("utf-8", "replace").split()), ""
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return str(error)[:200], ""
    said = error.get("message") or error.get("detail") or ""
    return str(said)[:200], str(error.get("code") or error.get("type") or "")


def _within(timeout_s: float) -> aiohttp.ClientTimeout:
    """A connection is given up before the call is: only then it is known that nothing was sent."""
    return aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_S, 0.9 * timeout_s))


async def whole(response: aiohttp.ClientResponse) -> bytes:
    """The body of an answer.

    Raises:
        CallFailed: it is over `MOST_BYTES`.
    """
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > MOST_BYTES:
            response.close()
            raise CallFailed(f"its answer is over {MOST_BYTES:,} bytes", True, False)
    return bytes(body)


def _proxy(scheme: str, host: str) -> str | None:
    """The proxy that the environment names for an endpoint, as every HTTP client reads it.

    Raises:
        ModelUnavailable: it speaks no HTTP, or is no address at all.
    """
    proxies = urllib.request.getproxies()
    named = proxies.get(scheme) or proxies.get("all")
    if not named or urllib.request.proxy_bypass(host):
        return None
    proxy = named if "://" in named else f"http://{named}"
    try:
        read = URL(proxy)
        usable = read.scheme in {"http", "https"} and bool(read.host)
    except ValueError:
        usable = False
    if not usable:
        where = named.rpartition("@")[2]  # without its password
        raise ModelUnavailable(f"the proxy {where!r} is no http(s) one: name one, or {host} in NO_PROXY")
    return proxy
