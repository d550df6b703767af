"""Scaling: a snapshot of the fleet → how many workers each tenant should have. Pure.

Places (workers of the whole fleet) are shared by weight: every tenant with work gets one worker
before any gets a second, then each next place goes to the tenant that has the fewest for its weight.
Places that nobody's work needs stay with who has them, until `idle_s` after it needed as many last:
so a short lull ends no worker, and no work goes to zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """What one tenant has and wants.

    Args:
        backlog: tasks that may run now.
        running: tasks under lease.
        workers: workers it has now.
        lately: the most workers its work needed within the last `idle_s`.
        weight: its share when places are scarce.
    """

    tenant: str
    backlog: int
    running: int
    workers: int
    lately: int = 0
    weight: int = 1


@dataclass(frozen=True, slots=True)
class FleetShape:
    """What the fleet offers: worker places, slots of a worker."""

    places: int
    slots: int


@dataclass(slots=True)
class Lately:
    """The most of something within a window of time, in seconds of any clock."""

    window_s: float
    _last: dict[int, float] = field(default_factory=dict)

    def most(self, count: int, now_s: float) -> int:
        """Take note of the count now; the most there was within the window."""
        self._last[count] = now_s
        self._last = {n: at for n, at in self._last.items() if now_s - at < self.window_s and n >= count}
        return max(self._last, default=count)


def needed(backlog: int, running: int, slots: int) -> int:
    """Workers that this much work fills."""
    return -(-(backlog + running) // slots)


def desired_workers(loads: Sequence[TenantLoad], shape: FleetShape) -> dict[str, int]:
    """Workers each tenant should have; the sum never exceeds the fleet's places."""
    weights = {load.tenant: load.weight for load in loads}
    wants = {load.tenant: needed(load.backlog, load.running, shape.slots) for load in loads}
    given = _share(shape.places, wants, weights, dict.fromkeys(wants, 0))
    keeps = {load.tenant: max(given[load.tenant], min(load.workers, load.lately)) for load in loads}
    return _share(shape.places - sum(given.values()), keeps, weights, given)


def _share(
    places: int, wants: Mapping[str, int], weights: Mapping[str, int], given: Mapping[str, int]
) -> dict[str, int]:
    """Give out places on top of what is given, until none are left or nobody wants more."""
    given = dict(given)
    for _ in range(places):
        hungry = [tenant for tenant in given if given[tenant] < wants[tenant]]
        if not hungry:
            break
        given[min(hungry, key=lambda tenant: (given[tenant] / weights[tenant], tenant))] += 1
    return given
