"""Agents that do nothing of their own: what is measured is what carries them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import cache
from typing import Any

from chimera import settings
from chimera.agents import Context, agent
from chimera.agents.models.client import Models
from chimera.agents.models.endpoint import Ask, Reply
from chimera.agents.models.prices import Tokens
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


class Here:
    """A model within the process: it answers at once, so that what is measured is what a call costs us."""

    name, provider, url = "metered", "", "http://127.0.0.1:9/v1"

    async def ask(self, _: Ask) -> Reply:
        """Say ok."""
        return Reply("ok", Tokens(input=40, output=20), "bench", truncated=False)

    async def close(self) -> None:
        """There is nothing to close."""


@cache
def models() -> Models:
    """This process's, with that one model in it."""
    return Models(settings.load(), lambda *_: Here())


@agent("bench-pay-here")
async def pay_here(task: Task, ctx: Context) -> dict[str, Any]:
    """One paid call that leaves no process."""
    await replace(ctx.model, models=models()).text(f"Say ok to {ctx.task_id}", max_tokens=20)
    return {"n": task.input}
