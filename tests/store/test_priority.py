"""Who goes first: the order of claims, against a model of it that knows nothing of Redis."""

from __future__ import annotations

import asyncio
import itertools
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies

from chimera.core.task import Priority
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests.store import clock, drive

START = 1_800_000_000 * 1_000_000
BONUS_US = 30_000_000
HIGH, MEDIUM, LOW = Priority.HIGH, Priority.MEDIUM, Priority.LOW


@dataclass
class Queue:
    """The model: missions in turn, the lowest rank first; high before all others."""

    ranks: dict[str, int] = field(default_factory=dict)
    priorities: dict[str, Priority] = field(default_factory=dict)
    waiting: dict[str, list[str]] = field(default_factory=dict)

    def rank(self, mission: str, now: int) -> int:
        return now - BONUS_US if self.priorities[mission] is MEDIUM else now

    def add(self, mission: str, priority: Priority, tasks: int, now: int) -> None:
        self.priorities[mission] = priority
        self.waiting[mission] = [f"{mission}.{n}" for n in range(tasks)]
        self.ranks[mission] = self.rank(mission, now)

    def take(self, most: int, high: int, now: int) -> list[str]:
        first = self._take(True, high, now)
        return first + self._take(False, min(most, high - len(first)), now)

    def _take(self, of_high: bool, most: int, now: int) -> list[str]:
        got: list[str] = []
        for turn in itertools.count(1):
            mine = [one for one in self.ranks if (self.priorities[one] is HIGH) == of_high]
            if len(got) >= most or not mine:
                return got
            mission = min(mine, key=lambda one: (self.ranks[one], one))
            share = math.ceil((most - len(got)) / len(mine))
            got += self.waiting[mission][:share]
            self.waiting[mission] = self.waiting[mission][share:]
            self.ranks[mission] = self.rank(mission, now) + turn
            if not self.waiting[mission]:
                del self.ranks[mission]
        raise AssertionError


async def set_to(base: Base, tenant: str, now_us: int) -> None:
    await clock.set_to(base, tenant, datetime.fromtimestamp(now_us / 1e6, UTC))


Step = tuple[str, int, int, Priority]
steps_ = strategies.lists(
    strategies.tuples(
        strategies.sampled_from(["submit", "claim", "claim", "pass time"]),
        strategies.integers(1, 9),
        strategies.integers(0, 4),
        strategies.sampled_from([HIGH, MEDIUM, LOW]),
    ),
    min_size=3,
    max_size=25,
)
_tenants = itertools.count(1)


async def play(url: str, state_dir: Path, steps: list[Step]) -> None:
    base = await open_base(load(redis_url=url, state_dir=state_dir))
    tenant, queue, now = f"order{next(_tenants)}", Queue(), START
    stores = base.of(tenant)
    try:
        with clock.set_by_hand():
            await set_to(base, tenant, now)
            for number, (what, amount, more, priority) in enumerate(steps):
                now += 1_000
                if what == "pass time":
                    now += amount * 7_000_000
                await set_to(base, tenant, now)
                if what == "submit":
                    name = f"m{number:02}"
                    await drive.begin(base, tenant, drive.spec(inputs=[0] * amount, priority=priority), name)
                    queue.add(name, priority, amount, now)
                if what == "claim":
                    claims = await stores.tasks.claim(
                        "w", f"c{number}", lease_s=9e5, general=amount, high=amount + more, slots=16
                    )
                    assert [one.task_id for one in claims] == queue.take(amount, amount + more, now)
    finally:
        await base.close()


@given(steps=steps_)
@settings(max_examples=150, deadline=None)
def test_tasks_are_claimed_in_the_models_order(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, steps: list[Step]
) -> None:
    asyncio.run(play(redis_server.url, tmp_path_factory.getbasetemp(), steps))


async def order(base: Base, tenant: str, claims: int, now: int, each_us: int) -> tuple[list[str], int]:
    """The missions of so many claims of one task each, so far apart."""
    missions = []
    for _ in range(claims):
        now += each_us
        await set_to(base, tenant, now)
        missions += [one.mission_id for one in await drive.claim(base.of(tenant), lease_s=9e5)]
    return missions, now


async def test_low_passes_medium_in_time_and_never_high(base: Base, tenant: str) -> None:
    with clock.set_by_hand():
        await set_to(base, tenant, START)
        for name, priority in (("low", LOW), ("medium", MEDIUM), ("high", HIGH)):
            await drive.begin(base, tenant, drive.spec(inputs=[0] * 200, priority=priority), name)
        first, now = await order(base, tenant, 190, START, 1_000_000)
        assert set(first) == {"high"}, "whatever waited, and however long"
        rest, now = await order(base, tenant, 10 + 90, now, 1_000_000)
        assert set(rest[:10]) == {"high"}
        # Both have waited: each gets a turn, and then low gets one in each thirty seconds of medium's.
        assert rest[10:12] == ["medium", "low"]
        turns = [at for at, name in enumerate(rest[10:]) if name == "low"]
        assert len(turns) in {3, 4}
        assert all(29 <= after - before <= 31 for before, after in itertools.pairwise(turns))


async def test_among_one_workers_slots_high_takes_what_others_may_not(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[0] * 50, priority="low"), "low")
    claims = await stores.tasks.claim("w", "a", lease_s=5, general=14, high=16, slots=16)
    assert len(claims) == 14
    await drive.begin(base, tenant, drive.spec(inputs=[0] * 50, priority="high"), "high")
    claims = await stores.tasks.claim("w", "b", lease_s=5, general=0, high=2, slots=16)
    assert [one.mission_id for one in claims] == ["high", "high"]


# Workers of one slot


async def live(base: Base, tenant: str, *workers: str) -> None:
    await base.redis.zadd(base.of(tenant).tasks.keys.workers, dict.fromkeys(workers, 9e15))


async def test_of_workers_with_one_slot_one_is_kept_for_high_priority(base: Base, tenant: str) -> None:
    await live(base, tenant, "w1", "w2", "w3")
    stores = await drive.begin(base, tenant, drive.spec(inputs=[0] * 9, priority="low"), "low")
    taken = {w: len(await drive.claim(stores, 1, worker=w, slots=1)) for w in ("w1", "w2", "w3")}
    assert taken == {"w1": 1, "w2": 1, "w3": 0}
    await drive.begin(base, tenant, drive.spec(inputs=[0] * 9, priority="high"), "high")
    (one,) = await drive.claim(stores, 1, worker="w3", slots=1)
    assert one.mission_id == "high"


async def test_a_high_task_that_runs_keeps_no_second_worker_from_ordinary_work(
    base: Base, tenant: str
) -> None:
    await live(base, tenant, "w1", "w2", "w3")
    stores = await drive.begin(base, tenant, drive.spec(inputs=[0], priority="high"), "high")
    await drive.begin(base, tenant, drive.spec(inputs=[0] * 9, priority="low"), "low")
    missions = []
    for worker in ("w1", "w2", "w3"):
        missions += [one.mission_id for one in await drive.claim(stores, 1, worker=worker, slots=1)]
    assert missions == ["high", "low", "low"]


async def test_a_single_worker_with_one_slot_does_any_work(base: Base, tenant: str) -> None:
    await live(base, tenant, "w1")
    stores = await drive.begin(base, tenant, drive.spec(inputs=[0], priority="low"))
    assert len(await drive.claim(stores, 1, worker="w1", slots=1)) == 1
