"""Pages of a list in the store, of one status where it is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from chimera.serving.gateway.hub import promptly

SCAN = 200
"""Records read from the store at once."""
SCANS = 10
"""Such reads in one page of a list by status: a page is bounded even when nothing matches."""


class Standing(Protocol):
    """A record with a status."""

    @property
    def status(self) -> str: ...


R = TypeVar("R", bound=Standing)


async def scan(
    read: Callable[[int, int], Awaitable[Sequence[R]]], status: str | None, start: int, limit: int
) -> tuple[list[R], str | None]:
    """One page, and `next` for the part that follows: None at the end.

    With a status a page may hold fewer than `limit`, even none, and still have a `next`.

    Args:
        read: gives the records from an offset on, at most so many.
    """
    at, found = start, []
    size = limit if status is None else SCAN
    for _ in range(1 if status is None else SCANS):
        async with promptly():
            records = await read(at, size)
        for record in records:
            at += 1
            if status is None or record.status == status:
                found.append(record)
            if len(found) == limit:
                return found, str(at)
        if len(records) < size:
            return found, None
    return found, str(at)
