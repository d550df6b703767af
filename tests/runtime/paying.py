"""A worker of its own process whose agent pays twice, and waits between in its first run to be killed.

python -m tests.runtime.paying TENANT WORKER
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from chimera import settings as configuration
from chimera.agents import Context, agent
from chimera.agents.models import providers
from chimera.agents.registry import Registry
from chimera.chaos.calls import PROMPT
from chimera.core.task import Task
from chimera.runtime.worker import Worker
from chimera.store.connection import connect, connect_sync


@agent("pays-twice")
async def pays_twice(task: Task, ctx: Context) -> list[str]:
    """Two calls after one another."""
    first = await ctx.model.text(f"{PROMPT}{ctx.task_id} first", max_tokens=20)
    if ctx.attempt == 1:
        sys.stdout.write("between\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
    second = await ctx.model.text(f"{PROMPT}{ctx.task_id} second", max_tokens=20)
    return [first, second]


@agent("pays-once")
async def pays_once(task: Task, ctx: Context) -> str:
    """One call."""
    return await ctx.model.text(f"{PROMPT}{ctx.task_id}", max_tokens=20)


async def work(tenant: str, worker_id: str) -> Any:
    """Until drained."""
    assert providers  # imported before the first lease: it takes seconds, and the test is of other things
    settings = configuration.load()
    registry = Registry.load("tests.runtime.paying")
    redis, blocking, sync = connect(settings), connect(settings, blocking=True), connect_sync(settings)
    worker = Worker(settings, tenant, worker_id, registry, redis=redis, blocking=blocking, sync=sync)
    await worker.run()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
