"""A worker process whose calendar is wrong: ``python -m tests.runtime.skewed_worker HOURS TENANT WORKER``.

Every clock that tells the time of day is moved, in this process alone, before anything of Chimera's is
imported; the clock that measures durations is not. Settings are those of the environment.
"""

from __future__ import annotations

import datetime as calendar
import sys
import time
from typing import Any

REAL_TIME, REAL_TIME_NS, REAL_GETTIME = time.time, time.time_ns, time.clock_gettime
REAL_DATETIME = calendar.datetime


def skew(seconds: float) -> None:
    """Move the time of day."""

    class Moved(REAL_DATETIME):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return REAL_DATETIME.now(tz) + calendar.timedelta(seconds=seconds)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(calendar.UTC).replace(tzinfo=None)

    def gettime(which: int) -> float:
        return REAL_GETTIME(which) + (seconds if which == time.CLOCK_REALTIME else 0)

    time.time = lambda: REAL_TIME() + seconds
    time.time_ns = lambda: REAL_TIME_NS() + round(seconds * 1e9)
    time.clock_gettime = gettime
    calendar.datetime = Moved  # type: ignore[misc]  # (another type in its place)


def main(hours: float, tenant: str, worker_id: str) -> None:
    """Run one worker until it is drained."""
    skew(3_600 * hours)
    import asyncio

    import chimera.agents.models.providers  # noqa: F401 (it takes seconds, which no lease should bear)
    from chimera import settings as configuration
    from chimera.agents.context import Context
    from chimera.core.task import Task
    from chimera.runtime.worker import Worker
    from chimera.store.connection import connect, connect_sync
    from tests.runtime.fleet import registry

    async def tells_time(task: Task, ctx: Context) -> dict[str, Any]:
        """What the worker thinks, after more than a lease; a call through the model client on the way."""
        assert ctx.deadline is not None
        if task.input == "never":
            await asyncio.Event().wait()
        if task.input == "errs" and not task.context.feedback and ctx.attempt == 1:
            raise RuntimeError("the first time")
        said = await ctx.model.text("What time is it?", max_tokens=8)
        await asyncio.sleep(1.2 * settings.lease_s)
        left = (ctx.deadline - calendar.datetime.now(calendar.UTC)).total_seconds()
        return {"worker": worker_id, "time": time.time(), "left_s": left, "said": said}

    settings = configuration.load()

    async def run() -> None:
        redis, blocking = connect(settings), connect(settings, blocking=True)
        sync = connect_sync(settings)
        agents = registry(tells_time=tells_time)
        try:
            worker = Worker(settings, tenant, worker_id, agents, redis=redis, blocking=blocking, sync=sync)
            await worker.run()
        finally:
            sync.close()
            await redis.aclose()
            await blocking.aclose()

    asyncio.run(run())


if __name__ == "__main__":
    main(float(sys.argv[1]), sys.argv[2], sys.argv[3])
