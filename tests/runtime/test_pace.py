"""The pace leaves others their time where they wait, and takes what it needs where they do not."""

from __future__ import annotations

import asyncio

import pytest

from chimera.runtime.pace import Pace

NEVER_S = 3_600.0


async def turn(pace: Pace, takes_s: float, log: list[str]) -> None:
    async with pace.turn():
        log.append("begun")
        await asyncio.sleep(takes_s)
        log.append("over")


async def test_turns_are_side_by_side_where_nobody_waits() -> None:
    pace, log = Pace(1e-9, NEVER_S), list[str]()
    await asyncio.gather(turn(pace, 0.01, log), turn(pace, 0.01, log))
    assert log == ["begun", "begun", "over", "over"]


async def test_crowded_a_turn_waits_for_the_rest_of_the_one_before_which_ends_with_the_crowd() -> None:
    pace, log = Pace(1e-9, NEVER_S), list[str]()
    pace.crowded = True
    turns = [asyncio.create_task(turn(pace, 0.001, log)) for _ in range(2)]
    while "over" not in log:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.001)
    for _ in range(100):
        await asyncio.sleep(0)
    assert log == ["begun", "over"]
    assert not any(one.done() for one in turns)
    pace.crowded = False
    await asyncio.gather(*turns)
    assert log == ["begun", "over"] * 2


async def test_a_turn_that_only_waited_is_followed_by_no_rest() -> None:
    pace, log = Pace(1e-9, NEVER_S, used_s=lambda: 7.0), list[str]()
    pace.crowded = True
    await asyncio.gather(turn(pace, 0.01, log), turn(pace, 0.01, log))
    assert log == ["begun", "over"] * 2


async def test_a_rest_is_bounded_however_long_its_turn_was() -> None:
    pace, log = Pace(1e-9, 0.001), list[str]()
    pace.crowded = True
    await asyncio.gather(turn(pace, 0.01, log), turn(pace, 0.01, log))
    assert log == ["begun", "over"] * 2


async def test_a_turn_that_fails_is_followed_by_none_and_gives_its_place_up() -> None:
    pace, log = Pace(1e-9, NEVER_S), list[str]()
    pace.crowded = True
    with pytest.raises(ValueError, match="no"):
        async with pace.turn():
            raise ValueError("no")
    following = asyncio.create_task(turn(pace, 0.0, log))
    while not log:  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.001)
    pace.crowded = False
    await following
