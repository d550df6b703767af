"""Batches: what is asked for in one turn of the event loop goes out as one call."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, Protocol, TypeVar

import structlog

from chimera.errors import StoreError, StoreUnavailable
from chimera.runtime.service import backoff_s
from chimera.store.connection import end

T = TypeVar("T")
R = TypeVar("R")
R_contra = TypeVar("R_contra", contravariant=True)

log = structlog.get_logger(__name__)

MOST = 500
"""Items of one call."""


class Waiter(Protocol[R_contra]):
    """Who waits for an item: a future, or whatever listens like one."""

    def done(self) -> bool:
        """Whether it waits no more: it was told, or has given up."""

    def set_result(self, result: R_contra, /) -> None:
        """The item is done."""

    def set_exception(self, exception: Exception, /) -> None:
        """Its batch failed, and may have been done."""


class Batches(Generic[T, R]):
    """Gathers items while the last batch is under way, one batch at a time, in their order.

    Args:
        act: does a batch, and gives one result for each item.
    """

    def __init__(self, name: str, act: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._name, self._act = name, act
        self._waiting: deque[tuple[T, Waiter[R], float]] = deque()
        self._more, self._idle = asyncio.Event(), asyncio.Event()
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; idempotent."""
        if self._loop is None:
            self._loop = asyncio.create_task(self._run(), name=self._name)

    async def stop(self, patience_s: float) -> None:
        """End, once what waits is done or the time has passed; idempotent."""
        task, self._loop = self._loop, None
        if task is None:
            return
        try:
            async with asyncio.timeout(patience_s):
                await self._idle.wait()
        except TimeoutError:
            log.warning("batches.undone", batches=self._name, items=len(self._waiting))
        await end(task)
        fail((waiter for _, waiter, _ in self._waiting), StoreUnavailable(f"{self._name}: closed"))
        self._waiting.clear()

    def do(self, item: T, *, again_s: float = 0.0) -> asyncio.Future[R]:
        """Have one item done. The future raises StoreError when its batch failed; it may have been done.

        Who cancels the future waits no more; the item is done all the same.

        Args:
            again_s: while the store is away it is tried again, before later items, for so long.
        Raises:
            StoreUnavailable: nothing is running.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self.put(item, future, again_s=again_s)
        return future

    def put(self, item: T, waiter: Waiter[R], *, again_s: float = 0.0) -> None:
        """The same, with somebody who is told.

        Raises:
            StoreUnavailable: nothing is running.
        """
        if self._loop is None:
            raise StoreUnavailable(f"{self._name}: closed")
        self._waiting.append((item, waiter, time.monotonic() + again_s))
        self._idle.clear()  # here: whoever stops in this very turn waits for it
        self._more.set()

    async def _run(self) -> None:
        failures = 0
        while True:
            if not self._waiting:
                self._idle.set()
                await self._more.wait()
            await asyncio.sleep(0)  # those asked in the same turn of the loop go along
            batch = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            self._more.clear()
            try:
                results = await self._act([item for item, _, _ in batch])
            except asyncio.CancelledError:
                fail((one[1] for one in batch), StoreUnavailable(f"{self._name}: closed while under way"))
                raise
            except StoreError as exc:
                failures += 1
                log.warning("store.unavailable", service=self._name, error=str(exc))
                now = time.monotonic()
                fail((one[1] for one in batch if one[2] <= now), exc)
                self._waiting.extendleft(reversed([one for one in batch if one[2] > now]))
                if self._waiting:
                    await asyncio.sleep(backoff_s(failures))
            except Exception as exc:
                log.exception("batch.failed", batches=self._name)
                fail((one[1] for one in batch), exc)
            else:
                failures = 0
                for (_, waiter, _), result in zip(batch, results, strict=True):
                    if not waiter.done():
                        waiter.set_result(result)


def fail(waiters: Iterable[Waiter[R]], exc: Exception) -> None:
    """Tell those who still wait."""
    for waiter in waiters:
        if not waiter.done():
            waiter.set_exception(exc)
