"""The slots of a worker: by lease, given back once, and not kept by an attempt that does not listen."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from chimera.core.lease import Claim
from chimera.runtime import slots as module
from chimera.runtime.slots import Slots


def claim(token: int, task_id: str = "m1.0") -> Claim:
    return Claim(task_id, token, 1, 0, "m1", 1, "map", "", (), (), 0)


class Freed:
    """Counts slots that became free."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1


async def test_a_lost_lease_and_a_new_one_of_the_same_task_hold_a_slot_each() -> None:
    freed = Freed()
    slots = Slots(freed)
    old, new = claim(1), claim(2)
    slots.take(old)
    slots.take(new)
    assert slots.leases() == [("m1.0", 1), ("m1.0", 2)]
    slots.free(old)
    slots.free(old)
    assert slots.leases() == [("m1.0", 2)]
    assert freed.times == 1


async def test_a_cancelled_attempt_frees_its_slot_when_it_ends() -> None:
    slots = Slots(Freed())
    slots.begin(slots.take(claim(1)), asyncio.create_task(asyncio.Event().wait()))  # type: ignore[arg-type]  # (what it returns is not looked at)
    slots.stop(("m1.0", 1), "lease.lost", "why")
    assert len(slots) == 1
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(slots) == 0


async def test_an_attempt_that_does_not_listen_loses_its_slot_and_is_counted_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "STRAY_AFTER_S", 0.0)
    enough = asyncio.Event()

    async def deaf() -> None:
        while not enough.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await enough.wait()

    slots = Slots(Freed())
    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    slots.begin(slots.take(claim(1)), task)
    with capture_logs() as logs:
        for _ in range(3):  # as the heartbeat does
            slots.stop(("m1.0", 1), "attempt.overdue", "its time was up")
            await asyncio.sleep(0.001)
    assert [entry["event"] for entry in logs] == ["attempt.overdue", "agent.ignores_cancellation"]
    assert (len(slots), slots.strays) == (0, 1)
    enough.set()
    await task
    await asyncio.sleep(0)
    assert slots.strays == 0


async def test_what_is_handed_back_keeps_its_slot_until_that_is_told() -> None:
    slots = Slots(Freed())
    slots.begin(slots.take(claim(1)), asyncio.create_task(asyncio.Event().wait()))  # type: ignore[arg-type]  # (what it returns is not looked at)
    slots.take(claim(2, "m1.1"))
    assert [one.token for one in slots.hand_back()] == [1], "only one has begun"
    assert slots.hand_back() == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(slots) == 2
