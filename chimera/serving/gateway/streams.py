"""Event streams: server-sent events, how many may be open, and what wakes them.

All streams of a tenant share one tail: a single blocking read of the tenant's flight recorder on a
connection of its own. So connections are bounded by tenants that watch, not by who watches.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import structlog
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from chimera.errors import RateLimited, StoreError
from chimera.runtime.base import Base
from chimera.serving.gateway.hub import STORE_S, promptly
from chimera.store.recorder import Recorder

log = structlog.get_logger(__name__)

HEARTBEAT_S = 15.0
"""A silent stream says that it lives this often: proxies close what they take for dead."""
COALESCE_S = 0.2
"""A tail wakes its streams at most this often."""
BLOCK_S = 10.0
BEAT = b": still here\n\n"
END = b"event: end\ndata: {}\n\n"


def frame(event: str, data: str, identity: str = "") -> bytes:
    """One server-sent event; `data` is one line of JSON."""
    head = f"id: {identity}\n" if identity else ""
    return f"{head}event: {event}\ndata: {data}\n\n".encode()


class Tail:
    """Notices every new entry of one tenant's recorder, for all who watch."""

    def __init__(self, base: Base, tenant: str) -> None:
        stores = base.of(tenant)
        self._recorder = stores.recorder
        self._waiting = Recorder(base.blocking, tenant, stores.archive)
        self._changed = asyncio.Event()
        self._failure: StoreError | None = None
        self._ready = asyncio.Event()
        self._task = asyncio.create_task(self._follow(), name=f"tail {tenant}")
        self.seen = 0
        """Grows with every change noticed."""

    async def ready(self) -> None:
        """Wait until it listens: what is written after this is noticed.

        Raises:
            StoreError: the store is away.
        """
        await self._ready.wait()
        if self._failure is not None:
            raise self._failure

    async def changed(self, seen: int, timeout_s: float) -> bool:
        """Wait for a change after `seen`. False: the time passed without one.

        Raises:
            StoreError: the store went away.
        """
        changed = self._changed
        if self.seen == seen and self._failure is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(timeout_s):
                    await changed.wait()
        if self._failure is not None:
            raise self._failure
        return self.seen > seen

    async def stop(self) -> None:
        """End it; twice is fine."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        try:
            async with promptly():
                cursor = await self._recorder.last()
            self._ready.set()
            while True:
                async with promptly(BLOCK_S + STORE_S):
                    found = await self._waiting.wait(after=cursor, timeout_s=BLOCK_S)
                if found:
                    async with promptly():
                        cursor = await self._recorder.last()
                    self.seen += 1
                    self._wake()
                    await asyncio.sleep(COALESCE_S)
        except StoreError as exc:
            self._failure = exc
            self._ready.set()
            self._wake()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    @property
    def failed(self) -> bool:
        """Whether the store went away under it."""
        return self._failure is not None


class Streams:
    """The open streams of this process."""

    def __init__(self, base: Base, most: int, most_of_tenant: int) -> None:
        self._base, self._most, self._most_of_tenant = base, most, most_of_tenant
        self._open: Counter[str] = Counter()
        self._tails: dict[str, tuple[Tail, int]] = {}

    @property
    def open(self) -> int:
        """How many are open now."""
        return self._open.total()

    async def join(self, tenant: str) -> Tail:
        """The tenant's tail for one more stream; give it back with `leave`.

        Raises:
            RateLimited: too many streams are open.
            StoreError: the store is away.
        """
        if self.open >= self._most or self._open[tenant] >= self._most_of_tenant:
            whose = "this key's tenant has" if self._open[tenant] >= self._most_of_tenant else "the hub has"
            raise RateLimited(f"{whose} too many event streams open: close some", 5.0)
        tail, users = self._tails.get(tenant, (None, 0))
        if tail is None or tail.failed:
            # Streams on a tail that failed are ending: they leave by the count, not by the tail.
            tail = Tail(self._base, tenant)
        self._tails[tenant] = (tail, users + 1)
        self._open[tenant] += 1
        try:
            await tail.ready()
        except BaseException:
            await self.leave(tenant)
            raise
        return tail

    async def leave(self, tenant: str) -> None:
        """One stream less."""
        self._open[tenant] -= 1
        tail, users = self._tails[tenant]
        if users > 1:
            self._tails[tenant] = (tail, users - 1)
            return
        del self._tails[tenant], self._open[tenant]
        await tail.stop()


class EventStream(StreamingResponse):
    """A response of server-sent events that gives its place back however it ends."""

    def __init__(
        self, streams: Streams, tenant: str, events: Callable[[Tail], AsyncGenerator[bytes, None]], tail: Tail
    ) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        self._streams, self._tenant = streams, tenant
        super().__init__(self._quietly(events(tail)), headers=headers, media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._streams.leave(self._tenant)

    async def _quietly(self, events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        yield b"retry: 1000\n"
        # Without `end` the stream counts as cut: whoever listens comes back, and finds the store or a 503.
        try:
            async for event in events:
                yield event
        except StoreError as exc:
            log.warning("stream.cut", tenant=self._tenant, error=str(exc))
