"""A gateway for chat completions: served on loopback, a real governor and a scripted model behind it."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from openai import AsyncOpenAI

from chimera.core.event import Event
from chimera.core.lease import Claim
from chimera.runtime.base import Base, TenantStores, base_of
from chimera.runtime.chats import Chats
from chimera.serving.gateway import Hub, create_app
from chimera.settings import Settings
from chimera.store.users import as_role
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.keys import key_of
from tests.runtime.fleet import governing
from tests.serving.gateway.conftest import serve, tcp_socket
from tests.store import drive

MODEL = "scripted"
INPUT, OUTPUT = 1, 10
"""µ$ a token, at the scripted model."""
ASKED: Any = [{"role": "user", "content": "hi"}]

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
    },
}


@dataclass
class Site:
    """Handles on it."""

    base: Base
    tenant: str
    url: str
    app: FastAPI
    endpoint: MeteredEndpoint
    key: str
    model: str
    _clients: list[AsyncOpenAI] = field(default_factory=list)

    @property
    def stores(self) -> TenantStores:
        return self.base.of(self.tenant)

    @property
    def chats(self) -> Chats:
        chats: Chats = self.app.state.chats
        return chats

    def client(self, *, retries: int = 0, key: str = "", **headers: str) -> AsyncOpenAI:
        """OpenAI's own; `task=` and so on become X-Chimera-Task and so on."""
        named = {f"X-Chimera-{name.title()}": value for name, value in headers.items()}
        made = AsyncOpenAI(
            base_url=f"{self.url}/v1", api_key=key or self.key, max_retries=retries, default_headers=named
        )
        self._clients.append(made)
        return made

    async def claim(self, mission_id: str = "m1", lease_s: float = 60, **fields: Any) -> Claim:
        """A task of a mission of its own, under a lease."""
        await drive.begin(self.base, self.tenant, drive.spec(inputs=["x"], **fields), mission_id)
        (one,) = await drive.claim(self.stores, lease_s=lease_s)
        return one

    async def paying(self, **options: Any) -> AsyncOpenAI:
        """A client whose calls a task of its own pays for."""
        claim = await self.claim(f"m{uuid.uuid4().hex[:8]}")
        return self.client(task=claim.task_id, **options)

    async def events(self, *kinds: str) -> list[Event]:
        """Of the recorder."""
        return [event async for _, event in self.stores.recorder.read() if event.kind in kinds]

    async def charges(self) -> list[dict[str, Any]]:
        """What was settled, in order, once nothing is held any more."""
        await self.quiet()
        return [json.loads(event.details["charge"]) for event in await self.events("spend.settled")]

    async def quiet(self) -> None:
        """Wait until no call is under way, and no money held."""

        async def holds() -> bool:
            return not self.chats.under_way and (await self.stores.ledger.balance()).held == 0

        await until(holds)

    async def settled(self) -> int:
        """µ$ that the tenant has spent, once nothing is held."""
        await self.quiet()
        return (await self.stores.ledger.balance()).settled.get("lifetime", 0)


async def until(holds: Callable[[], Awaitable[Any]], timeout_s: float = 20) -> None:
    """Look again and again: nothing tells of what is looked for."""
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.02)


@asynccontextmanager
async def chatting(
    base: Base, tenant: str, script: Sequence[Turn] = (Turn(),), *, governed: bool = True, **changes: Any
) -> AsyncIterator[Site]:
    """The gateway of one tenant's fleet, until the block ends. `changes` are settings."""
    async with AsyncExitStack() as stack:
        endpoint = await stack.enter_async_context(MeteredEndpoint(script))
        prices = {"model_price_input_usd": float(INPUT), "model_price_output_usd": float(OUTPUT)}
        chosen = {"model": MODEL, "model_url": endpoint.url, "model_max_tokens": 20, **prices, **changes}
        settings: Settings = base.settings.model_copy(update=chosen)
        own = base_of(settings)
        stack.push_async_callback(own.close)
        if governed:
            await stack.enter_async_context(governing(own, tenant))
        gateway = base_of(as_role(settings, "gateway"))
        stack.push_async_callback(gateway.close)
        app = create_app(Hub(gateway))
        stack.push_async_callback(app.state.chats.close)
        listener = stack.enter_context(tcp_socket())
        listener.bind(("127.0.0.1", 0))
        url = await stack.enter_async_context(serve(app, listener))
        key = await key_of(own, tenant)
        site = Site(own, tenant, url, app, endpoint, key, str(chosen["model"]))
        try:
            yield site
        finally:
            for client in site._clients:
                await client.close()
