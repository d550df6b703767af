"""The load: missions of several tenants, by seed, one after another on each of a few lanes."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from chimera.chaos.journal import Journal
from chimera.client import Client
from chimera.errors import BackendError, NotFound, Rejected, StoreError

AGAIN_S = 0.5
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
BUDGET_USD = "0.05"


def mission(chance: random.Random, tasks: int) -> dict[str, Any]:
    """One mission: a third of its tasks pay for a call, one in ten fails at first."""
    inputs = [
        {
            "n": number,
            "seconds": round(chance.uniform(0.05, 1.2), 3),
            "pays": chance.random() < 0.35,
            "fails": chance.random() < 0.1,
        }
        for number in range(tasks)
    ]
    return {
        "goal": "survive",
        "agent": "chaos-drill",
        "inputs": inputs,
        "judge": [{"policy": "schema", "schema": SCHEMA}],
        "budget_usd": BUDGET_USD,
        "max_attempts": 5,
        "task_timeout_s": 60,
    }


@dataclass
class Lane:
    """One client of one tenant, that submits and waits, until the time is up."""

    client: Client
    tenant: str
    journal: Journal
    chance: random.Random
    tasks: int
    acknowledged: list[str] = field(default_factory=list)
    finished: int = 0

    async def run(self, until: float) -> None:
        """Until this instant (monotonic) submit; each mission is waited for."""
        while time.monotonic() < until:
            made = await self._submit(mission(self.chance, self.tasks))
            await self.settled(made)

    async def _submit(self, spec: dict[str, Any]) -> str:
        key = uuid.uuid4().hex
        while True:
            try:
                made = await self.client.submit(spec, idempotency_key=key)
            except (BackendError, StoreError, Rejected):
                await asyncio.sleep(AGAIN_S)  # the hub is being harmed: that is the drill
                continue
            self.journal.write(tenant=self.tenant, mission_id=made.mission_id, tasks=self.tasks)
            self.acknowledged.append(made.mission_id)
            return made.mission_id

    async def settled(self, mission_id: str) -> None:
        """Wait until a mission is final; a hub that is away is asked again."""
        while True:
            try:
                if (await self.client.mission(mission_id)).final:
                    self.finished += 1
                    return
            except NotFound:
                return  # lost: the checker will say so
            except (BackendError, StoreError, Rejected):
                pass  # asked again below
            await asyncio.sleep(AGAIN_S)
