"""The link to an MCP server: one session over streamable HTTP, by the official SDK.

A call ends in one of three ways: the tool took it, the tool or the server refused it (`Refused`), or the
server is away (`Down`) and the session is over. A call that timed out, or met a 500, says neither: so the
server is asked for its tools, and only one that does not answer that is away.

The SDK is imported with the first session, in a thread: it takes a second, and who exports nothing
needs none of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from importlib import import_module
from typing import Any

import structlog

from chimera.core.action import address_of
from chimera.core.arguments import Arguments, parse_headers
from chimera.settings import Settings
from chimera.store.connection import end
from chimera.version import __version__

log = structlog.get_logger(__name__)

CLOSE_S = 2.0
"""A session that is told to end may say goodbye for this long."""
MAX_REASON = 500
LATER = frozenset({401, 403, 408, 429, 503})
"""Statuses that say nothing about the event: the server does not take any now."""
_statuses: ContextVar[list[int] | None] = ContextVar("statuses", default=None)
"""What the server answered to the requests of one call."""


class Down(Exception):
    """The server does not take calls now; says why, and what to do."""


class Refused(Exception):
    """The server answered that it does not take this call; says why."""


class Link:
    """A session that is opened when it is needed, and anew after it broke.

    Args:
        settings: CHIMERA_MCP_URL and its neighbours.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._arguments = Arguments.parse(settings.mcp_arguments)
        secret = settings.mcp_headers
        self._headers = parse_headers(secret.get_secret_value()) if secret else {}
        self._sdk: Any = None
        self._client: Any = None
        self._closing = asyncio.Event()
        self._session: asyncio.Task[None] | None = None
        self._opening = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        """Whether there is a session."""
        return self._client is not None and self._session is not None and not self._session.done()

    async def open(self) -> None:
        """See that there is a session, with a tool that the arguments fit.

        Raises:
            Down: there is none to be had.
        """
        async with self._opening:
            if self.is_open:
                return
            await self.aclose()
            self._closing = asyncio.Event()
            opened = asyncio.get_running_loop().create_future()
            self._session = asyncio.create_task(self._hold(opened), name="mcp session")
            try:
                # Negotiation takes several requests, each of them bounded by the timeout.
                async with asyncio.timeout(3 * self._settings.mcp_timeout_s):
                    self._client = await opened
            except TimeoutError as exc:
                await self.aclose()
                raise Down(
                    f"{self._where} does not answer within {self._settings.mcp_timeout_s:g} s"
                ) from exc
            except Down:
                await self.aclose()
                raise

    async def call(self, arguments: Mapping[str, Any]) -> None:
        """Call the tool.

        Raises:
            Refused, Down: see above; after `Down` it must be opened anew.
        """
        client, session = self._client, self._session
        if client is None or session is None or session.done():
            raise Down(f"{self._where}: the session ended")
        statuses: list[int] = []
        _statuses.set(statuses)
        calling = asyncio.create_task(client.call_tool(self._settings.mcp_tool, dict(arguments)))
        try:
            await asyncio.wait(
                {calling, session}, timeout=self._settings.mcp_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if session.done():
                raise Down(f"{self._where}: the connection broke")
            if not calling.done():
                raise await self._judged(f"no answer within {self._settings.mcp_timeout_s:g} s")
            await self._ended(calling, statuses)
        finally:
            await end(calling)
            # Where the session broke first, nobody asked how the call ended.
            calling.cancelled() or calling.exception()

    async def check(self) -> None:
        """See that the server answers, and still has the tool. Raises Down."""
        client = self._client
        if client is None or not self.is_open:
            raise Down(f"{self._where}: the session ended")
        try:
            async with asyncio.timeout(self._settings.mcp_timeout_s):
                await self._find_tool(client)
        except TimeoutError as exc:
            raise Down(f"{self._where} does not answer within {self._settings.mcp_timeout_s:g} s") from exc
        except Down:
            raise
        except Exception as exc:
            raise Down(f"{self._where} does not answer: {_first(exc)}") from exc

    async def aclose(self) -> None:
        """End the session; twice is fine."""
        session, self._session, self._client = self._session, None, None
        self._closing.set()
        if session is not None:
            await asyncio.wait({session}, timeout=CLOSE_S)
            await end(session)

    @property
    def _where(self) -> str:
        return f"the MCP server at {address_of(self._settings.mcp_url)}"

    async def _hold(self, opened: asyncio.Future[Any]) -> None:
        """Keep a session from its beginning to its end, all in one task, as the SDK wants it."""
        statuses: list[int] = []
        _statuses.set(statuses)
        try:
            if self._sdk is None:
                self._sdk = await asyncio.to_thread(_sdk, address_of(self._settings.mcp_url).scheme)
            sdk, transport, httpx2, context = self._sdk
            async with AsyncExitStack() as stack:
                http = await stack.enter_async_context(
                    httpx2.AsyncClient(
                        headers={"User-Agent": f"chimera/{__version__}", **self._headers},
                        timeout=self._settings.mcp_timeout_s,
                        trust_env=False,
                        verify=context,
                        event_hooks={"response": [_note_status]},
                    )
                )
                streams = transport.streamable_http_client(self._settings.mcp_url, http_client=http)
                client = await stack.enter_async_context(sdk.Client(streams, cache=None))
                await self._find_tool(client)
                opened.set_result(client)
                await self._closing.wait()
        except Exception as exc:  # noqa: BLE001 (whatever breaks a session ends it, and is told)
            reason = _first(exc)
            if opened.done():
                log.info("export.disconnected", error=str(reason))
            else:
                opened.set_exception(reason if isinstance(reason, Down) else self._down(reason, statuses))

    async def _find_tool(self, client: Any) -> None:
        """Raises Down: the tool is not there, or the arguments do not fit it."""
        wanted, names, cursor = self._settings.mcp_tool, [], None
        while True:
            page = await client.list_tools(cursor=cursor)
            for tool in page.tools:
                names.append(tool.name)
                if tool.name == wanted:
                    if wrong := self._arguments.misfits(tool.input_schema):
                        raise Down(
                            f"CHIMERA_MCP_ARGUMENTS does not fit the tool {wanted!r}: {'; '.join(wrong)}. "
                            f"Change the "
                            "template and restart the hub"
                        )
                    return
            cursor = page.next_cursor
            if not cursor:
                break
        raise Down(
            f"{self._where} has no tool {wanted!r}: it has {', '.join(sorted(names)[:50]) or 'none'}. Set "
            "CHIMERA_MCP_TOOL to one of them and restart the hub"
        )

    async def _ended(self, calling: asyncio.Task[Any], statuses: list[int]) -> None:
        """Raises as `call`, by how a call ended."""
        error = calling.exception()
        if error is None:
            result = calling.result()
            if result.is_error:
                raise Refused(_words(result)[:MAX_REASON] or "the tool said that it failed, and not why")
            return
        status = statuses[-1] if statuses else 0
        if status in LATER:
            raise self._down(error, statuses)
        code = getattr(getattr(error, "error", None), "code", None)
        if code is None:
            # The answer came, and is not what the SDK can read.
            raise Refused(f"its answer cannot be read: {error}"[:MAX_REASON])
        if code == CONNECTION_CLOSED or str(error) == SESSION_TERMINATED:
            raise Down(f"{self._where}: {error}")
        if status >= 500:
            raise await self._judged(f"it answers {status}")
        raise Refused(f"{error} ({code})"[:MAX_REASON])

    async def _judged(self, said: str) -> Down | Refused:
        """What an end that says nothing means: a server that answers something else refused it."""
        try:
            await self.check()
        except Down as exc:
            return exc
        return Refused(said)

    def _down(self, error: BaseException, statuses: list[int]) -> Down:
        status = statuses[-1] if statuses else 0
        match status:
            case 401 | 403:
                return Down(
                    f"{self._where} refuses the credentials ({status}): check CHIMERA_MCP_HEADERS, or the "
                    f"file that "
                    "CHIMERA_MCP_HEADERS_FILE names, and restart the hub"
                )
            case 404 | 405:
                return Down(f"{self._where} has no MCP at this path ({status}): check CHIMERA_MCP_URL")
            case _ if status >= 400:
                return Down(f"{self._where} answers {status}")
        return Down(f"{self._where} cannot be reached: {type(error).__name__}: {error}"[:MAX_REASON])


CONNECTION_CLOSED = -32000
"""The SDK's code for a connection that ended before the answer."""
SESSION_TERMINATED = "Session terminated"
"""The SDK's words for a server that does not know its session any more: it was restarted."""


def _sdk(scheme: str) -> tuple[Any, Any, Any, Any]:
    # What it logs of an outage are tracebacks of what is told here in a sentence.
    logging.getLogger("mcp").setLevel(logging.CRITICAL)
    httpx2 = import_module("httpx2")
    # To read the authorities takes a tenth of a second of a processor: once, and where they are needed.
    context = httpx2.create_ssl_context() if scheme == "https" else False
    return import_module("mcp"), import_module("mcp.client.streamable_http"), httpx2, context


async def _note_status(response: Any) -> None:
    statuses = _statuses.get()
    if statuses is not None:
        statuses.append(int(response.status_code))


def _words(result: Any) -> str:
    return " ".join(" ".join(getattr(part, "text", "") for part in result.content).split())


def _first(error: BaseException) -> BaseException:
    """The first error of a group that is none itself."""
    return next(_leaves(error), error)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
