"""Turns: no tenant comes always first, and none has all of what the tenants share in one process."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from chimera.core.fairness import room


class Turns:
    """Whose turn it is: each round begins behind the tenant that the last one began with."""

    def __init__(self) -> None:
        self._first = ""

    def of(self, tenants: Iterable[str]) -> list[str]:
        """These tenants, in the order of this round."""
        names = sorted(tenants)
        at = bisect_right(names, self._first) % len(names) if names else 0
        order = names[at:] + names[:at]
        self._first = order[0] if order else self._first
        return order


class Gate:
    """A few places, given to tenants in turn; no tenant has more of them than it leaves free.

    Args:
        places: how many there are.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        """Tenants whose turn comes first stand first."""

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place of the tenant's; waits for one."""
        if tenant in self._waiting or not self._room(tenant):
            turn = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(tenant, deque()).append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave(tenant)  # it was given the place in the same moment
                raise
        else:
            self._held[tenant] += 1
        try:
            yield
        finally:
            self._leave(tenant)

    def _room(self, tenant: str) -> int:
        return room(self._places, self._held.total(), self._held[tenant], ahead=1)

    def _leave(self, tenant: str) -> None:
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]
        for other in list(self._waiting):
            self._admit(other)

    def _admit(self, tenant: str) -> None:
        """Let one of the tenant's in, if there is room; then the tenant stands behind the others."""
        turns = self._waiting[tenant]
        while turns and turns[0].cancelled():
            turns.popleft()
        if turns and not self._room(tenant):
            return  # it keeps its place in the order
        del self._waiting[tenant]
        if turns:
            self._held[tenant] += 1
            turns.popleft().set_result(None)
        if turns:
            self._waiting[tenant] = turns
