"""A crew: the asyncio tasks that an agent starts beside its own, in the loop that it shares with others.

asyncio lets `SystemExit` and `KeyboardInterrupt` pass through a task, up to whoever runs the loop: one
`sys.exit()` in a task that an agent started would end its whole worker. So tasks that are made within an
attempt are watched: who leaves so ends its attempt, as it would in the agent's own task, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Self

import structlog

log = structlog.get_logger(__name__)

EXITS = (SystemExit, KeyboardInterrupt)
"""What asyncio hands on to whoever runs the loop."""

_CREW: ContextVar[Crew | None] = ContextVar("crew", default=None)
"""Whose the tasks are that are made now: a task inherits it from the one that makes it."""


class Crew:
    """One attempt's, around its agent's run: `with Crew(): await …`.

    Raises at its end, in place of what the agent did: what one of its tasks left with.
    """

    def __init__(self) -> None:
        self._exit: BaseException | None = None
        self._told = self._over = False

    def __enter__(self) -> Self:
        self._main = asyncio.current_task()
        self._token: Token[Crew | None] = _CREW.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: Any) -> None:
        self._over = True
        _CREW.reset(self._token)
        if self._exit is None or self._main is None:
            return
        if self._told:
            self._main.uncancel()
        # Who is cancelled from outside too has nothing to report any more.
        if not (isinstance(exc, asyncio.CancelledError) and self._main.cancelling()):
            raise self._exit from None  # the cancellation was only the way to tell

    def left(self, exc: BaseException) -> None:
        """One of its tasks leaves with this: the agent is told to end, by a cancellation."""
        if self._over:
            log.warning("agent.left_late", error=repr(exc))
        elif self._exit is None:
            self._exit = exc
            # Behind this step: the task that leaves must have ended when who awaits it is told.
            asyncio.get_running_loop().call_soon(self._tell)

    def _tell(self) -> None:
        if not self._over and self._main is not None:
            self._told = True
            self._main.cancel()


def watch(loop: asyncio.AbstractEventLoop) -> None:
    """Have the loop watch the tasks that are made within attempts; idempotent."""
    if loop.get_task_factory() is not _made:
        loop.set_task_factory(_made)


def _made(
    loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
) -> asyncio.Task[Any]:  # options: context, and whatever a later Python adds
    context = options.get("context")
    crew = _CREW.get() if context is None else context.get(_CREW)
    return asyncio.Task(coroutine if crew is None else _Watched(crew, coroutine), loop=loop, **options)


class _Watched(Coroutine[Any, Any, Any]):
    """The coroutine of a crew's task. Who leaves is cancelled: those who wait for it hear of that."""

    def __init__(self, crew: Crew, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._crew, self._coroutine = crew, coroutine

    def send(self, value: Any) -> Any:
        try:
            return self._coroutine.send(value)
        except EXITS as exc:
            self._crew.left(exc)
            raise asyncio.CancelledError(repr(exc)) from exc

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        try:
            return self._coroutine.throw(kind if value is None else value)
        except EXITS as exc:
            self._crew.left(exc)
            raise asyncio.CancelledError(repr(exc)) from exc

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        # For who looks at a task: its name, where it stands (`cr_frame`, `cr_await`).
        return getattr(self._coroutine, name)
