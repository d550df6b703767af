"""An event loop in a thread of its own, which ends with what it runs and with nothing else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop

from chimera.runtime.crew import EXITS

log = structlog.get_logger(__name__)


class LoopThread:
    """An event loop in a thread of its own, running one coroutine to its end."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._begun = threading.Event()
        self.error: str | None = None

    def run(self, main: Coroutine[Any, Any, Any], *, then: Any = None) -> None:
        """Run `main`; call `then` when it has ended, however it ended."""
        self._thread = threading.Thread(
            target=self._drive, args=(self._to_its_end(main, then),), name=self._name, daemon=True
        )
        self._thread.start()

    def _drive(self, main: Coroutine[Any, Any, None]) -> None:
        """Run the loop until `main` ends, and nobody else's exit before that."""
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            loop = runner.get_loop()
            task = loop.create_task(main)
            while not task.done():
                try:
                    loop.run_until_complete(task)
                except EXITS:
                    # A callback raised it, or a task that is no attempt's: asyncio hands it to us, and stops.
                    log.exception("loop.exit_refused", actor=self._name)

    def soon(self, call: Callable[[], Any]) -> None:
        """Call something on the loop, from any other thread; also when it has only just been started."""
        if self._thread is not None:
            self._begun.wait()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(call)

    def answers(self, within_s: float) -> bool:
        """Whether it runs, and turns: what is asked of it is done in time. For any other thread."""
        heard = threading.Event()
        self.soon(heard.set)
        return heard.wait(within_s) and self.alive

    async def _to_its_end(self, main: Coroutine[Any, Any, Any], then: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._begun.set()
        try:
            await main
        except (Exception, *EXITS) as exc:
            self.error = f"{type(exc).__name__}: {exc}"
            log.exception("actor.failed", actor=self._name)
        finally:
            # On the loop: its own end would wait for agents that do not listen to being cancelled.
            if then is not None:
                then()

    @property
    def alive(self) -> bool:
        """Whether it is still running."""
        return self._thread is not None and self._thread.is_alive()
