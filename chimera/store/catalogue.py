"""The catalogue of registered agents: what missions may name. Written by a process that imports them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts

READ_AGAIN_S = 1.0
"""What `recent` gives is at most this old, seconds."""


class Catalogue:
    """Agents by name, each with a JSON description."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self._reading = asyncio.Lock()
        self._read_at = float("-inf")
        self._raw: dict[str, str] = {}
        self._agents: dict[str, dict[str, Any]] = {}

    async def publish(self, agents: Mapping[str, Mapping[str, Any]]) -> None:
        """Make exactly these the registered agents."""
        await self._scripts.run(
            "publish_agents",
            [keys.AGENTS],
            *(field for name, about in agents.items() for field in (name, json.dumps(about))),
        )

    async def all(self) -> dict[str, dict[str, Any]]:
        """Registered agents by name. The same object as before while nothing has changed."""
        async with self._reading:
            await self._read()
            return self._agents

    async def recent(self) -> dict[str, dict[str, Any]]:
        """The same, at most `READ_AGAIN_S` old: however many ask, Redis is asked once in that time."""
        async with self._reading:
            if time.monotonic() - self._read_at >= READ_AGAIN_S:
                await self._read()
            return self._agents

    async def _read(self) -> None:
        asked_at = time.monotonic()
        with translated():
            raw = await self._redis.hgetall(keys.AGENTS)
            if raw != self._raw:
                self._agents = {name: json.loads(about) for name, about in sorted(raw.items())}
                self._raw = raw
        self._read_at = asked_at
