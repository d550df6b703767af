"""Agents that do nothing of their own: what is measured is what carries them."""

from __future__ import annotations

import asyncio
from typing import Any

from chimera.agents import Context, agent
from chimera.core.task import Task


@agent("bench-noop")
async def noop(task: Task, _: Context) -> dict[str, Any]:
    """Nothing at all."""
    return {"n": task.input}


@agent("bench-wait")
async def wait(task: Task, _: Context) -> dict[str, Any]:
    """Waits for as many seconds as its input says."""
    await asyncio.sleep(task.input)
    return {"n": task.input}


@agent("bench-pay")
async def pay(task: Task, ctx: Context) -> dict[str, Any]:
    """One paid call, as slow as the endpoint is."""
    await ctx.model.text(f"Say ok to {ctx.task_id}", max_tokens=20)
    return {"n": task.input}
