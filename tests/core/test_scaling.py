"""Scaling: never more than there are places, nobody starved, idle goes to zero."""

from __future__ import annotations

from hypothesis import given, strategies

from chimera.core.scaling import FleetShape, TenantLoad, desired_workers, wanted

SHAPE = FleetShape(places=4, slots=10, idle_s=30)


def load(
    tenant: str = "a", backlog: int = 0, running: int = 0, idle: float = 0, workers: int = 0, weight: int = 1
) -> TenantLoad:
    return TenantLoad(tenant, backlog, running, idle, workers, weight)


def test_workers_follow_the_work() -> None:
    assert wanted(load(backlog=1), SHAPE) == 1
    assert wanted(load(backlog=15, running=10), SHAPE) == 3
    assert wanted(load(backlog=1000), SHAPE) == 4


def test_an_idle_tenant_keeps_its_workers_for_a_while_and_then_none() -> None:
    assert wanted(load(idle=29, workers=2), SHAPE) == 2
    assert wanted(load(idle=30, workers=2), SHAPE) == 0


def test_scarce_places_are_shared_by_weight() -> None:
    loads = [load("a", backlog=1000, weight=3), load("b", backlog=1000)]
    assert desired_workers(loads, SHAPE) == {"a": 3, "b": 1}


loads_of_many = strategies.lists(
    strategies.builds(
        TenantLoad,
        tenant=strategies.uuids().map(str),
        backlog=strategies.integers(0, 500),
        running=strategies.integers(0, 100),
        idle_for_s=strategies.floats(0, 100),
        workers=strategies.integers(0, 5),
        weight=strategies.integers(1, 5),
    ),
    max_size=12,
    unique_by=lambda one: one.tenant,
)


@given(loads=loads_of_many, places=strategies.integers(1, 20))
def test_places_are_never_exceeded_and_never_wasted(loads: list[TenantLoad], places: int) -> None:
    shape = FleetShape(places, 10, 30)
    given_out = desired_workers(loads, shape)
    wants = {one.tenant: wanted(one, shape) for one in loads}
    assert sum(given_out.values()) == min(places, sum(wants.values()))
    assert all(given_out[tenant] <= wants[tenant] for tenant in wants)
    if len([one for one in wants.values() if one]) <= places:
        assert all(given_out[tenant] >= 1 for tenant, want in wants.items() if want)
