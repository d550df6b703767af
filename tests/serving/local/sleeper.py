"""An agent that waits for as many seconds as its input says, as a call of a model would let it."""

from __future__ import annotations

import asyncio

from chimera.agents import Context, agent
from chimera.core.task import Task


@agent("sleeper")
async def sleeper(task: Task, ctx: Context) -> float:
    """Waits."""
    await asyncio.sleep(task.input)
    return float(task.input)
