"""Carries out `http` actions: one request, one answer, or why none came.

No redirect is followed, no cookie kept, no proxy or credential of the environment used. Of an answer
only its status counts; the beginning of its body is kept for people.
"""

from __future__ import annotations

import asyncio
from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx

from chimera.core.action import MAX_RETRY_AFTER_S, Answer, HttpAction
from chimera.core.retryafter import retry_after_s
from chimera.version import __version__

KEPT_BYTES = 1_000
"""Of an answer's body."""


class Webhook:
    """Sends requests.

    Args:
        transport: another httpx transport.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._http = httpx.AsyncClient(
            transport=transport,
            trust_env=False,
            follow_redirects=False,
            # One receiver's cookie must not travel with another tenant's request.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            headers={"User-Agent": f"chimera/{__version__}", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        )

    async def send(self, action: HttpAction, key: str, *, within_s: float) -> Answer:
        """Try once, connection and answer included, within the time. Raises nothing of the network's.

        Args:
            key: its Idempotency-Key, the same for every try.
        """
        headers = {**action.headers, "Idempotency-Key": key}
        response: httpx.Response | None = None
        text = b""
        try:
            async with (
                asyncio.timeout(within_s),
                self._http.stream(
                    action.method, action.url, headers=headers, json=action.body, timeout=within_s
                ) as response,
            ):
                async for chunk in response.aiter_raw():
                    text += chunk
                    if len(text) >= KEPT_BYTES:
                        break
        except (TimeoutError, httpx.HTTPError, httpx.InvalidURL) as exc:
            # Once its status is there the receiver has spoken, whatever becomes of the rest.
            if response is None:
                late = isinstance(exc, TimeoutError | httpx.TimeoutException)
                return Answer(None, f"none within {within_s:g} s" if late else _cause(exc))
        return _answer(response, text[:KEPT_BYTES])

    async def aclose(self) -> None:
        """Close its connections; twice is fine."""
        await self._http.aclose()


def _answer(response: httpx.Response, body: bytes) -> Answer:
    if response.is_redirect:
        to = response.headers.get("location", "")[:200]
        return Answer(response.status_code, f"redirects to {to}, which is not followed: propose that address")
    text = " ".join(body.decode("utf-8", "replace").split())
    asked = retry_after_s(response.headers.get("retry-after", ""), response.headers.get("date", ""))
    return Answer(response.status_code, text, min(asked or 0.0, MAX_RETRY_AFTER_S))


def _cause(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}"[:500]
