"""The drill's agents: what a task does stands in its input, so that a seed decides it."""

from __future__ import annotations

import asyncio
from typing import Any

from chimera.agents import Context, agent
from chimera.chaos.calls import PROMPT
from chimera.core.action import HttpAction
from chimera.core.task import Task


@agent("chaos-drill")
async def chaos_drill(task: Task, ctx: Context) -> dict[str, Any]:
    """Takes its time, pays for a call, proposes a webhook and fails at first: each when told to."""
    told: dict[str, Any] = task.input
    await asyncio.sleep(told["seconds"])
    if told["fails"] and ctx.attempt == 1:
        raise RuntimeError("as planned")
    if told["pays"]:
        await ctx.model.text(PROMPT + ctx.task_id, max_tokens=20)
    if told["hook"]:
        ctx.propose(HttpAction(url=f"{told['hook']}/{ctx.task_id}", body={"n": told["n"]}))
    return {"n": told["n"]}


@agent("chaos-sum")
async def chaos_sum(task: Task, ctx: Context) -> dict[str, Any]:
    """Adds up what the tasks it depends on gave."""
    return {"n": sum(one["n"] for one in task.context.inputs.values())}
