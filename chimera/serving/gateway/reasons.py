"""Why tasks wait: what is asked for one task, and for each on a page of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from chimera.core.views import WhyView
from chimera.core.waiting import why
from chimera.errors import NotFound
from chimera.runtime.base import Base
from chimera.serving.gateway.render import over, why_view
from chimera.store.damage import apart
from chimera.store.readings import Reading


async def reasons(base: Base, tenant: str, reading: Reading) -> Callable[[str], Awaitable[WhyView]]:
    """What says of a mission's tasks what holds them. What is the same of all of them is read once, here."""
    stores = base.of(tenant)
    record = await base.tenants.record(tenant)
    # Whose quota cannot be read counts: its workers stay as they are.
    found, damaged = await apart(await base.tenants.names(), base.tenants.records)
    tenants = [*damaged, *(name for name, one in found.items() if not one.quota.spoke)]

    async def reason(task_id: str) -> WhyView:
        try:
            if reading.mission.archived:
                raise NotFound(f"there is no task {task_id!r} in Redis")
            at = await stores.waiting.standing(
                task_id,
                quota=record.quota,
                places=base.settings.max_workers,
                window=base.settings.plan_window,
                tenants=tenants,
                suspended=record.reason if record.suspended else None,
            )
        except NotFound:  # it left Redis with its mission, or for the shelf: then it is over
            task, _ = await reading.task(task_id)
            at = over(task, reading.mission)
        return why_view(task_id, at.status, why(at))

    return reason
