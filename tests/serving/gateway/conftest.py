from __future__ import annotations

import asyncio
import socket
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic_core import to_json

from chimera.core.plan import next_window
from chimera.core.verdict import Decision, Verdict
from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from chimera.store.tasks import HandedIn
from tests.keys import key_of
from tests.redis_fixtures import base, logged_in, redis_server, settings, tenant

__all__ = ["base", "redis_server", "settings", "tenant"]

AGENTS: dict[str, dict[str, Any]] = {
    "llm": {"description": "Asks a model.", "source": "chimera.agents.llm"},
    "echo": {
        "description": "Says it again.",
        "options_schema": {
            "type": "object",
            "properties": {"times": {"type": "integer", "minimum": 1}},
            "additionalProperties": False,
        },
    },
}
MISSION: dict[str, Any] = {
    "goal": "Say it again.",
    "agent": "echo",
    "inputs": ["a", "b"],
    "budget_usd": "0.10",
}


"""Claims must differ: the same id again gives the same tasks."""


@dataclass
class Fleet:
    """Stands in for planner, worker, judge: the real scripts, called by hand."""

    base: Base
    tenant: str

    @property
    def stores(self) -> Any:
        return self.base.of(self.tenant)

    async def plan(self, mission_id: str) -> None:
        """Plan it, unless it was small and planned with its submit."""
        mission = await self.stores.missions.get(mission_id)
        if mission.planned_all:
            return
        items = await self.base.blobs.read_inputs(self.tenant, mission_id, 0, 1_000) if mission.inputs else ()
        window = next_window(mission.spec, tuple(items), cursor=0, inputs=mission.inputs, width=20)
        assert await self.stores.missions.plan(mission_id, window, cursor=0, term=1, by="planner")

    async def work(self, most: int = 100, actions: tuple[str, ...] = ()) -> int:
        """Claim tasks and hand in their inputs as results."""
        claims = await self.stores.tasks.claim(
            "w1", uuid.uuid4().hex, lease_s=30, general=most, high=most, slots=16
        )
        await self.stores.tasks.submit(
            "w1",
            [
                HandedIn(one.task_id, one.token, 1, to_json({"said": one.input}).decode(), actions)
                for one in claims
            ],
            max_stale=5,
        )
        return len(claims)

    async def judge(self, decision: Decision, mission_id: str, most: int = 100) -> None:
        reviews = await self.stores.reviews.claim("j1", uuid.uuid4().hex, lease_s=30, most=most)
        confidence = {Decision.ACCEPT: 0.95, Decision.ESCALATE: 0.8, Decision.REJECT: 0.1}[decision]
        verdict = Verdict(decision=decision, confidence=confidence, judge="j1")
        await self.stores.reviews.commit("j1", [(review, verdict) for review in reviews], max_stale=5)
        await self.settle(mission_id)

    async def settle(self, mission_id: str) -> None:
        await self.stores.missions.revive(mission_id, term=1, by="hub")
        await self.stores.missions.settle(mission_id, term=1, by="hub")
        await self.stores.missions.sweep(mission_id, term=1, by="hub")

    async def do(
        self, mission_id: str, decision: Decision = Decision.ACCEPT, actions: tuple[str, ...] = ()
    ) -> None:
        await self.plan(mission_id)
        await self.work(actions=actions)
        await self.judge(decision, mission_id)


async def well() -> Health:
    return Health(ok=True)


@pytest.fixture
async def key(base: Base, tenant: str) -> str:
    await base.catalogue.publish(AGENTS)
    return await key_of(base, tenant)


@pytest.fixture
async def hub(base: Base) -> AsyncIterator[Hub]:
    """Logged in as the gateway."""
    async with logged_in(base.settings, "gateway") as gateway:
        yield Hub(gateway, {"orchestrator": well, "judge": well, "governor": well}, max_tenant_streams=3)


@pytest.fixture
def app(hub: Hub) -> FastAPI:
    return create_app(hub)


@pytest.fixture
async def http(app: FastAPI, key: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as client:
        yield client


@pytest.fixture
def fleet(base: Base, tenant: str) -> Fleet:
    return Fleet(base, tenant)


def tcp_socket() -> socket.socket:
    """asyncio switches Nagle's delay off only where the protocol is named."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


@pytest.fixture
def port() -> Iterator[socket.socket]:
    with tcp_socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener


@asynccontextmanager
async def serve(app: FastAPI, listener: socket.socket) -> AsyncIterator[str]:
    """The app on a real port: streams need one."""
    config = uvicorn.Config(app, log_level="error", ws="none", lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.startup(sockets=[listener])
    loop = asyncio.create_task(server.main_loop())
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await loop
        await server.shutdown(sockets=[listener])


@pytest.fixture
async def url(app: FastAPI, port: socket.socket) -> AsyncIterator[str]:
    async with serve(app, port) as address:
        yield address


async def submitted(http: httpx.AsyncClient, **changes: Any) -> str:
    """A mission's id."""
    response = await http.post("/v1/missions", json={**MISSION, **changes})
    assert response.status_code == 201, response.text
    return str(response.json()["mission_id"])
