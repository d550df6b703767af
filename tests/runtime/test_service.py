"""Services tell of themselves whether they are well: alive, and not held by one pass for ever."""

from __future__ import annotations

import asyncio

import pytest

from chimera.errors import BackendError
from chimera.judging.boundaries import load_boundaries
from chimera.runtime.base import Base
from chimera.runtime.judge import Judge
from chimera.runtime.service import Service, see_that_all_are_well
from chimera.store import keys
from chimera.store.signals import Wakeups


class Duty(Service):
    """Waits in each pass until it is let go."""

    name = "duty"
    sweep_s = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.began, self.go_on = asyncio.Event(), asyncio.Event()

    async def run_once(self) -> None:
        self.began.set()
        await self.go_on.wait()


async def test_a_pass_that_takes_too_long_hangs() -> None:
    duty = Duty()
    duty.start()
    await duty.began.wait()
    see_that_all_are_well([duty])
    duty.hung_s = -1.0
    assert duty.hangs
    with pytest.raises(BackendError, match="duty hangs"):
        see_that_all_are_well([duty])
    await duty.stop()
    assert not duty.hangs


async def test_a_pass_that_fails_or_waits_does_not_hang() -> None:
    class Fails(Duty):
        async def run_once(self) -> None:
            self.began.set()
            raise RuntimeError("at once")

    duty = Fails()
    duty.hung_s = -1.0
    duty.start()
    await duty.began.wait()
    await asyncio.sleep(0)
    assert not duty.hangs
    await duty.stop()


async def test_a_replica_whose_service_has_stopped_is_not_well() -> None:
    duty = Duty()
    with pytest.raises(BackendError, match="duty has stopped"):
        see_that_all_are_well([duty])


async def test_a_judge_whose_helper_has_ended_is_not_well(base: Base) -> None:
    async with Wakeups(base.blocking, keys.REVIEWS) as wakeups:
        judge = Judge(base, "j1", wakeups, load_boundaries(base.settings.boundaries_file))
        judge.start()
        see_that_all_are_well([judge])
        helper = judge._helpers[1]
        helper.cancel()
        await asyncio.gather(helper, return_exceptions=True)
        with pytest.raises(BackendError, match="judge has stopped"):
            see_that_all_are_well([judge])
        await judge.stop()
