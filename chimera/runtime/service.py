"""A service: one duty, done once by `run_once`, over and over between `start` and `stop`."""

from __future__ import annotations

import asyncio
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable

import structlog

from chimera.errors import BackendError, StoreError
from chimera.store.connection import end

log = structlog.get_logger(__name__)


class Service(ABC):
    """Base of the hub's services. Start and stop are idempotent; a failure is logged, not fatal.

    While the store is away it backs off (to 2 s, with jitter) and goes on by itself.
    """

    name = "service"
    sweep_s = 1.0
    """At least this often `run_once` runs, woken or not."""
    hung_s = 300.0
    """One `run_once` that takes longer hangs: nothing that it waits for comes any more."""

    def __init__(self) -> None:
        self._loop_task: asyncio.Task[None] | None = None
        self.failures = 0
        """Failures of `run_once` in a row."""
        self._since: float | None = None
        """When the `run_once` under way began (this process's clock)."""

    @abstractmethod
    async def run_once(self) -> None:
        """Do the duty once."""

    async def wait(self) -> None:
        """Wait until there may be something to do."""
        await asyncio.sleep(self.sweep_s)

    def start(self) -> None:
        """Begin; nothing happens when it has begun."""
        if self._loop_task is None or self._loop_task.done():
            self._loop_task = asyncio.create_task(self._loop(), name=self.name)

    async def stop(self) -> None:
        """End; nothing happens when it has not begun or has ended."""
        task, self._loop_task = self._loop_task, None
        if task is not None:
            await end(task)

    @property
    def running(self) -> bool:
        """Whether its loop is alive."""
        return self._loop_task is not None and not self._loop_task.done()

    @property
    def hangs(self) -> bool:
        """Whether one `run_once` has been under way for longer than it may."""
        return self._since is not None and time.monotonic() - self._since > self.hung_s

    async def _loop(self) -> None:
        while True:
            try:
                self._since = time.monotonic()
                try:
                    await self.run_once()
                finally:
                    self._since = None
                self.failures = 0
                await self.wait()
            except StoreError as exc:
                self.failures += 1
                log.warning("store.unavailable", service=self.name, error=str(exc))
                await asyncio.sleep(backoff_s(self.failures))
            except Exception:
                self.failures += 1
                log.exception("service.failed", service=self.name)
                await asyncio.sleep(backoff_s(self.failures))


def see_that_all_are_well(services: Iterable[Service]) -> None:
    """Of services that were started and not stopped.

    Raises:
        BackendError: names the first that has ended, or hangs.
    """
    for service in services:
        if not service.running:
            raise BackendError(f"{service.name} has stopped")
        if service.hangs:
            raise BackendError(f"{service.name} hangs: one pass has taken over {service.hung_s:g} s")


def backoff_s(failures: int, *, base_s: float = 0.1, most_s: float = 2.0) -> float:
    """Exponential with full jitter: many clients must not come back in step."""
    # Jitter needs no cryptographic randomness.
    return random.uniform(0.5, 1.0) * min(most_s, base_s * 2.0 ** min(failures, 10))  # nosec B311 : to spread retries, no secret
