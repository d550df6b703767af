"""Where missions and tasks are in the dashboard. Pure."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from chimera.store.tasks import mission_of


def mission_href(tenant: str, mission_id: str, **asked: str) -> str:
    """A mission's page; `asked`: more of its query."""
    return f"/dashboard/missions/{quote(mission_id, safe='')}?{urlencode({'tenant': tenant, **asked})}"


def task_href(tenant: str, task_id: str) -> str:
    """A task's page."""
    path = f"/dashboard/missions/{quote(mission_of(task_id), safe='')}/tasks/{quote(task_id, safe='')}"
    return f"{path}?{urlencode({'tenant': tenant})}"
