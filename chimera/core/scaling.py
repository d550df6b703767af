"""Scaling: a snapshot of the fleet → how many workers each tenant should have. Pure.

Places (workers of the whole fleet) are shared by weight. While there are enough of them every tenant with
work gets one before any gets a second, then each next one goes to the tenant that has the fewest for its
weight. When tenants with work outnumber the places they take turns: each has the whole places of its share
for good, and what is left of them goes round, to whoever had the least for its weight. A turn lasts `turn_s`,
unless high-priority work waits elsewhere; that goes first, but only until its tenant is `AHEAD` turns ahead
of its share, so that it takes no other's.

Places that nobody's work needs stay with who has them, until `idle_s` after it needed as many last:
so a short lull ends no worker, and no work goes to zero. Where others want them a place stays for `LULL_S`:
between two tasks of a stream of short ones nothing is to be seen, and the next one would wait for a start.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

AHEAD = 2
"""How many turns of one place high-priority work may take ahead of its tenant's share."""
DEBT = 2 * AHEAD
"""How many turns of one place a tenant may be ahead of the others at all."""
LULL_S = 2.0
"""As long as a worker's start takes: to give its place away for less gains nobody anything."""
UNBOUNDED = 1_000_000
"""Workers of a tenant without a quota."""


@dataclass(frozen=True, slots=True)
class TenantLoad:
    """What one tenant has and wants.

    Args:
        backlog: tasks that may run now.
        running: tasks under lease.
        workers: workers it has now, without those that leave.
        lately: the most workers its work needed within the last `idle_s`.
        weight: its share when places are scarce.
        most: the most workers its quota lets it have.
        high: of the backlog, what is of high priority.
        had: seconds of places it has had for its weight, on a scale that all tenants with work share.
        held_s: since it last came to have more workers.
        waits_s: for how long its work has waited without any worker; 0 when it has some, or no work.
        just: as `lately`, within the last `LULL_S`.
    """

    tenant: str
    backlog: int
    running: int
    workers: int
    lately: int = 0
    weight: int = 1
    most: int = UNBOUNDED
    high: int = 0
    had: float = 0.0
    held_s: float = 0.0
    waits_s: float = 0.0
    just: int = 0

    def wants(self, slots: int) -> int:
        """Workers its work fills, or did a moment ago, within its quota."""
        now = needed(self.backlog, self.running, slots)
        return min(self.most, max(now, min(self.workers, self.just)))

    @property
    def works(self) -> bool:
        """Whether there is anything to do now."""
        return self.backlog + self.running > 0


@dataclass(frozen=True, slots=True)
class FleetShape:
    """What the fleet offers: worker places, slots of a worker, how long a turn lasts."""

    places: int
    slots: int
    turn_s: float = 15.0


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


@dataclass(slots=True)
class Turns:
    """Who has had how much of the places, and who waits, in seconds of any clock.

    A tenant that comes to have work begins level with the one that has had the least: the places it did not
    need are not owed to it. Nor does anybody owe more than a few turns: what it had while there was enough
    for all is soon forgotten.
    """

    turn_s: float
    _at: float | None = None
    _had: dict[str, float] = field(default_factory=dict)
    _workers: dict[str, int] = field(default_factory=dict)
    _got: dict[str, float] = field(default_factory=dict)
    _waits: dict[str, float] = field(default_factory=dict)

    def note(self, loads: Sequence[TenantLoad], now_s: float) -> list[TenantLoad]:
        """The loads now, with what each tenant has had until now."""
        gone_s = now_s - (now_s if self._at is None else self._at)
        self._at = now_s
        for tenant in self._had.keys() - {load.tenant for load in loads}:
            for kept in (self._had, self._workers, self._got, self._waits):
                kept.pop(tenant, None)
        # Places held with nothing to do count as well: they were kept from others.
        for load in loads:
            if (had := self._had.get(load.tenant)) is not None:
                self._had[load.tenant] = had + gone_s * self._workers.get(load.tenant, 0) / load.weight
        least = min((self._had[one.tenant] for one in loads if self._works(one)), default=0.0)
        for load in loads:
            most = least + DEBT * self.turn_s / load.weight
            self._had[load.tenant] = min(most, max(least, self._had.get(load.tenant, least)))
            if load.workers > self._workers.get(load.tenant, 0):
                self._got[load.tenant] = now_s
            if not load.works or load.workers:
                self._waits.pop(load.tenant, None)
            else:
                self._waits.setdefault(load.tenant, now_s)
            self._workers[load.tenant] = load.workers
        return [
            replace(
                load,
                had=self._had[load.tenant],
                held_s=now_s - self._got.get(load.tenant, now_s),
                waits_s=now_s - self._waits.get(load.tenant, now_s),
            )
            for load in loads
        ]

    def _works(self, load: TenantLoad) -> bool:
        """Whether it had work or workers the last time, so that its count goes on."""
        had_workers, waited = self._workers.get(load.tenant, 0) > 0, load.tenant in self._waits
        return load.tenant in self._had and (had_workers or waited)


def needed(backlog: int, running: int, slots: int) -> int:
    """Workers that this much work fills."""
    return -(-(backlog + running) // slots)


def desired_workers(loads: Sequence[TenantLoad], shape: FleetShape) -> dict[str, int]:
    """Workers each tenant should have; the sum never exceeds the fleet's places."""
    weights = {load.tenant: load.weight for load in loads}
    wants = {load.tenant: load.wants(shape.slots) for load in loads}
    nothing = dict.fromkeys(wants, 0)
    active = [load for load in loads if wants[load.tenant]]
    if len(active) > shape.places:
        return nothing | _take_turns(active, wants, shape)
    given = _share(shape.places, wants, weights, nothing)
    keeps = {
        load.tenant: max(given[load.tenant], min(load.workers, load.lately, load.most)) for load in loads
    }
    return _share(shape.places - sum(given.values()), keeps, weights, given)


def urgent(loads: Iterable[TenantLoad], turn_s: float) -> set[str]:
    """Tenants whose high-priority work goes first: those not yet far ahead of the others' share."""
    loads = list(loads)
    least = min((load.had for load in loads), default=0.0)
    return {load.tenant for load in loads if load.high and (load.had - least) * load.weight <= AHEAD * turn_s}


def _take_turns(active: Sequence[TenantLoad], wants: Mapping[str, int], shape: FleetShape) -> dict[str, int]:
    """Fewer places than tenants with work: the whole places of each share, and turns for the rest."""
    total = sum(load.weight for load in active)
    given = {load.tenant: min(wants[load.tenant], shape.places * load.weight // total) for load in active}
    first = urgent(active, shape.turn_s)

    def order(load: TenantLoad) -> tuple[bool, bool, float, str]:
        in_turn = load.workers > given[load.tenant] and load.held_s < shape.turn_s
        return load.tenant not in first, not in_turn, load.had, load.tenant

    left = shape.places - sum(given.values())
    hungry = [
        load
        for load in active
        if given[load.tenant] < wants[load.tenant] and shape.places * load.weight % total
    ]
    for load in sorted(hungry, key=order)[:left]:
        given[load.tenant] += 1
    return given


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
