"""How the client calls the hub: each call safe to repeat, each stream taken up where it stopped."""

from __future__ import annotations

import asyncio
import random
import re
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from httpx_sse import EventSource, ServerSentEvent, SSEError
from pydantic import BaseModel, ValidationError

from chimera.client.listing import Listing
from chimera.client.problems import error_of
from chimera.core import trace
from chimera.core.views import Damaged, Page, Problem, ResultView
from chimera.errors import (
    BackendError,
    ChimeraError,
    ConfigurationError,
    FleetUnavailable,
    HubBusy,
    InvalidRequest,
    QuotaReached,
    RateLimited,
    StoreTimeout,
    StoreUnavailable,
    Unauthorized,
)
from chimera.version import __version__

V = TypeVar("V", bound=BaseModel)
R = TypeVar("R", bound=ResultView)
T = TypeVar("T")

SILENCE_S = 45.0
"""A stream that says nothing for this long, three heartbeats, is broken."""
PATIENCE_S = 60.0
"""A stream that was once connected is taken up again for this long."""
ANSWER_S = 300.0
"""What was sent as lines is answered within this time of the last one: the hub stores them first."""

AWAY = (FleetUnavailable, StoreUnavailable, StoreTimeout)
"""What may be over in a moment: worth another try."""
TOO_MUCH = (RateLimited, QuotaReached, HubBusy)
"""Refused for now, with the time after which it may be asked again."""
HEEDED_S = 10.0
"""A `Retry-After` up to this is waited for; a longer one is the caller's to decide."""


class Connection:
    """One key's calls to one hub.

    Args:
        url: the hub's address.
        api_key: the tenant's key, if there is one.
        timeout_s: of one try of one call.
        retries: further tries after a broken connection or a 503.
        transport: another httpx transport.
    Raises:
        ConfigurationError: the address or the key cannot be used.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None,
        *,
        timeout_s: float,
        retries: int,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.url = url.rstrip("/")
        if not re.match(r"https?://[^/]", self.url):
            raise ConfigurationError(
                f"{url!r} is no hub's address: it is http://HOST:PORT or https://HOST (--url, CHIMERA_URL)"
            )
        self._retries = retries
        headers = {"User-Agent": f"chimera/{__version__}"}
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        try:
            self.http = httpx.AsyncClient(
                base_url=self.url,
                headers=headers,
                timeout=httpx.Timeout(timeout_s, connect=min(5.0, timeout_s)),
                transport=transport,
                # Proxies and netrc of the environment are no settings of ours.
                trust_env=False,
            )
        except (httpx.InvalidURL, UnicodeEncodeError) as exc:
            raise ConfigurationError(
                f"the hub's address or key cannot be used ({exc}): check CHIMERA_URL and CHIMERA_API_KEY"
            ) from exc

    async def aclose(self) -> None:
        """Close what is open; twice is fine."""
        await self.http.aclose()

    async def read(self, view: type[V], path: str, params: Mapping[str, str] | None = None) -> V:
        """What is there, as this view."""
        return parse(view, await self._call("GET", path, params=params))

    async def write(
        self,
        view: type[V],
        method: str,
        path: str,
        body: Any,
        operation: str | None = None,
        *,
        traceparent: str = "",
    ) -> V:
        """A change, under an operation id that its repetitions share."""
        headers = _named(operation, traceparent)
        return parse(view, await self._call(method, path, json=body, headers=headers))

    async def write_lines(
        self,
        view: type[V],
        path: str,
        lines: Callable[[], AsyncIterator[bytes]],
        operation: str | None = None,
        *,
        again: bool = True,
        traceparent: str = "",
    ) -> V:
        """A change whose body is sent as it is made, under an operation id that its repetitions share.

        Args:
            lines: makes the body, from its beginning.
            again: it can be made more than once.
        """
        headers = {**_named(operation, traceparent), "Content-Type": "application/x-ndjson"}
        tries = self._retries if again else 0

        async def send() -> httpx.Response:
            timeout = httpx.Timeout(self.http.timeout.write, read=ANSWER_S, connect=self.http.timeout.connect)
            return await self.http.post(path, content=lines(), headers=headers, timeout=timeout)

        return parse(view, await self._tried(send, tries))

    async def listing(
        self, item: type[V], path: str, params: Mapping[str, str], most: int | None
    ) -> Listing[V]:
        """A list's items, read page after page, at most so many; and what had to be left out of it."""
        found, damaged, asked = list[V](), list[Damaged](), dict(params)
        while most is None or len(found) < most:
            if most is not None:
                asked["limit"] = str(min(100, most - len(found)))
            # `item` is a class known only when it runs: pydantic builds the page's model from it.
            page = await self.read(Page[item], path, asked)  # type: ignore[valid-type]  # (a type known when it runs)
            found += page.items
            damaged += page.damaged
            if page.next is None:
                break
            asked["after"] = page.next
        return Listing(found, damaged)

    async def _call(self, method: str, path: str, **request: Any) -> bytes:
        """One call, tried again while the connection breaks or the hub answers 503, or 429 for a moment."""
        return await self._tried(lambda: self.http.request(method, path, **request), self._retries)

    async def _tried(self, send: Callable[[], Awaitable[httpx.Response]], most: int) -> bytes:
        tries = 0
        while True:
            tries += 1
            try:
                with self.reachable():
                    response = await send()
                await self.check(response)
                return response.content
            except (*AWAY, *TOO_MUCH) as exc:
                pause_s = _pause_s(exc, tries)
                if tries > most or pause_s is None:
                    raise
            await asyncio.sleep(pause_s)

    async def events(
        self, path: str, params: Mapping[str, str] | None = None, last_id: str = ""
    ) -> AsyncGenerator[ServerSentEvent, None]:
        """A stream's events, taken up again after the last id when the connection drops.

        The hub says `end` when there is no more; a stream that stops without it was cut.
        """

        async def read() -> AsyncGenerator[ServerSentEvent | None, None]:
            nonlocal last_id
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_id} if last_id else {})}
            timeout = httpx.Timeout(10.0, read=SILENCE_S)
            async with self.http.stream(
                "GET", path, params=params, headers=headers, timeout=timeout
            ) as response:
                await self.check(response)
                yield None
                async with aclosing(EventSource(response).aiter_sse()) as stream:
                    async for event in stream:
                        if event.event == "end":
                            return
                        last_id = event.id or last_id
                        yield event
            raise self.gone("the stream was cut")

        async with aclosing(self._taken_up(read)) as events:
            async for event in events:
                if event.data:
                    yield event

    async def lines(self, path: str, view: type[R], after: str = "") -> AsyncGenerator[R, None]:
        """A stream of documents, one a line, each of which says where to go on when the connection drops."""

        async def read() -> AsyncGenerator[R | None, None]:
            nonlocal after
            params = {"after": after} if after else None
            async with self.http.stream("GET", path, params=params) as response:
                await self.check(response)
                yield None
                rest = b""
                async for piece in response.aiter_bytes():
                    # At line feeds alone: text within a document may hold what else counts as a line's end.
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        found = parse(view, line)
                        after = found.next
                        yield found

        async with aclosing(self._taken_up(read)) as found:
            async for one in found:
                yield one

    async def _taken_up(self, read: Callable[[], AsyncGenerator[T | None, None]]) -> AsyncGenerator[T, None]:
        """A stream, begun again whenever it breaks off.

        Args:
            read: gives None once it is connected, then what comes; it ends when there is no more.
        """
        connected, tries, lost_at = False, 0, 0.0
        while True:
            try:
                with self.reachable():
                    async with aclosing(read()) as stream:
                        async for one in stream:
                            if one is None:
                                connected = True
                            else:
                                tries = 0
                                yield one
                        return
            except (*AWAY, *TOO_MUCH) as exc:
                failure = exc
            tries += 1
            lost_at = time.monotonic() if tries == 1 else lost_at
            out_of_patience = time.monotonic() - lost_at > PATIENCE_S
            pause_s = _pause_s(failure, tries)
            if pause_s is None or (out_of_patience if connected else tries > self._retries):
                raise failure
            await asyncio.sleep(pause_s)

    async def check(self, response: httpx.Response) -> None:
        """Raise the error that a response tells of, if it does."""
        if response.is_success:
            return
        await response.aread()
        if response.headers.get("content-type", "").startswith("application/problem+json"):
            error = error_of(parse(Problem, response.content))
            if isinstance(error, Unauthorized) and "Authorization" in self.http.headers:
                # The hub says the same of a key that is missing: which of the two it is, is known here.
                raise Unauthorized(f"the key that was given is not taken: {error}") from error
            raise error
        raise self.gone(f"HTTP {response.status_code} came from something else than Chimera's API")

    @contextmanager
    def reachable(self) -> Iterator[None]:
        """What httpx raises, as `FleetUnavailable`."""
        try:
            yield
        except httpx.TimeoutException as exc:
            raise self.gone("it did not answer in time") from exc
        except (httpx.TransportError, SSEError) as exc:
            raise self.gone(str(exc) or type(exc).__name__) from exc

    def gone(self, why: str) -> FleetUnavailable:
        """The error of a hub that does not answer, with the next step."""
        return FleetUnavailable(
            f"no hub answers at {self.url} ({why}): start a local fleet with `chimera up`, "
            "or set CHIMERA_URL to the hub's address"
        )


