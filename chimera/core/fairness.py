"""Fairness: how many of a few shared places one party may take. Pure.

Who takes all that is free makes everybody who comes after wait for it to finish. So nobody holds more than a
few times what it leaves free: alone it has most of the places, and whoever comes next begins at once.
"""

from __future__ import annotations


def room(places: int, held: int, mine: int, *, ahead: int = 3) -> int:
    """How many more places one may take.

    Args:
        places: how many there are.
        held: how many are taken, by all.
        mine: how many of these by the one who asks.
        ahead: it may hold so many times what stays free: alone ``ahead / (ahead + 1)`` of all. Who holds none
            may always take one that is free.
    """
    free = places - held
    share = (ahead * free - mine) // (ahead + 1)
    return max(share, int(mine == 0 and free > 0), 0)
