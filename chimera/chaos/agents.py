"""The drill's agents: what a task does stands in its input, so that a seed decides it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from chimera.agents import Context, agent
from chimera.chaos import probes
from chimera.chaos.calls import AGENT, PROMPT
from chimera.core.action import HttpAction
from chimera.core.task import Task


@agent(AGENT)
async def chaos_drill(task: Task, ctx: Context) -> dict[str, Any]:
    """Takes its time, pays for a call, proposes a webhook and fails at first: each when told to."""
    told: dict[str, Any] = task.input
    await asyncio.sleep(told["seconds"])
    if told.get("probe"):
        await _probe(told["probe"], ctx)
    if told["fails"] and ctx.attempt == 1:
        raise RuntimeError("as planned")
    if told["pays"]:
        await ctx.model.text(PROMPT + ctx.task_id, max_tokens=20)
    if told["hook"]:
        ctx.propose(HttpAction(url=f"{told['hook']}/{ctx.task_id}", body={"n": told["n"]}))
    return {"n": told["n"]}


async def _probe(told: dict[str, str], ctx: Context) -> None:
    """Try the neighbour's keys, and tell the witness."""
    neighbour, found = told["neighbour"], list(probes.logins(told["neighbour"]))
    tried = await asyncio.to_thread(probes.probe, ctx.tenant, neighbour, found)
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        said = {"tenant": ctx.tenant, "attempts": tried}
        (await client.post(f"{told['witness']}/{ctx.task_id}", json=said)).raise_for_status()


@agent("chaos-sum")
async def chaos_sum(task: Task, ctx: Context) -> dict[str, Any]:
    """Adds up what the tasks it depends on gave."""
    return {"n": sum(one["n"] for one in task.context.inputs.values())}
