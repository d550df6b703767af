"""A mission as lines: itself, then an input a line, made as they are sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping
from typing import Any

from chimera.errors import InvalidRequest

Inputs = Iterable[Any] | AsyncIterable[Any]
CHUNK = 1 << 16
"""Bytes that are sent at once."""


def body(
    mission: Mapping[str, Any], inputs: Inputs, sent: Callable[[int], None] | None
) -> Callable[[], AsyncIterator[bytes]]:
    """What makes the body of a request, from its beginning.

    Args:
        sent: told how many inputs are on their way, now and then, and at the end.
    """

    async def lines() -> AsyncIterator[bytes]:
        chunk, count = bytearray(line(mission, "the mission")), 0
        async for item in each(inputs):
            chunk += line(item, f"inputs[{count}]")
            count += 1
            if len(chunk) >= CHUNK:
                yield bytes(chunk)
                chunk.clear()
                if sent is not None:
                    sent(count)
        if chunk:
            yield bytes(chunk)
        if sent is not None:
            sent(count)

    return lines


async def each(inputs: Inputs) -> AsyncIterator[Any]:
    """The inputs, whatever they come from."""
    if isinstance(inputs, AsyncIterable):
        async for item in inputs:
            yield item
    else:
        for item in inputs:
            yield item


def again(inputs: Inputs) -> bool:
    """Whether the inputs can be gone through more than once: a list can, a generator cannot."""
    return (aiter(inputs) if isinstance(inputs, AsyncIterable) else iter(inputs)) is not inputs


def line(value: Any, where: str) -> bytes:
    """A value as a line of JSON.

    Raises:
        InvalidRequest: it is no JSON value, naming the place.
    """
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode() + b"\n"
    except (TypeError, ValueError) as exc:
        raise InvalidRequest(f"{where} is no JSON value ({exc}); nothing was submitted") from exc
