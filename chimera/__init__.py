"""Chimera: fleets of AI agents for many tenants, kept alive, judged and within budget.

    from chimera import Client             # submit missions, watch them, read results
    from chimera import Context, agent     # write an agent

Names are loaded when they are first used, so that `import chimera` costs next to nothing and never
imports Ray.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chimera.version import __version__

if TYPE_CHECKING:
    from chimera.agents import Context, agent
    from chimera.client import Client
    from chimera.core.action import HttpAction
    from chimera.core.mission import MissionFile, MissionSpec, MissionStatus
    from chimera.core.task import Priority, Task, TaskStatus
    from chimera.core.verdict import Decision, Verdict
    from chimera.core.views import MissionView, ResultView, ReviewView, TaskView
    from chimera.errors import (
        BackendError,
        BudgetExceeded,
        ChimeraError,
        ConfigurationError,
        Conflict,
        FleetUnavailable,
        Forbidden,
        InvalidRequest,
        NotFound,
        PayloadTooLarge,
        QueueFull,
        RateLimited,
        Rejected,
        StoreError,
        Unauthorized,
    )

__all__ = [  # noqa: RUF022  (grouped by concept)
    "__version__",
    # Asking for work
    "Client",
    "MissionFile",
    "MissionSpec",
    # Writing agents
    "Context",
    "HttpAction",
    "Task",
    "agent",
    # What comes back
    "Decision",
    "MissionStatus",
    "MissionView",
    "Priority",
    "ResultView",
    "ReviewView",
    "TaskStatus",
    "TaskView",
    "Verdict",
    # What can go wrong
    "BackendError",
    "BudgetExceeded",
    "ChimeraError",
    "ConfigurationError",
    "Conflict",
    "FleetUnavailable",
    "Forbidden",
    "InvalidRequest",
    "NotFound",
    "PayloadTooLarge",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "StoreError",
    "Unauthorized",
]

_HOMES = {
    "Client": "chimera.client",
    "Context": "chimera.agents",
    "agent": "chimera.agents",
    "HttpAction": "chimera.core.action",
    "MissionFile": "chimera.core.mission",
    "MissionSpec": "chimera.core.mission",
    "MissionStatus": "chimera.core.mission",
    "Priority": "chimera.core.task",
    "Task": "chimera.core.task",
    "TaskStatus": "chimera.core.task",
    "Decision": "chimera.core.verdict",
    "Verdict": "chimera.core.verdict",
    "MissionView": "chimera.core.views",
    "ResultView": "chimera.core.views",
    "ReviewView": "chimera.core.views",
    "TaskView": "chimera.core.views",
}
"""Where a public name lives; those not listed here are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'chimera' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES.get(name, "chimera.errors")), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
