"""The ledger against a model of it in Python: requests in any order, on a clock that runs as it likes.

After every request both say the same of every figure. At each grant settled + held is within the limit in
force at every level; no window ever falls below nothing; and in the end every hold has ended.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies

from chimera.core.timeline import Timeline
from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind
from chimera.runtime.base import Base, TenantStores, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store.ledger import Answer, Reservation, Settlement
from chimera.store.scripts import OldTerm, Refusal
from tests.store import clock, drive

START = datetime(2026, 11, 30, 23, 59, 30, tzinfo=UTC)
"""Half a minute before a new month."""
BUDGETS = {"m1": 1_000, "m2": 500}
TASKS = ("m1.0", "m1.1", "m2.0")
LIMITED = ("minute", "day", "lifetime", "agent/a/minute", "agent/a/lifetime", "model/m/day")
"""In the order of looking."""
AGENTS, MODELS = ("", "a", "b"), ("", "m", "n")
KEPT = {"minute": timedelta(hours=3), "hour": timedelta(days=3), "day": timedelta(days=400)}
"""Windows stay at least so long after their start."""
FORMS = {
    "minute": "%Y-%m-%dT%H:%M",
    "hour": "%Y-%m-%dT%H",
    "day": "%Y-%m-%d",
    "month": "%Y-%m",
    "year": "%Y",
}


def window_ids(at: datetime) -> dict[str, str]:
    """The windows that an instant is in."""
    return {"lifetime": "lifetime"} | {name: f"{name}:{at.strftime(form)}" for name, form in FORMS.items()}


@dataclass
class Hold:
    task: str
    amount: int
    ends: datetime
    agent: str = ""
    model: str = ""
    factor: int = 1_000_000
    """Of its amount, in parts of a million of what was asked."""
    state: str = "open"
    sent: bool = False
    charged: int = 0
    """What stands in the books for it."""
    charged_at: datetime = START


@dataclass
class Model:
    """What the ledger should hold."""

    now: datetime = START
    limits: dict[str, int] = field(default_factory=dict)
    holds: dict[str, Hold] = field(default_factory=dict)
    settled: Counter[str] = field(default_factory=Counter)
    """By window; of an agent or a model by ``agent/a minute:…``."""
    factors: dict[str, tuple[int, datetime]] = field(default_factory=dict)
    spent: Counter[str] = field(default_factory=Counter)
    """By task."""

    def open_holds(self, mission: str = "") -> list[Hold]:
        found = [hold for hold in self.holds.values() if hold.state == "open"]
        return [hold for hold in found if hold.task.startswith(mission)]

    def levels(self, task: str, agent: str, model: str) -> list[tuple[str, int, int, int]]:
        """(window, limit, settled, held) of each limit that binds a call, in the order of looking."""
        ids, mission = window_ids(self.now), task[:2]
        of_mission = sum(cost for one, cost in self.spent.items() if one.startswith(mission))
        own = sum(hold.amount for hold in self.open_holds(mission))
        found = [("lifetime", BUDGETS[mission], of_mission, own)]
        for name in LIMITED:
            *subject, window = name.split("/")
            holds = self.open_holds()
            if subject:
                if subject not in (["agent", agent], ["model", model]):
                    continue
                holds = [hold for hold in holds if getattr(hold, subject[0]) == subject[1]]
            if (limit := self.limits.get(name)) is not None:
                settled = self.settled[" ".join(filter(None, ("/".join(subject), ids[window])))]
                found.append((window, limit, settled, sum(hold.amount for hold in holds)))
        return found

    def factor(self, model: str) -> int:
        factor, until = self.factors.get(model, (1_000_000, START))
        return factor if self.now < until else 1_000_000

    def refusal(self, levels: list[tuple[str, int, int, int]], amount: int) -> tuple[RefusalKind, int] | None:
        """What refuses an amount, and what all levels would grant."""
        fits = max(0, min(limit - settled - held for _, limit, settled, held in levels))
        found = []
        for window, limit, settled, held in levels:
            if settled + held + amount <= limit:
                continue
            if amount > limit or (window == "lifetime" and settled + amount > limit):
                return RefusalKind.EXHAUSTED, fits
            found.append(RefusalKind.WINDOW if settled + amount > limit else RefusalKind.CONTENDED)
        return (found[0], fits) if found else None

    def book(self, hold: Hold, cost: int, at: datetime) -> None:
        for name in window_ids(at).values():
            self.settled[name] += cost
            for subject in (hold.agent and f"agent/{hold.agent}", hold.model and f"model/{hold.model}"):
                if subject:
                    self.settled[f"{subject} {name}"] += cost
        self.spent[hold.task] += cost
        hold.charged += cost
        hold.charged_at = at

    def overrun(self, hold: Hold, cost: int) -> None:
        if hold.model and cost > hold.amount:
            needed = math.ceil(hold.factor * cost / hold.amount * 1.1)
            factor = max(self.factor(hold.model), min(100_000_000, needed))
            self.factors[hold.model] = factor, self.now + timedelta(days=1)

    def expire(self) -> int:
        due = [hold for hold in self.open_holds() if hold.ends <= self.now]
        for hold in due:
            hold.state = "expired"
            self.book(hold, hold.amount if hold.sent else 0, self.now)
        return len(due)

    def settle(self, name: str, cost: int | float | None) -> Refusal | None:
        hold = self.holds.get(name)
        if hold is None:
            return Refusal.MISSING
        if hold.state not in {"open", "expired"}:
            return None
        hold.state = "released" if cost is None else "settled"
        real = cost is None or (isinstance(cost, int) and 0 <= cost <= 10**12)
        change = int(cost or 0) - hold.charged if real else hold.amount - hold.charged
        self.book(hold, change, hold.charged_at if change < 0 else self.now)
        if real and cost is not None:
            self.overrun(hold, int(cost))
        return None if real else Refusal.NO_COST


def a(kind: str, *rest: strategies.SearchStrategy[Any]) -> strategies.SearchStrategy[tuple[Any, ...]]:
    """A step of this kind."""
    return strategies.tuples(strategies.just(kind), *rest)


numbers = strategies.integers(0, 30)
"""Which of the holds so far; -1 the last."""
last = strategies.just(-1)
no_costs = strategies.one_of(
    strategies.floats(), strategies.integers(max_value=-1), strategies.integers(10**12 + 1)
)
"""What can be no cost: no counter may ever see it."""
costs = strategies.one_of(strategies.integers(0, 500), strategies.integers(0, 500), no_costs)
reserve = a(
    "reserve",
    strategies.sampled_from(TASKS),
    strategies.integers(1, 600),
    strategies.sampled_from([0, 5, 600]),
    strategies.sampled_from(AGENTS),
    strategies.sampled_from(MODELS),
)
wait = a("wait", strategies.sampled_from([1, 20, 70, 4_000, 90_000]))
step = strategies.one_of(
    reserve,
    reserve,
    a("reserve again", numbers),
    a("reserve without a lease"),
    a("sent", numbers),
    a("settle", numbers, costs),
    a("settle", numbers, costs),
    a("release", numbers),
    a("expire"),
    wait,
    a(
        "limit",
        strategies.dictionaries(strategies.sampled_from(LIMITED), strategies.integers(0, 1_200)),
    ),
    a("old term", numbers),
    a("new term"),
)
late = strategies.tuples(reserve, a("sent", last), wait, a("expire"), wait, a("settle", last, costs))
"""A call whose hold may well run out before it is settled."""
crowd = strategies.tuples(reserve, reserve, reserve)
steps_ = strategies.lists(strategies.one_of(step.map(lambda one: (one,)), late, crowd), max_size=30)


class Play:
    """Does each step to the store and to the model."""

    def __init__(self, base: Base, tenant: str, stores: TenantStores, tokens: dict[str, int]) -> None:
        self.base, self.tenant, self.stores, self.tokens = base, tenant, stores, tokens
        self.model = Model()
        self.term = drive.TERM
        self.asked = 0

    def hold(self, number: int) -> str:
        """One of the holds so far; a name that is none where there is none."""
        names = list(self.model.holds)
        return names[number % len(names)] if names and number < 28 else "none"

    async def do(self, kind: str, *rest: Any) -> None:
        await getattr(self, "do_" + kind.replace(" ", "_"))(*rest)
        await self.compare()
        if self.asked % 4 == 1:
            await self.the_recorder_tells_the_same()

    async def do_reserve(self, task: str, asked: int, ttl_s: int, agent: str, of: str) -> None:
        model, name = self.model, f"h{self.asked}"
        self.asked += 1
        factor = model.factor(of)
        amount = math.ceil(asked * factor / 1_000_000)
        answer = await self.reserve(Reservation(name, task, self.tokens[task], asked, ttl_s, agent, of))
        if (refused := model.refusal(model.levels(task, agent, of), amount)) is not None:
            assert isinstance(answer, BudgetExceeded)
            assert (answer.kind, answer.fits_microusd) == (refused[0], refused[1] * 1_000_000 // factor)
        else:
            assert answer is None
            ends = model.now + timedelta(seconds=ttl_s)
            model.holds[name] = Hold(task, amount, ends, agent, of, factor)
            for _, limit, settled, held in model.levels(task, agent, of):
                assert settled + held <= limit

    async def do_reserve_again(self, number: int) -> None:
        if self.model.holds:
            name = self.hold(number % 28)
            hold = self.model.holds[name]
            asked = Reservation(name, hold.task, self.tokens[hold.task], hold.amount, 600)
            assert await self.reserve(asked) is None, "the same answer, whatever became of it"

    async def do_reserve_without_a_lease(self) -> None:
        asked = Reservation("lost", "m1.0", self.tokens["m1.0"] - 1, 1, 600)
        assert isinstance(await self.reserve(asked), LeaseLost)

    async def reserve(self, asked: Reservation) -> Answer:
        (answer,) = await self.stores.ledger.reserve([asked], term=self.term, by="g")
        return answer

    async def do_sent(self, number: int) -> None:
        name = self.hold(number)
        hold = self.model.holds.get(name)
        is_open = hold is not None and hold.state == "open"
        assert await self.stores.requests.sent([name]) == [is_open]
        if hold is not None and is_open:
            hold.sent = True

    async def do_settle(self, number: int, cost: int | float | None) -> None:
        name = self.hold(number)
        done = await self.stores.ledger.settle([Settlement(name, cost)], term=self.term, by="g", **drive.KEEP)
        assert done == [self.model.settle(name, cost)]

    async def do_release(self, number: int) -> None:
        await self.do_settle(number, None)

    async def do_expire(self) -> None:
        assert await self.stores.ledger.expire(term=self.term, by="g") == self.model.expire()

    async def do_wait(self, seconds: int) -> None:
        self.model.now += timedelta(seconds=seconds)
        await clock.set_to(self.base, self.tenant, self.model.now)

    async def do_limit(self, limits: dict[str, int]) -> None:
        await self.stores.ledger.set_limits(limits, by="t")
        self.model.limits = limits

    async def do_old_term(self, number: int) -> None:
        name = self.hold(number)
        ledger, old = self.stores.ledger, self.term - 1
        with pytest.raises(OldTerm):
            await ledger.reserve([Reservation(name, "m1.0", self.tokens["m1.0"], 1, 60)], term=old, by="old")
        with pytest.raises(OldTerm):
            await ledger.settle([Settlement(name, 1)], term=old, by="old", **drive.KEEP)
        with pytest.raises(OldTerm):
            await ledger.expire(term=old, by="old")

    async def do_new_term(self) -> None:
        self.term += 1
        await self.do_expire()  # from the first thing it does, the older governor is refused

    async def compare(self) -> None:
        model, keys = self.model, self.stores.ledger.keys
        balance = await self.stores.ledger.balance()
        assert balance.held == sum(hold.amount for hold in model.open_holds())
        stored = Counter(balance.settled)
        for subject, figures in (await self.stores.ledger.subjects()).items():
            stored.update({f"{subject} {name}": cost for name, cost in figures.settled.items()})
            kind, _, named = subject.partition("/")
            its = [hold for hold in model.open_holds() if getattr(hold, kind) == named]
            assert figures.held == sum(hold.amount for hold in its)
            assert kind == "agent" or figures.factor == model.factor(named) / 1e6
        assert all(model.settled[name] == cost for name, cost in stored.items()), "old windows may be gone"
        assert all(stored[name] == cost for name, cost in model.settled.items() if self.is_kept(name))
        assert min(model.settled.values(), default=0) >= 0
        async with self.base.redis.pipeline() as pipe:
            for mission in BUDGETS:
                pipe.hmget(keys.of("spend", mission), "settled", "held")
            for task in TASKS:
                pipe.hget(keys.of("task", task), "spent")
            pipe.zrange(keys.holds, 0, -1)
            pipe.hgetall(keys.sent)
            first, second, *spent, holds, sent = await pipe.execute()
        for mission, stored in zip(BUDGETS, (first, second), strict=True):
            own = sum(cost for task, cost in model.spent.items() if task.startswith(mission))
            held = sum(hold.amount for hold in model.open_holds(mission))
            assert [int(figure or 0) for figure in stored] == [own, held]
        assert [int(cost or 0) for cost in spent] == [model.spent[task] for task in TASKS]
        is_open = {name: hold for name, hold in model.holds.items() if hold.state == "open"}
        assert set(holds) == set(is_open)
        assert sent == {name: str(int(hold.sent)) for name, hold in is_open.items()}

    async def the_recorder_tells_the_same(self) -> None:
        """A fold over each mission's entries says what it spent and holds, and its tasks."""
        for mission in BUDGETS:
            line = Timeline()
            async for _, event in self.stores.recorder.read(mission_id=mission):
                line.take(event)
            told, own = line.last, self.model.open_holds(mission)
            spent = {task: cost for task, cost in self.model.spent.items() if task.startswith(mission)}
            assert (told.settled_microusd, told.held_microusd) == (
                sum(spent.values()),
                sum(hold.amount for hold in own),
            )
            assert {task: one.settled_microusd for task, one in told.tasks.items()} == {
                task: spent.get(task, 0) for task in told.tasks
            }

    def is_kept(self, name: str) -> bool:
        """Whether a window must still be there."""
        window, _, at = name.rpartition(" ")[2].partition(":")
        return window not in KEPT or at >= (self.model.now - KEPT[window]).strftime(FORMS[window])

    async def end(self) -> None:
        """Time passes: every hold ends, and all sums agree."""
        await self.do("wait", 1_000)
        await self.do("expire")
        balance = await self.stores.ledger.balance()
        assert balance.held == 0
        assert self.model.open_holds() == []
        total = sum(hold.charged for hold in self.model.holds.values())
        assert balance.settled.get("lifetime", 0) == sum(self.model.spent.values()) == total
        await self.the_recorder_tells_the_same()
        for name in ("month", "year"):
            parts = [cost for window, cost in balance.settled.items() if window.startswith(f"{name}:")]
            assert sum(parts) == total


