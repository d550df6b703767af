"""Scaling: a snapshot of the fleet → how many workers each tenant should have. Pure.

Places (worker slots of the whole fleet) are shared by weight: every tenant with work gets one
worker before any gets a second, then each next place goes to the tenant that has the fewest for
its weight. A tenant keeps what it needs for `idle_s` after its last work, then goes to zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """What one tenant has and wants.

    Args:
        backlog: tasks that may run now.
        running: tasks under lease.
        idle_for_s: seconds since it last had either; 0 while it has.
        workers: workers it has now.
        weight: its share when places are scarce.
    """

    tenant: str
    backlog: int
    running: int
    idle_for_s: float
    workers: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class FleetShape:
    """What the fleet offers: worker places, slots of a worker, idle time until zero."""

    places: int
    slots: int
    idle_s: float


def wanted(load: TenantLoad, shape: FleetShape) -> int:
    """Workers the tenant could use now, alone on the fleet."""
    work = load.backlog + load.running
    if work:
        return min(shape.places, -(-work // shape.slots))
    return min(load.workers, shape.places) if load.idle_for_s < shape.idle_s else 0


def desired_workers(loads: Sequence[TenantLoad], shape: FleetShape) -> dict[str, int]:
    """Workers each tenant should have; the sum never exceeds the fleet's places."""
    wants = {load.tenant: wanted(load, shape) for load in loads}
    weights = {load.tenant: load.weight for load in loads}
    given = dict.fromkeys(wants, 0)
    for _ in range(min(shape.places, sum(wants.values()))):
        hungry = [tenant for tenant in given if given[tenant] < wants[tenant]]
        neediest = min(hungry, key=lambda tenant: (given[tenant] / weights[tenant], tenant))
        given[neediest] += 1
    return given
