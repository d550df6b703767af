"""Tool calls of one attempt, as its agent tells them: collected, and handed in with the attempt's end.

An agent's tools are its own affair; that it called one is worth knowing. What is told here is the agent's
word, and decides nothing.
"""

from __future__ import annotations

import json
import threading
import time
from types import TracebackType
from typing import Any

from chimera.telemetry.payloads import Payloads
from chimera.telemetry.redaction import redact

MOST_CALLS = 100
"""Of one attempt, one by one; of more only how many."""
MOST_NAME = 200
MOST_ERROR = 500
OTHERS = "(others)"


class ToolCall:
    """One call of a tool, from entering the block to its end; ``async with`` or ``with``.

    ::

        async with ctx.tool("search", {"query": query}) as call:
            call.result = await search(query)
    """

    def __init__(self, calls: ToolCalls, name: str, arguments: Any) -> None:
        self._calls, self._name, self._arguments = calls, name, arguments
        self._began = time.perf_counter()
        self.result: Any = None
        """What came of it: any value that JSON can say, else its `str`."""

    def __enter__(self) -> ToolCall:
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ms = round((time.perf_counter() - self._began) * 1000)
        self._calls.add(self._name, self._arguments, self.result, error, ms)

    async def __aenter__(self) -> ToolCall:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


class ToolCalls:
    """An attempt's. Any thread may add to them.

    Args:
        payloads: tells of arguments and results.
    """

    def __init__(self, payloads: Payloads | None = None) -> None:
        self._payloads = payloads or Payloads()
        self._lock = threading.Lock()
        self._told: list[dict[str, Any]] = []
        self._more = 0

    def add(self, name: str, arguments: Any, result: Any, error: BaseException | None, ms: int) -> None:
        """Take one down."""
        with self._lock:
            if len(self._told) >= MOST_CALLS - 1:
                self._more += 1
                return
            told: dict[str, Any] = {"name": str(name)[:MOST_NAME], "ms": ms}
            told["arguments"] = self._payloads.of(_json(arguments))
            if error is None:
                told["result"] = self._payloads.of(_json(result))
            else:
                told["error"] = redact(f"{type(error).__name__}: {error}")[:MOST_ERROR]
            self._told.append(told)

    def told(self) -> list[dict[str, Any]]:
        """What there is, for the recorder; at most `MOST_CALLS`, the last of them for all that are more."""
        with self._lock:
            return [*self._told, *([{"name": OTHERS, "calls": self._more}] if self._more else [])]


def _json(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)