_tenants = itertools.count(1)


async def play(url: str, state_dir: Path, steps: list[tuple[Any, ...]]) -> None:
    base = await open_base(load(redis_url=url, state_dir=state_dir))
    try:
        played = await begun(base, f"model{next(_tenants)}")
        with clock.set_by_hand():
            for one in (("new term",), *steps):
                await played.do(*one)
            await played.end()
    finally:
        await base.close()


async def begun(base: Base, tenant: str) -> Play:
    """Two missions, with all of their tasks under a lease."""
    stores = base.of(tenant)
    for mission, inputs in (("m1", [0, 1]), ("m2", [0])):
        budget = BUDGETS[mission] / 1e6
        await drive.begin(base, tenant, drive.spec(inputs=inputs, budget_usd=f"{budget:.6f}"), mission)
    tokens = {one.task_id: one.token for one in await drive.claim(stores, 3, lease_s=3_600)}
    assert sorted(tokens) == sorted(TASKS)
    await clock.set_to(base, tenant, START)
    return Play(base, tenant, stores, tokens)


@given(steps=steps_.map(lambda parts: [one for part in parts for one in part]))
@settings(max_examples=80, deadline=None)
def test_the_ledger_is_the_models(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play(redis_server.url, tmp_path_factory.getbasetemp(), steps))
