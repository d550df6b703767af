"""Agents of the acceptance tests: no language models, and some are bad neighbours."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from pydantic import BaseModel, ConfigDict, Field

from chimera.agents import Context, agent
from chimera.agents.purse import Charge
from chimera.core.task import Task


class Rest(BaseModel):
    """What a mission may set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rest_s: float = Field(0.0, ge=0, le=120, description="How long it rests, seconds.")


@agent("square", options=Rest)
async def square(task: Task, ctx: Context) -> dict[str, int]:
    """Squares a number, after a rest."""
    await asyncio.sleep(Rest.model_validate(dict(ctx.options)).rest_s)
    number = int(task.input)
    return {"number": number, "square": number * number}


@agent("block")
async def block(task: Task, ctx: Context) -> dict[str, object]:
    """Blocks its worker's event loop for `block_s` of its input, which no agent should do."""
    block_s = float(task.input["block_s"])
    if block_s:
        time.sleep(block_s)  # noqa: ASYNC251 (that is the point)
    else:
        await asyncio.sleep(0.1)
    return {"pid": os.getpid()}


@agent("pay")
async def pay(task: Task, ctx: Context) -> str:
    """Reserves 100 µ$ and pays 7."""
    hold = await ctx.model.purse.reserve(amount_microusd=100, model="m", agent="pay", ttl_s=60)
    await ctx.model.purse.settle(hold, cost_microusd=7, charge=Charge("m", 1, 1, 7, "test"))
    return "paid"


@agent("talk")
async def talk(task: Task, ctx: Context) -> str:
    """Says its input by `print` and by the standard logger."""
    print(f"printed {task.input}")  # noqa: T201 (what an agent's author would write)
    logging.getLogger("their.agent").warning("logged %s", task.input)
    return "said"


@agent("broken")
async def broken(task: Task, ctx: Context) -> str:
    """Raises."""
    raise RuntimeError(f"no idea what to do with {task.input}")
