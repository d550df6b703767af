"""Scaling: never more than there are places, nobody starved, idle goes to zero."""

from __future__ import annotations

from hypothesis import given, strategies

from chimera.core.scaling import FleetShape, Lately, TenantLoad, desired_workers, needed

SHAPE = FleetShape(places=4, slots=10)


def load(
    tenant: str = "a", backlog: int = 0, running: int = 0, workers: int = 0, lately: int = 0, weight: int = 1
) -> TenantLoad:
    return TenantLoad(tenant, backlog, running, workers, lately, weight)


def test_workers_follow_the_work() -> None:
    assert desired_workers([load(backlog=1)], SHAPE) == {"a": 1}
    assert desired_workers([load(backlog=15, running=10)], SHAPE) == {"a": 3}
    assert desired_workers([load(backlog=1000)], SHAPE) == {"a": 4}


def test_a_lull_ends_no_worker_and_no_work_goes_to_zero() -> None:
    assert desired_workers([load(backlog=1, workers=3, lately=2)], SHAPE) == {"a": 2}
    assert desired_workers([load(workers=1, lately=4)], SHAPE) == {"a": 1}, "nothing is started for the past"
    assert desired_workers([load(workers=3)], SHAPE) == {"a": 0}


def test_what_a_tenant_no_longer_needs_goes_to_whoever_needs_it() -> None:
    loads = [load("a", workers=4, lately=4), load("b", backlog=25)]
    assert desired_workers(loads, SHAPE) == {"a": 1, "b": 3}


def test_lately_is_the_most_within_the_window() -> None:
    lately = Lately(window_s=30)
    assert [
        lately.most(count, at) for count, at in [(1, 0), (3, 1), (2, 2), (0, 30.9), (0, 31), (0, 32)]
    ] == [
        1,
        3,
        3,
        3,
        2,
        0,
    ]


def test_scarce_places_are_shared_by_weight() -> None:
    loads = [load("a", backlog=1000, weight=3), load("b", backlog=1000)]
    assert desired_workers(loads, SHAPE) == {"a": 3, "b": 1}


loads_of_many = strategies.lists(
    strategies.builds(
        TenantLoad,
        tenant=strategies.uuids().map(str),
        backlog=strategies.integers(0, 500),
        running=strategies.integers(0, 100),
        workers=strategies.integers(0, 5),
        lately=strategies.integers(0, 9),
        weight=strategies.integers(1, 5),
    ),
    max_size=12,
    unique_by=lambda one: one.tenant,
)


@given(loads=loads_of_many, places=strategies.integers(0, 20))
def test_places_are_never_exceeded_and_never_wasted(loads: list[TenantLoad], places: int) -> None:
    given_out = desired_workers(loads, FleetShape(places, 10))
    wants = {one.tenant: needed(one.backlog, one.running, 10) for one in loads}
    keeps = {one.tenant: max(wants[one.tenant], min(one.workers, one.lately)) for one in loads}
    assert sum(given_out.values()) == min(places, sum(keeps.values()))
    assert all(given_out[tenant] <= keeps[tenant] for tenant in keeps)
    if sum(wants.values()) >= places:
        assert all(given_out[tenant] <= wants[tenant] for tenant in wants), "what is kept takes nothing"
    if len([one for one in wants.values() if one]) <= places:
        assert all(given_out[tenant] >= 1 for tenant, want in wants.items() if want)


@given(counts=strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.floats(0, 20))))
def test_lately_agrees_with_the_whole_history(counts: list[tuple[int, float]]) -> None:
    lately, now, told = Lately(30), 0.0, list[tuple[float, int]]()
    for count, pause_s in counts:
        now += pause_s
        told.append((now, count))
        assert lately.most(count, now) == max(n for at, n in told if now - at < 30)
