"""The load: missions of several tenants, by seed, one after another on each of a few lanes."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from chimera.chaos.journal import Journal
from chimera.client import Client
from chimera.core.views import MissionView
from chimera.errors import BackendError, Conflict, NotFound, Rejected, StoreError

AGAIN_S = 0.5
REDUCE_WIDTH = 8
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
JUDGE = [{"policy": "schema", "schema": SCHEMA}]
BUDGET_USD = "0.05"
COMMON: dict[str, Any] = {
    "goal": "survive",
    "agent": "chaos-drill",
    "judge": JUDGE,
    "budget_usd": BUDGET_USD,
    "max_attempts": 5,
    "task_timeout_s": 60,
}
AWAY = (BackendError, StoreError, Rejected)
"""The hub is being harmed: that is the drill. Asked again."""

T = TypeVar("T")


class Turn(StrEnum):
    """What an owner does to a mission that is under way."""

    NONE = "none"
    PAUSE = "pause"
    """…and resume it a little later."""
    CANCEL = "cancel"
    EDIT = "edit"
    """Its goal: what is under way is done again."""


TURNS = {Turn.NONE: 75, Turn.PAUSE: 10, Turn.CANCEL: 5, Turn.EDIT: 10}
"""Of a hundred missions."""


URGENT, URGENT_TASKS = 0.2, 6
"""This share of the missions is of high priority, with so many short tasks at most and no paid calls."""


def urgent(chance: random.Random, tasks: int) -> dict[str, Any]:
    """One mission of high priority."""
    inputs = [
        {
            "n": number,
            "seconds": round(chance.uniform(0.05, 0.4), 3),
            "pays": False,
            "fails": False,
            "hook": "",
        }
        for number in range(chance.randint(1, max(1, min(tasks, URGENT_TASKS))))
    ]
    return {**COMMON, "inputs": inputs, "plan": {"strategy": "map"}, "priority": "high"}


def mission(chance: random.Random, tasks: int, endpoint: str) -> dict[str, Any]:
    """One mission; one in five is of high priority, one in four of the others is reduced.

    A third of its tasks pay for a call and a fifth propose a webhook, where there is an endpoint for them;
    one in ten fails at first.
    """
    if chance.random() < URGENT:
        return urgent(chance, tasks)
    inputs = [
        {
            "n": number,
            "seconds": round(chance.uniform(0.05, 1.2), 3),
            "pays": chance.random() < 0.35 and bool(endpoint),
            "fails": chance.random() < 0.1,
            "hook": f"{endpoint}/hook" if chance.random() < 0.2 and endpoint else "",
        }
        for number in range(tasks)
    ]
    reduce = {"agent": "chaos-sum", "judge": JUDGE}
    reduced = {"strategy": "map_reduce", "width": REDUCE_WIDTH, "reduce": reduce}
    return {
        **COMMON,
        "inputs": inputs,
        "plan": reduced if chance.random() < 0.25 else {"strategy": "map"},
    }


PROBES = 0.3
"""In this share of the missions one task means harm: it tries the keys of a neighbour."""


def harmful(chance: random.Random, spec: dict[str, Any], neighbours: Sequence[str], endpoint: str) -> None:
    """Let one task of a mission mean harm, now and then; none where there is no neighbour, or no witness."""
    if neighbours and endpoint and chance.random() < PROBES:
        told = {"neighbour": chance.choice(neighbours), "witness": f"{endpoint}/probe"}
        chance.choice(spec["inputs"])["probe"] = told


@dataclass
class Lane:
    """One client of one tenant, that submits, takes its turn and waits, until the time is up."""

    client: Client
    tenant: str
    journal: Journal
    chance: random.Random
    tasks: int
    endpoint: str = ""
    neighbours: tuple[str, ...] = ()
    acknowledged: list[str] = field(default_factory=list)
    finished: int = 0

    async def run(self, until: float) -> None:
        """Until this instant (monotonic) submit; each mission is waited for."""
        while time.monotonic() < until:
            spec = mission(self.chance, self.tasks, self.endpoint)
            harmful(self.chance, spec, self.neighbours, self.endpoint)
            (turn,) = self.chance.choices(tuple(TURNS), tuple(TURNS.values()))
            wait_s = self.chance.uniform(0.1, 2.0)
            made = await self._submit(spec)
            if turn is not Turn.NONE:
                await asyncio.sleep(wait_s)
                await self._take(turn, made)
            await self.settled(made)

    async def _submit(self, spec: dict[str, Any]) -> str:
        key = uuid.uuid4().hex
        made = await surely(lambda: self.client.submit(spec, idempotency_key=key))
        self.journal.write(tenant=self.tenant, mission_id=made.mission_id, tasks=made.total_tasks)
        self.acknowledged.append(made.mission_id)
        return made.mission_id

    async def _take(self, turn: Turn, mission_id: str) -> None:
        """Take it, however often it must be said; a mission that is over by then is left as it is."""
        try:
            if turn is Turn.CANCEL:
                await surely(lambda: self.client.cancel(mission_id, "the drill"))
            elif turn is Turn.EDIT:
                await surely(lambda: self.client.edit(mission_id, goal="survive, edited"))
            elif turn is Turn.PAUSE:
                await surely(lambda: self.client.pause(mission_id, "the drill"))
                await asyncio.sleep(self.chance.uniform(0.2, 2.0))
                await surely(lambda: self.client.resume(mission_id))
        except Conflict:
            return
        except NotFound:
            return  # lost: the checker will say so

    async def settled(self, mission_id: str) -> None:
        """Wait until a mission is final; a hub that is away is asked again."""
        while True:
            try:
                found: MissionView = await surely(lambda: self.client.mission(mission_id))
            except NotFound:
                return  # lost: the checker will say so
            if found.final:
                self.finished += 1
                return
            await asyncio.sleep(AGAIN_S)


async def surely(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask until there is an answer: a hub that is away is asked again."""
    while True:
        try:
            return await ask()
        except AWAY:
            await asyncio.sleep(AGAIN_S)
