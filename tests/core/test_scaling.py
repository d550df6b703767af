"""Scaling: never more than there are places, nobody starved, idle goes to zero."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from random import Random
from typing import Any

from hypothesis import given, settings, strategies

from chimera.core.scaling import AHEAD, FleetShape, Lately, TenantLoad, Turns, desired_workers, needed

SHAPE = FleetShape(places=4, slots=10)


def load(
    tenant: str = "a",
    backlog: int = 0,
    running: int = 0,
    workers: int = 0,
    lately: int = 0,
    weight: int = 1,
    **more: Any,
) -> TenantLoad:
    return TenantLoad(tenant, backlog, running, workers, lately, weight, **more)


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


def test_a_moment_without_work_gives_no_place_away() -> None:
    shape = FleetShape(places=2, slots=10)
    noisy = load("b", backlog=1000, workers=1)
    assert desired_workers([load("a", workers=1, lately=2, just=1), noisy], shape) == {"a": 1, "b": 1}
    assert desired_workers([load("a", workers=2, lately=2, just=2), noisy], shape) == {"a": 1, "b": 1}
    assert desired_workers([load("a", workers=1, lately=2), noisy], shape) == {"a": 0, "b": 2}
    assert desired_workers([load("a", just=1), noisy], shape) == {"a": 0, "b": 2}, "nothing is started for it"


def test_a_moment_without_work_keeps_nobody_from_an_urgent_place() -> None:
    shape = FleetShape(places=1, slots=10)
    holder = load("a", workers=1, just=1, had=0.0, held_s=30.0)
    assert desired_workers([holder, load("b", backlog=1, high=1)], shape) == {"a": 0, "b": 1}
    assert desired_workers([replace(holder, held_s=1.0), load("b", backlog=1)], shape) == {"a": 1, "b": 0}


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
        most=strategies.one_of(strategies.just(1_000_000), strategies.integers(1, 4)),
        high=strategies.integers(0, 5),
        had=strategies.floats(0, 100),
        held_s=strategies.floats(0, 100),
    ),
    max_size=12,
    unique_by=lambda one: one.tenant,
)


@given(loads=loads_of_many, places=strategies.integers(0, 20))
def test_places_are_never_exceeded_and_never_wasted(loads: list[TenantLoad], places: int) -> None:
    given_out = desired_workers(loads, FleetShape(places, 10))
    wants = {one.tenant: min(one.most, needed(one.backlog, one.running, 10)) for one in loads}
    keeps = {one.tenant: max(wants[one.tenant], min(one.workers, one.lately, one.most)) for one in loads}
    assert sum(given_out.values()) == min(places, sum(keeps.values()))
    assert all(given_out[one.tenant] <= min(keeps[one.tenant], one.most) for one in loads), "the quota binds"
    if sum(wants.values()) >= places:
        assert all(given_out[tenant] <= wants[tenant] for tenant in wants), "what is kept takes nothing"
    if len([one for one in wants.values() if one]) <= places:
        assert all(given_out[tenant] >= 1 for tenant, want in wants.items() if want)


saturated = strategies.lists(strategies.integers(1, 5), min_size=2, max_size=9).flatmap(
    lambda weights: strategies.tuples(strategies.just(weights), strategies.integers(1, len(weights) - 1))
)


@given(saturated=saturated)
def test_when_all_have_more_work_than_there_are_places_each_has_its_share_within_one(
    saturated: tuple[list[int], int],
) -> None:
    weights, places = saturated
    loads = [load(f"t{n}", backlog=1000, weight=weight) for n, weight in enumerate(weights)]
    given_out = desired_workers(loads, FleetShape(places, 10))
    for one in loads:
        assert abs(given_out[one.tenant] - places * one.weight / sum(weights)) < 1


@settings(max_examples=40)
@given(saturated=saturated, chance=strategies.randoms(use_true_random=False))
def test_everybody_with_work_gets_a_turn_and_in_the_long_run_its_share(
    saturated: tuple[list[int], int], chance: Random
) -> None:
    weights, places = saturated
    total, turn_s, step_s = sum(weights), 3.0, 1.0
    loads = [load(f"t{n}", backlog=1000, weight=weight) for n, weight in enumerate(weights)]
    always_high = {one.tenant for one in loads if chance.random() < 0.4}
    turns, had = Turns(turn_s), dict.fromkeys((one.tenant for one in loads), 0.0)
    bound = {
        one.tenant: (AHEAD + 1) * turn_s * (total / one.weight + len(loads)) + 2 * turn_s for one in loads
    }
    span = 3 * max(bound.values())
    now = 0.0
    while now < span:
        told = turns.note(loads, now)
        assert all(one.waits_s <= bound[one.tenant] for one in told), "nobody waits for more than some turns"
        given_out = desired_workers(told, FleetShape(places, 10, turn_s))
        loads = [
            replace(one, workers=given_out[one.tenant], high=int(one.tenant in always_high)) for one in loads
        ]
        for tenant, workers in given_out.items():
            had[tenant] += workers * step_s
        now += step_s
    for one in loads:
        # The places go round: what one is ahead of its share is some turns, however long it lasts.
        off = had[one.tenant] - span * places * one.weight / total
        assert abs(off) <= (AHEAD + 2) * turn_s * len(loads)


def test_high_priority_work_that_waits_takes_a_place_at_once_and_not_for_ever() -> None:
    holders = [load(f"h{n}", backlog=100, workers=1) for n in range(3)]
    waiting = [load(f"w{n}", backlog=100) for n in range(6)]
    shape, turns = FleetShape(places=3, slots=10, turn_s=10), Turns(10)
    turns.note([*holders, *waiting], 0.0)
    tenth = load("z", backlog=1, high=1)
    told = turns.note([*holders, *waiting, tenth], 1.0)
    given_out = desired_workers(told, shape)
    assert given_out["z"] == 1
    assert sum(given_out[f"h{n}"] for n in range(3)) == 2, "the others' turns go on"
    # Far ahead of its share, it is one like all.
    told = [replace(one, had=one.had + 1000.0 * (one.tenant == "z")) for one in told]
    assert desired_workers(told, shape)["z"] == 0


def test_a_turn_is_not_cut_short_by_ordinary_work() -> None:
    turns, shape = Turns(10), FleetShape(places=1, slots=10, turn_s=10)
    loads = [load("a", backlog=50, workers=1), load("b", backlog=50)]
    seen = []
    for now in range(0, 40, 2):
        given_out = desired_workers(turns.note(loads, now), shape)
        loads = [replace(one, workers=given_out[one.tenant]) for one in loads]
        seen.append("a" if given_out["a"] else "b")
    runs = [len(list(turn)) for _, turn in groupby(seen)]
    assert len(runs) >= 3, "they take turns"
    assert min(runs[:-1]) >= 5, "of ten seconds at least"


def test_what_a_tenant_had_while_there_was_enough_is_not_held_against_it_for_long() -> None:
    turns = Turns(10)
    big, small = load("big", backlog=90, workers=3), load("small", backlog=5, workers=1)
    turns.note([big, small], 0)
    told = {one.tenant: one.had for one in turns.note([big, small, load("new", backlog=5)], 86_400)}
    assert told["new"] == told["small"]
    assert told["big"] - told["small"] <= 40


@given(counts=strategies.lists(strategies.tuples(strategies.integers(0, 5), strategies.floats(0, 20))))
def test_lately_agrees_with_the_whole_history(counts: list[tuple[int, float]]) -> None:
    lately, now, told = Lately(30), 0.0, list[tuple[float, int]]()
    for count, pause_s in counts:
        now += pause_s
        told.append((now, count))
        assert lately.most(count, now) == max(n for at, n in told if now - at < 30)
