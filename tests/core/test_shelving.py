"""Shelving: what may stand in Redis before planning waits, and that it never waits in vain."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from chimera.core.shelving import BEHIND, BLOCK, leave_at_once, may_stay_behind, most_standing, planning_waits


@pytest.mark.parametrize(
    ("window", "standing", "waits"),
    [
        (2_000, 0, False),
        (2_000, 40_000, False),
        (2_000, 40_001, True),
        (10_000, 200_000, False),
        (10_000, 200_001, True),
        (1, 10_000, False),  # a small window has room for whole blocks
        (1, 10_001, True),
    ],
)
def test_planning_waits_beyond_twenty_accepted_tasks_for_each_of_the_window(
    window: int, standing: int, waits: bool
) -> None:
    assert planning_waits(standing, window) is waits


def test_the_more_stands_there_the_less_a_block_waits() -> None:
    assert [leave_at_once(standing, 2_000) for standing in (20_000, 20_001)] == [False, True]
    assert [may_stay_behind(standing, 2_000) for standing in (30_000, 30_001)] == [0, BEHIND]


@given(
    window=strategies.integers(1, 50_000),
    blocks=strategies.lists(strategies.tuples(strategies.integers(0, BLOCK), strategies.integers(0, 1_000))),
)
def test_whenever_planning_waits_some_block_can_leave(window: int, blocks: list[tuple[int, int]]) -> None:
    """However the window's unfinished tasks are spread over blocks, with or without slow ones among them.

    Each pair is a number of tasks under way in a block, and how many such blocks there are.
    """
    left, standing, can_leave = window, 0, False
    for under_way, times in blocks:
        count = times if under_way == 0 else min(times, left // under_way)
        left -= count * under_way
        standing += count * (BLOCK - under_way)
        can_leave = can_leave or (count > 0 and under_way <= may_stay_behind(10**9, window))
    if planning_waits(standing, window):
        assert can_leave
        assert may_stay_behind(standing, window) == BEHIND


@given(window=strategies.integers(1, 100_000))
def test_the_worst_spread_of_slow_tasks_stays_below_the_bound(window: int) -> None:
    stuck = window // (BEHIND + 1) * (BLOCK - BEHIND - 1)
    last_block = BLOCK - 1  # begun, and not planned to its end
    assert stuck + last_block < most_standing(window)
