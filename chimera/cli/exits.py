"""Exit codes: the one table of what each means, which error gives which, and how a mission ends."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from chimera import errors

if TYPE_CHECKING:
    from chimera.core.views import MissionView


class Exit(IntEnum):
    """What the shell is told."""

    COMPLETED = 0
    """Done; a mission completed (with `--strict`: and no task of it failed)."""
    FAILED = 1
    """The mission, the agent or a task failed, or was cancelled."""
    USAGE = 2
    """A flag, a file or the environment is wrong, or what is named does not exist; nothing was started."""
    REFUSED = 3
    """Refused: budget, quota, key, or the thing is in another state than the request needs."""
    UNREACHABLE = 4
    """No fleet answers, or it cannot work now."""
    WAITS_FOR_HUMAN = 5
    """All that is left waits for a human; the command to answer is printed."""
    BUG = 70
    """An error Chimera did not foresee."""
    INTERRUPTED = 130
    """Ctrl-C."""


CODES: dict[type[BaseException], Exit] = {
    errors.ConfigurationError: Exit.USAGE,
    errors.NotFound: Exit.USAGE,
    errors.InvalidRequest: Exit.USAGE,
    errors.PayloadTooLarge: Exit.USAGE,
    errors.Conflict: Exit.REFUSED,
    errors.Rejected: Exit.REFUSED,
    errors.Unauthorized: Exit.REFUSED,
    errors.Forbidden: Exit.REFUSED,
    errors.AgentCrashed: Exit.FAILED,
    errors.ModelUnavailable: Exit.FAILED,
    errors.StoreError: Exit.UNREACHABLE,
    errors.BackendError: Exit.UNREACHABLE,
    errors.ChimeraError: Exit.FAILED,
}
"""Errors and their codes; the most specific class decides."""


def of_error(error: BaseException) -> Exit:
    """The code for an error."""
    return next((CODES[kind] for kind in type(error).__mro__ if kind in CODES), Exit.BUG)


def of_mission(mission: MissionView, *, strict: bool = False) -> Exit:
    """The code for a mission as it ended, or as it waits."""
    if mission.status == "WAITING_REVIEW":
        return Exit.WAITS_FOR_HUMAN
    if mission.status == "COMPLETED":
        return Exit.FAILED if strict and mission.failed else Exit.COMPLETED
    return Exit.REFUSED if mission.reason.startswith("budget_exceeded") else Exit.FAILED
