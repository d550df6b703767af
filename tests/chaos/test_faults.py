"""The schedule of faults follows from its seed, spares no kind, and leaves time to heal."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.chaos.faults import (
    HEALS_S,
    HEAVY,
    LASTS_S,
    LIGHT,
    MEAN_GAP_S,
    SETS,
    START_S,
    Fault,
    named,
    schedule,
)

seeds = st.integers(0, 2**32)
kinds = st.lists(st.sampled_from(Fault), min_size=1, unique=True).map(tuple)
spans = st.floats(10, 3_600)

MINUTES = 40.0
"""Time enough for several rounds of every kind."""


@given(seed=seeds, seconds=spans, faults=kinds)
def test_the_same_seed_gives_the_same_schedule(seed: int, seconds: float, faults: tuple[Fault, ...]) -> None:
    assert schedule(seed, seconds, faults) == schedule(seed, seconds, faults)


def test_another_seed_gives_another_schedule() -> None:
    made = {schedule(seed, 600, tuple(Fault)) for seed in range(20)}
    assert len(made) == 20
    assert len({tuple(one.fault for one in plan) for plan in made}) == 20


@given(seed=seeds, seconds=spans, faults=kinds)
def test_faults_come_in_time_and_one_after_another(
    seed: int, seconds: float, faults: tuple[Fault, ...]
) -> None:
    plan = schedule(seed, seconds, faults)
    at = [one.at_s for one in plan]
    assert at[0] == START_S
    assert at == sorted(at)
    assert at[-1] < seconds
    assert all(one.fault in faults and one.lasts_s == LASTS_S.get(one.fault, 0.0) for one in plan)
    assert all(0 <= one.chance < 1 for one in plan)


@given(seed=seeds, faults=kinds)
def test_every_kind_has_its_turn(seed: int, faults: tuple[Fault, ...]) -> None:
    order = [one.fault for one in schedule(seed, MINUTES * 60, faults)]
    assert set(order[: len(faults)]) == set(faults), "all of them before any comes again"
    counts = Counter(order)
    light = [counts[fault] for fault in faults if fault in LIGHT]
    heavy = [counts[fault] for fault in faults if fault in HEAVY]
    # The last round may be cut short by the end.
    for mine in (light, heavy):
        assert not mine or max(mine) - min(mine) <= 1
    if light and heavy:
        assert max(heavy) <= max(light) // 2 + 1, "heavy ones every second round, the first among them"


@given(seed=seeds, faults=kinds)
def test_what_takes_long_to_heal_has_its_time(seed: int, faults: tuple[Fault, ...]) -> None:
    plan = schedule(seed, MINUTES * 60, faults)
    for one, following in pairwise(plan):
        rest_s = HEALS_S.get(one.fault, 0.0) + 0.3 * MEAN_GAP_S
        assert following.at_s - one.at_s >= rest_s - 0.002, "times are rounded to a millisecond"


def test_faults_are_named_by_set_or_one_by_one() -> None:
    for name, faults in SETS.items():
        assert named(name) == faults
    assert set(named("all")) == set(LIGHT) | set(HEAVY) == set(Fault)
    assert named("worker-kill, redis-kill") == (Fault.WORKER_KILL, Fault.REDIS_KILL)
    with pytest.raises(ValueError, match="'worker-kill,nothing' names no faults: give light, heavy, all, or"):
        named("worker-kill,nothing")


def test_every_fault_says_what_it_does() -> None:
    assert all(fault.means for fault in Fault)
