"""Where workers live, as those see it who keep them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Backend(Protocol):
    """Where workers live."""

    async def start(self, tenant: str, worker_id: str) -> None:
        """Begin a worker, or a spare when no tenant is named; returns before it beats."""
        ...

    async def equip(self, workers: Mapping[str, str]) -> None:
        """See that each worker has what its tenant's work takes, and a spare ("") what waiting takes.

        Again is harmless; what a worker lacks, or what has changed since, is given to it.
        """
        ...

    async def list(self) -> dict[str, str]:
        """Workers that exist (alive or starting): id → tenant; "" for a spare, whosever it has become."""
        ...

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        """End a worker at once; nothing happens when it is gone.

        `process` is ``id@host`` as its last heartbeat had it, or "": a stopped process hears nothing else.
        """
        ...

    async def leaving(self) -> set[str]:
        """Workers whose node will soon be gone."""
        ...

    async def places(self) -> int:
        """How many workers it has room for, those that run included."""
        ...

    async def spare_places(self) -> int:
        """How many spares it has room for."""
        ...
