"""What a local fleet's workers held when the fleet was ended, or its head died, goes back to work uncounted.

Ended so, a worker tells nothing about its tasks. Without this they would count as crashes, and work that
outlasts a few restarts would be taken for poison.
"""

from __future__ import annotations

from chimera.errors import StoreError
from chimera.serving.titles import is_worker, process_here
from chimera.settings import Settings
from chimera.store.connection import connect
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore


async def give_back(settings: Settings, by: str) -> int:
    """Give back what dead workers of this host held. Returns how many tasks; their leases do it otherwise.

    Args:
        settings: with the fleet's Redis.
        by: who says so, for the record.
    """
    redis = connect(settings)
    given = 0
    try:
        for tenant in await TenantStore(redis).names():
            tasks = TaskStore(redis, tenant)
            for worker, said in (await tasks.workers()).items():
                pid = process_here(said.get("process", ""))
                if pid is not None and not is_worker(pid, worker):
                    given += await tasks.release(worker, by, died=False)
    except StoreError:
        return given  # it is away: the leases run out by themselves
    finally:
        await redis.aclose()
    return given
