"""Batches: items go out together and in order; what the store's absence stopped is done again as it was."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from chimera.errors import StoreError, StoreUnavailable
from chimera.runtime.batches import MOST, Batches


class Act:
    """Doubles numbers, a batch at a time; fails while it is told to, and waits until it may go on."""

    def __init__(self) -> None:
        self.seen: list[list[int]] = []
        self.failing: Exception | None = None
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.seen.append(list(items))
        self.begun.set()
        await self.go_on.wait()
        if self.failing is not None:
            raise self.failing
        return [2 * item for item in items]


@pytest.fixture
def act() -> Act:
    return Act()


@pytest.fixture
async def batches(act: Act) -> AsyncIterator[Batches[int, int]]:
    made = Batches("numbers", act)
    made.start()
    yield made
    await made.stop(1)


async def test_what_is_asked_while_a_batch_is_under_way_goes_as_one(
    batches: Batches[int, int], act: Act
) -> None:
    act.go_on.clear()
    asked = [batches.do(0)]
    await act.begun.wait()
    asked += [batches.do(number) for number in range(1, 4)]
    act.go_on.set()
    assert await asyncio.gather(*asked) == [0, 2, 4, 6]
    assert act.seen == [[0], [1, 2, 3]]


async def test_a_batch_is_bounded(batches: Batches[int, int], act: Act) -> None:
    await asyncio.gather(*(batches.do(number) for number in range(MOST + 1)))
    assert [len(batch) for batch in act.seen] == [MOST, 1]


async def test_while_the_store_is_away_an_item_with_time_is_done_again_before_later_ones(
    batches: Batches[int, int], act: Act
) -> None:
    act.go_on.clear()
    act.failing = StoreUnavailable("away")
    hurried, patient = batches.do(1), batches.do(2, again_s=60)
    await act.begun.wait()
    later = batches.do(3, again_s=60)
    act.go_on.set()
    with pytest.raises(StoreUnavailable, match="away"):
        await hurried
    act.failing = None
    assert (await patient, await later) == (4, 6)
    assert [act.seen[0], act.seen[-1]] == [[1, 2], [2, 3]]


async def test_an_item_is_given_up_when_its_time_is_over(batches: Batches[int, int], act: Act) -> None:
    act.failing = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable, match="away"):
        await batches.do(1, again_s=0.3)
    assert len(act.seen) > 1


async def test_a_defect_is_not_tried_again(batches: Batches[int, int], act: Act) -> None:
    act.failing = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await batches.do(1, again_s=60)
    act.failing = None
    assert await batches.do(2) == 4
    assert act.seen == [[1], [2]]


async def test_the_item_of_who_waits_no_more_is_done_all_the_same(
    batches: Batches[int, int], act: Act
) -> None:
    batches.do(1).cancel()
    assert await batches.do(2) == 4
    assert act.seen == [[1, 2]]


async def test_the_end_waits_for_what_is_under_way_and_takes_nothing_more(
    batches: Batches[int, int], act: Act
) -> None:
    act.go_on.clear()
    first = batches.do(1)
    await act.begun.wait()
    second = batches.do(2)
    ending = asyncio.create_task(batches.stop(60))
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        batches.do(3)
    act.go_on.set()
    await ending
    assert (first.result(), second.result(), act.seen) == (2, 4, [[1], [2]])


async def test_the_end_waits_for_what_was_asked_in_the_same_turn(
    batches: Batches[int, int], act: Act
) -> None:
    assert await batches.do(1) == 2  # and now it is idle
    asked = batches.do(2)
    await batches.stop(60)
    assert await asked == 4


async def test_who_still_waits_at_the_end_is_told(batches: Batches[int, int], act: Act) -> None:
    act.go_on.clear()
    under_way = batches.do(1)
    await act.begun.wait()
    waiting = batches.do(2)
    await batches.stop(0)
    for future in (under_way, waiting):
        with pytest.raises(StoreError, match="closed"):
            await future
