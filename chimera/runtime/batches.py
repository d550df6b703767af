"""Batches: what is asked for in one turn of the event loop goes out as one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Generic, TypeVar

import structlog

from chimera.errors import StoreError, StoreUnavailable
from chimera.store.connection import end

T = TypeVar("T")
R = TypeVar("R")

log = structlog.get_logger(__name__)

MOST = 500
"""Items of one call."""


class Batches(Generic[T, R]):
    """Gathers items while the last batch is under way, one batch at a time.

    Args:
        act: does a batch, and gives one result for each item.
    """

    def __init__(self, name: str, act: Callable[[Sequence[T]], Awaitable[Sequence[R]]]) -> None:
        self._name, self._act = name, act
        self._waiting: asyncio.Queue[tuple[T, asyncio.Future[R]]] = asyncio.Queue()
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
                await self._waiting.join()
        except TimeoutError:
            log.warning("batches.undone", batches=self._name, items=self._waiting.qsize())
        await end(task)
        while not self._waiting.empty():
            _, future = self._waiting.get_nowait()
            fail([future], StoreUnavailable(f"{self._name}: closed before it was done"))

    async def do(self, item: T) -> R:
        """Have one item done.

        Raises:
            StoreError: its batch failed, and may have been done; or nothing is running.
        """
        if self._loop is None:
            raise StoreUnavailable(f"{self._name}: closed")
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((item, future))
        return await future

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            await asyncio.sleep(0)  # those asked in the same turn of the loop go along
            while not self._waiting.empty() and len(batch) < MOST:
                batch.append(self._waiting.get_nowait())
            futures = [future for _, future in batch]
            try:
                results = await self._act([item for item, _ in batch])
            except asyncio.CancelledError:
                fail(futures, StoreUnavailable(f"{self._name}: closed while it was under way"))
                raise
            except StoreError as exc:
                log.warning("store.unavailable", service=self._name, error=str(exc))
                fail(futures, exc)
            except Exception as exc:
                log.exception("batch.failed", batches=self._name)
                fail(futures, exc)
            else:
                for future, result in zip(futures, results, strict=True):
                    if not future.done():  # else its asker has given up
                        future.set_result(result)
            finally:
                for _ in batch:
                    self._waiting.task_done()


def fail(futures: Iterable[asyncio.Future[R]], exc: Exception) -> None:
    """Tell those who still wait."""
    for future in futures:
        if not future.done():
            future.set_exception(exc)
