"""Turns and gates: tenants come round, however many of one's wait."""

from __future__ import annotations

import asyncio
import random

from chimera.runtime.turns import Gate, Turns


def test_each_round_begins_with_the_next_tenant() -> None:
    turns = Turns()
    rounds = [turns.of({"b", "a", "c"}) for _ in range(4)]
    assert rounds == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert turns.of([]) == []
    assert turns.of(["c", "a"]) == ["c", "a"]


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class Work:
    """Things that stay inside a gate until told to leave."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate
        self.came: list[str] = []
        self.inside: list[tuple[str, asyncio.Event]] = []

    def begin(self, tenant: str, count: int) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self._stay(tenant)) for _ in range(count)]

    async def _stay(self, tenant: str) -> None:
        async with self.gate.of(tenant):
            self.came.append(tenant)
            leave = asyncio.Event()
            self.inside.append((tenant, leave))
            await leave.wait()

    async def leave(self, tenant: str = "") -> None:
        at = next(at for at, (name, _) in enumerate(self.inside) if name == tenant or not tenant)
        self.inside.pop(at)[1].set()
        await settle()


async def test_a_tenant_alone_has_half_and_the_next_one_begins_at_once() -> None:
    work = Work(Gate(6))
    tasks = work.begin("a", 50)
    await settle()
    assert work.came == ["a"] * 3
    tasks += work.begin("b", 2)
    await settle()
    assert work.came == ["a", "a", "a", "b"]
    await work.leave("a")
    assert work.came[-1] == "b", "its second comes before the forty-seven of the other"
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_who_waits_longest_for_a_turn_comes_first() -> None:
    work = Work(Gate(1))
    tasks = work.begin("a", 3) + work.begin("b", 3) + work.begin("c", 3)
    await settle()
    for _ in range(8):
        await work.leave()
    assert work.came == ["a", *["a", "b", "c"] * 2, "b", "c"]
    await work.leave()
    await asyncio.gather(*tasks)


async def test_whoever_is_cancelled_while_waiting_or_inside_leaves_no_place_taken() -> None:
    chance, gate = random.Random(4), Gate(5)
    for _ in range(40):
        work = Work(gate)
        tasks = [task for name in "abc" for task in work.begin(name, 6)]
        await settle()
        for _ in range(30):
            if work.inside and chance.random() < 0.5:
                work.inside.pop(chance.randrange(len(work.inside)))[1].set()
            else:
                chance.choice(tasks).cancel()
            if chance.random() < 0.5:
                await settle()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    work = Work(gate)
    last = work.begin("d", 3)
    await settle()
    assert work.came == ["d", "d"]
    for task in last:
        task.cancel()
    await asyncio.gather(*last, return_exceptions=True)
