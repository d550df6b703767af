"""I5: no tenant reads or writes another's keys."""

from __future__ import annotations

from chimera.chaos.history import History
from chimera.chaos.probes import REFUSED, THROUGH


def tenants_are_apart(history: History) -> tuple[int, list[str]]:
    """Every attempt of an agent on its neighbour was refused; every key is a tenant's or the fleet's; no part
    of the hub was refused what it asked for.

    Counted are attempts that Redis answered. In a fleet whose parts share one user none is made.
    """
    wrong, checked = [], 0
    for one in history.probes:
        said = f"{one['task']} of {one['tenant']}, by the login of its {one['login']}: {one['what']}"
        if one["outcome"].startswith(THROUGH):
            wrong.append(f"{said} went through")
        if one["outcome"].startswith((THROUGH, REFUSED)):
            checked += 1
    wrong += [f"{key} is no tenant's key, and none of the fleet's" for key in history.strangers]
    wrong += [f"{user} was refused {what}" for user, what in history.denied]
    return checked, wrong
