"""The steps of attempts: the one that keeps the loop is known after it let go."""

from __future__ import annotations

import asyncio
import time

import pytest

from chimera.runtime.steps import NO_STEP, Steps


def busy(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


async def test_the_longest_step_is_known_by_name_after_others_ran() -> None:
    steps = Steps()

    async def attempt(seconds: float) -> None:
        await asyncio.sleep(0)
        busy(seconds)
        await asyncio.sleep(0)

    await asyncio.gather(
        *(asyncio.create_task(steps.timed(name, attempt(s))) for name, s in [("a", 0), ("b", 0.05), ("c", 0)])
    )
    longest = steps.longest()
    assert longest.name == "b"
    assert longest.took_s >= 0.05
    assert steps.longest() == NO_STEP, "each look begins anew"


async def test_the_step_under_way_counts() -> None:
    steps = Steps()

    async def attempt() -> None:
        busy(0.02)
        assert steps.longest().name == "now"

    await asyncio.create_task(steps.timed("now", attempt()))


async def test_results_errors_and_cancellations_pass_through() -> None:
    steps = Steps()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("as it is")

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            busy(0.02)

    with pytest.raises(ValueError, match="as it is"):
        await asyncio.create_task(steps.timed("fails", fails()))
    steps.longest()
    waiting = asyncio.create_task(steps.timed("waits", waits()))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert steps.longest().name == "waits", "what it does when told to end is a step too"
