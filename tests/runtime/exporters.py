"""An exporter at work in a test, and a real MCP server that it tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from chimera.core.arguments import event_id
from chimera.runtime import exporter as exporter_module
from chimera.runtime.base import Base
from chimera.runtime.exporter import Exporter
from chimera.store import keys
from chimera.store.exports import backlogs
from chimera.store.sinks import MCP
from tests.redis_fixtures import logged_in
from tests.runtime.sense import Sense
from tests.store import drive, history


class Lead:
    """All that an exporter asks of its elector, and an archivist."""

    replica = "hub"

    def __init__(self, term: int = drive.TERM) -> None:
        self.term: int | None = term


@pytest.fixture
async def sense(tmp_path: Path, base: Base) -> AsyncIterator[Sense]:
    server = Sense(tmp_path)
    yield server
    server.kill()
    await base.redis.delete(keys.EXPORT, keys.REMOVED)


@asynccontextmanager
async def exporting(
    base: Base, sense: Sense, lead: Lead | None = None, **changes: Any
) -> AsyncIterator[Exporter]:
    """An exporter at work, logged in as the orchestrator."""
    changed = {
        "mcp_url": sense.url,
        "mcp_hosts": sense.host,
        "mcp_tool": "record_events",
        "mcp_timeout_s": 5,
        "mcp_batch": 7,
        **changes,
    }
    async with logged_in(base.settings.model_copy(update=changed), "orchestrator") as near:
        service = Exporter(near, lead or Lead())  # type: ignore[arg-type]  # (all it asks of one)
        service.start()
        try:
            yield service
        finally:
            await service.stop()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Exporter, "sweep_s", 0.02)
    monkeypatch.setattr(exporter_module, "PAUSE_S", 0.01)
    monkeypatch.setattr("chimera.runtime.troubles.RETRY_S", 0.2)


async def until(holds: Callable[[], Any]) -> Any:
    while not (found := holds()):  # noqa: ASYNC110 (another process writes it)
        await asyncio.sleep(0.02)
    return found


async def delivered(base: Base, tenant: str) -> None:
    """Until the exporter has come to the end."""
    while (await backlogs(base.redis, [tenant]))[tenant].behind(MCP):  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.02)


async def all_ids(base: Base, tenant: str) -> set[str]:
    return {event_id(tenant, event) for _, event in await history.read(base, tenant)}
