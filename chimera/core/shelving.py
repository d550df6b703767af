"""Shelving: when accepted tasks of a large mission leave Redis, and when its planning waits for that. Pure.

Tasks leave by blocks, for a file each. As a rule a block leaves once nothing of it is under way, and was not
for one lease. The more stands in Redis, the less it waits: from half of what may stand there not for the
lease, from three quarters not for its last few tasks either; they leave later. So a slow task keeps no others
here, and planning can wait for what stands to leave: whatever stands beyond the bound is able to.
"""

from __future__ import annotations

BLOCK = 500
"""Tasks of a block, by their numbers."""
BEHIND = BLOCK // 10
"""So many of a block may still be under way when it leaves, while much stands in Redis."""
TIMES = 20
"""For each task of the planner's window, so many accepted ones may stand in Redis."""


def most_standing(window: int) -> int:
    """How many accepted tasks of a large mission may stand in Redis before its planning waits.

    What cannot leave lies in blocks of which more than `BEHIND` tasks are under way. All of those are of the
    window, so for each of it less than nine accepted tasks are kept here: planning never waits in vain.

    Args:
        window: unfinished tasks that a mission may have in Redis (`CHIMERA_PLAN_WINDOW`).
    """
    return TIMES * max(window, BLOCK)


def planning_waits(standing: int, window: int) -> bool:
    """Whether so many accepted tasks stand in Redis that no more of their mission is to be planned."""
    return standing > most_standing(window)


def leave_at_once(standing: int, window: int) -> bool:
    """Whether so many stand there that none waits for a lease to pass, nor those that blocks left behind."""
    return standing > most_standing(window) // 2


def may_stay_behind(standing: int, window: int) -> int:
    """How many of a block may be under way when it leaves, with so many accepted tasks in Redis."""
    return BEHIND if standing > most_standing(window) * 3 // 4 else 0
