"""Agents that tests of crashes steer by their tasks' inputs. A gate is a file: open once it exists."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from pathlib import Path
from typing import Any

from chimera.agents import Context, agent
from chimera.agents.purse import Charge
from chimera.core.task import Task

COST, WORST = 300, 500
"""Of one call of `pays`, µ$."""


async def passed(gate: str) -> None:
    """Wait until a gate is open. Another process opens it, so there is nothing else to await."""
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240 (another process makes it)
        await asyncio.sleep(0.02)


@agent("echo")
async def echo(task: Task, ctx: Context) -> Any:
    """Gives back its input."""
    return task.input


@agent("gated")
async def gated(task: Task, ctx: Context) -> Any:
    """Gives back its attempt once its gate is open."""
    await passed(task.input)
    return ctx.attempt


@agent("pays")
async def pays(task: Task, ctx: Context) -> Any:
    """Makes one paid call."""
    hold = await ctx.model.purse.reserve(amount_microusd=WORST, model="m", agent="pays", ttl_s=60)
    charge = Charge("m", 1, 1, COST, "test")
    await ctx.model.purse.settle(hold, cost_microusd=COST, charge=charge)
    return task.input


@agent("asks")
async def asks(task: Task, ctx: Context) -> Any:
    """Asks the model."""
    return await ctx.model.text("hello")


@agent("deaf")
async def deaf(task: Task, ctx: Context) -> Any:
    """Does not hear that it is cancelled, until its gate is open."""
    while not Path(task.input).exists():  # noqa: ASYNC240 (a look at one file)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.02)
    return "too late"


@agent("neighbour")
async def neighbour(task: Task, ctx: Context) -> Any:
    """What its input says: block the loop, take all memory, end the process, or only take a moment."""
    match task.input:
        case {"block_s": seconds}:
            time.sleep(seconds)  # noqa: ASYNC251 (it is to block)
        case {"hoard": True}:
            hoard = []
            while True:
                hoard.append(bytearray(1 << 20))
        case {"exit": True}:
            os._exit(7)
        case _:
            await asyncio.sleep(0.2)
    return "done"


@agent("backtracks")
async def backtracks(task: Task, ctx: Context) -> Any:
    """Its first attempt holds the interpreter for so many seconds; the others wait for a gate."""
    if "hold_s" in task.input and ctx.attempt == 1:
        began, length = time.monotonic(), 22
        while time.monotonic() - began < task.input["hold_s"]:
            length += 1
            re.match(r"(a+)+$", "a" * length + "b")
        return "late"
    await passed(task.input["gate"])
    return "done"
