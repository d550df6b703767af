"""The steps of attempts: which of them kept the event loop longest.

A step is what a coroutine does between two awaits. Asked while it lasts, asyncio knows who runs. But code
that holds the interpreter keeps everybody from asking, and by the time one can, another task has the loop.
"""

from __future__ import annotations

import time
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A step, ended or under way."""

    name: str
    took_s: float


NO_STEP = Step("", 0.0)


class Steps:
    """Times the steps of coroutines on one event loop. May be read from another thread."""

    def __init__(self) -> None:
        self._now: tuple[str, float] | None = None
        self._longest = NO_STEP

    def timed(self, name: str, coroutine: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        """The same coroutine, for a task of its own: each of its steps is timed under `name`."""
        return _Timed(self, name, coroutine)

    def longest(self) -> Step:
        """The longest since this was called last, counting the one under way."""
        ended, self._longest = self._longest, NO_STEP
        now = self._now
        under_way = Step(now[0], time.monotonic() - now[1]) if now else NO_STEP
        return max(ended, under_way, key=lambda step: step.took_s)

    def begin(self, name: str) -> None:
        """A step of `name` begins."""
        self._now = (name, time.monotonic())

    def end(self) -> None:
        """It ends."""
        assert self._now is not None  # nosec B101 (set by begin)
        name, since = self._now
        took_s = time.monotonic() - since
        if took_s > self._longest.took_s:
            self._longest = Step(name, took_s)
        self._now = None


class _Timed(Coroutine[Any, Any, None]):
    """A coroutine whose steps are timed."""

    def __init__(self, steps: Steps, name: str, coroutine: Coroutine[Any, Any, None]) -> None:
        self._steps, self._name, self._coroutine = steps, name, coroutine

    def send(self, value: Any) -> Any:
        self._steps.begin(self._name)
        try:
            return self._coroutine.send(value)
        finally:
            self._steps.end()

    def throw(self, kind: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        self._steps.begin(self._name)
        try:
            return self._coroutine.throw(kind if value is None else value)
        finally:
            self._steps.end()

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()
