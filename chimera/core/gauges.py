"""What stands of a tenant now. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Gauges:
    """One tenant at one instant.

    Attributes:
        ready_high, ready_medium, ready_low: READY tasks by priority, also those that wait for a
            time or a pause.
        leases: tasks under a worker's lease.
        workers: that beat.
        slots_busy, slots_free: of those workers.
        reviews: results that wait for a judge, or are with one.
        inbox: tasks that wait for a human.
        actions: accepted actions that are not carried out.
        missions_active: missions that are not over.
        missions_finished: missions that are over and still in Redis.
        settled_microusd: spent since the tenant's first call, µ$.
        held_microusd: held for calls under way, µ$.
    """

    ready_high: int = 0
    ready_medium: int = 0
    ready_low: int = 0
    leases: int = 0
    workers: int = 0
    slots_busy: int = 0
    slots_free: int = 0
    reviews: int = 0
    inbox: int = 0
    actions: int = 0
    missions_active: int = 0
    missions_finished: int = 0
    settled_microusd: int = 0
    held_microusd: int = 0

    @property
    def ready(self) -> int:
        """READY tasks of every priority."""
        return self.ready_high + self.ready_medium + self.ready_low

    def __add__(self, other: Gauges) -> Gauges:
        """Both together, as of two tenants."""
        return Gauges(*(getattr(self, name) + getattr(other, name) for name in NAMES))


NAMES: tuple[str, ...] = tuple(one.name for one in fields(Gauges))
"""Of a `Gauges`, in its order."""
