"""The catalogue of registered agents: what missions may name. Written by a process that imports them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.scripts import Scripts


class Catalogue:
    """Agents by name, each with a JSON description."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)

    async def publish(self, agents: Mapping[str, Mapping[str, Any]]) -> None:
        """Make exactly these the registered agents."""
        await self._scripts.run(
            "publish_agents",
            [keys.AGENTS],
            *(field for name, about in agents.items() for field in (name, json.dumps(about))),
        )

    async def all(self) -> dict[str, dict[str, Any]]:
        """Registered agents by name."""
        with translated():
            found = await self._redis.hgetall(keys.AGENTS)
            return {name: json.loads(about) for name, about in sorted(found.items())}