def parse(view: type[V], body: bytes | str) -> V:
    """A document as this view. Raises BackendError when the hub speaks another version."""
    try:
        return view.model_validate_json(body)
    except ValidationError as exc:
        raise BackendError(
            f"the hub's answer cannot be read as {view.__name__}: it speaks another version than this "
            f"client ({__version__}); compare `chimera --version` with the hub's /version"
        ) from exc


def part(identity: str) -> str:
    """An id as one part of a path."""
    if not identity:
        raise InvalidRequest("an id is missing: give the mission's or the task's id")
    return quote(identity, safe="")


def _named(operation: str | None, traceparent: str) -> dict[str, str]:
    headers = {"Idempotency-Key": operation or uuid.uuid4().hex}
    return headers | ({trace.HEADER: traceparent} if traceparent else {})


def _pause_s(failure: ChimeraError, tries: int) -> float | None:
    """Seconds until the next try; None when the hub names more than is waited for."""
    if not isinstance(failure, TOO_MUCH):
        return _backoff_s(tries)
    if failure.retry_after_s > HEEDED_S:
        return None
    # Spread behind the named instant, never before it: many clients must not come back in step.
    return failure.retry_after_s + 0.2 * _backoff_s(tries)


def _backoff_s(attempt: int) -> float:
    """Seconds until the next try: doubling from 0.2 s, at most 5 s, spread by chance."""
    return float(min(5.0, 0.2 * 2 ** (attempt - 1)) * random.uniform(0.5, 1.0))  # nosec B311 : to spread retries, no secret
