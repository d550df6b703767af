"""Limits over all tenants: strict whatever the order, whoever dies between the steps of a transfer.

Tenants reserve, settle and give back on a clock that runs as it likes, while the governor is cut off in the
middle of its transfers and another takes over. At each grant all tenants' settled + held is within every
fleet limit; and in the end nothing is held, and the fleet's ledger has what the tenants' have, by window.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings, strategies

from chimera.errors import BudgetExceeded, Conflict, RefusalKind, StoreTimeout
from chimera.runtime.base import Base, open_base
from chimera.runtime.desk import settlement
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.transfers import COLD_S, LATE_S, Transfers
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store import keys
from chimera.store.fleetledger import FleetLedger
from chimera.store.keys import FLEET, TENANTS
from chimera.store.ledger import Reservation, Settlement
from chimera.store.signals import Wakeups
from tests.store import clock, drive

START = datetime(2026, 11, 30, 23, 58, 30, tzinfo=UTC)
WINDOWS = {"minute": "minute:%Y-%m-%dT%H:%M", "day": "day:%Y-%m-%d", "lifetime": "lifetime"}
STEPS = ("draw", "take", "close", "pack", "book", "drop")
"""Of a transfer: where a governor may be cut off."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One of its own: the fleet's ledger is the whole store's."""
    with RedisServer(tmp_path_factory.mktemp("fleet"), fsync="no", maxmemory_bytes=1 << 30) as running:
        yield running


class Lead:
    """Leads, under one term."""

    replica = "g"

    async def led(self) -> int:
        return 1


class Cut(FleetLedger):
    """A fleet ledger whose steps fail when told so: before they are done, or once they are."""

    cut: tuple[str, bool] | None = None

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in STEPS or self.cut is None or self.cut[0] != name:
            return method
        done_first = self.cut[1]

        async def cut_off(*args: Any, **named: Any) -> Any:
            self.cut = None
            if done_first:
                await method(*args, **named)
            raise StoreTimeout("cut off")

        return cut_off


class Play:
    def __init__(self, base: Base, tenants: list[str]) -> None:
        self.base, self.tenants = base, tenants
        self.fleet = FleetLedger(base.redis)
        self.now = START
        self.term = 0
        self.limits: dict[str, int] = {}
        self.holds: dict[str, tuple[str, int]] = {}
        self.ids = itertools.count()
        self.lead()

    def lead(self) -> None:
        """Another governor."""
        self.term += 1
        self.transfers = Transfers(self.base)
        self.cut = Cut(self.base.redis)
        self.transfers._fleet = self.cut
        self.anew = True

    async def sums(self) -> tuple[Counter[str], int]:
        """All tenants' settled by window, and held."""
        settled: Counter[str] = Counter()
        held = 0
        for tenant in self.tenants:
            balance = await self.base.of(tenant).ledger.balance()
            settled.update(balance.settled)
            held += balance.held
        return settled, held

    async def do(self, kind: str, *rest: Any) -> None:
        try:
            await getattr(self, f"do_{kind}")(*rest)
        except StoreTimeout:
            self.lead()
        if self.transfers._limited:
            settled, held = await self.sums()
            fleet = await self.fleet.balance()
            for form in WINDOWS.values():
                name = self.now.strftime(form)
                assert fleet.settled.get(name, 0) + fleet.held >= settled[name] + held

    async def do_look(self) -> None:
        await self.transfers.look(self.term, anew=self.anew)
        self.anew = False
        for tenant in self.tenants:
            await self.transfers.tell(tenant, self.term)

    async def do_reserve(self, whose: int, amounts: list[int]) -> None:
        if self.anew:
            await self.do_look()
        tenant = self.tenants[whose]
        asked = [Reservation(f"h{next(self.ids)}", "", 0, amount, 60) for amount in amounts]
        answers = await self.transfers.reserve(self.base.of(tenant).ledger, tenant, asked, self.term, "g")
        granted = [one for one, answer in zip(asked, answers, strict=True) if answer is None]
        self.holds.update({one.hold_id: (tenant, one.amount_microusd) for one in granted})
        if granted and self.transfers._limited:
            settled, held = await self.sums()
            for window, limit in self.limits.items():
                assert settled[self.now.strftime(WINDOWS[window])] + held <= limit, window
        for answer in answers:
            if isinstance(answer, BudgetExceeded):
                assert answer.level.startswith("fleet/")

    async def do_settle(self, which: int, part: int) -> None:
        if self.holds:
            hold = list(self.holds)[which % len(self.holds)]
            tenant, amount = self.holds[hold]
            cost = None if part == 0 else amount * part // 100
            self.transfers.spent(tenant)
            done = [Settlement(hold, cost)]
            await self.base.of(tenant).ledger.settle(done, term=self.term, by="g", **drive.KEEP)

    async def do_sent(self, which: int) -> None:
        if self.holds:
            hold = list(self.holds)[which % len(self.holds)]
            await self.base.of(self.holds[hold][0]).requests.sent([hold])

    async def do_expire(self) -> None:
        for tenant in self.tenants:
            if await self.base.of(tenant).ledger.expire(term=self.term, by="g"):
                self.transfers.spent(tenant)

    async def do_limit(self, limits: dict[str, int]) -> None:
        await self.fleet.set_limits(limits, by="t")
        self.limits = limits
        self.anew = (
            True  # a sweep comes before what is asked next: that a limit binds within one is documented
        )

    async def do_wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        for tenant in (*self.tenants, FLEET):
            await clock.set_to(self.base, tenant, self.now)

    async def do_cut(self, step: str, done_first: bool) -> None:
        self.cut.cut = step, done_first

    async def end(self) -> None:
        """Another governor, and time passes: all comes to rest."""
        self.lead()
        await self.do_wait(100_000)
        await self.do_expire()
        for _ in range(4):
            await self.do_look()
        settled, held = await self.sums()
        fleet = await self.fleet.balance()
        assert (held, fleet.held) == (0, 0)
        months = {name: cost for name, cost in settled.items() if cost and not name.startswith("minute")}
        assert {
            name: cost for name, cost in fleet.settled.items() if cost and not name.startswith("minute")
        } == months


numbers = strategies.integers(0, 30)
step = strategies.one_of(
    strategies.tuples(
        strategies.just("reserve"),
        strategies.integers(0, 2),
        strategies.lists(strategies.integers(1, 300), max_size=4),
    ),
    strategies.tuples(
        strategies.just("reserve"),
        strategies.integers(0, 2),
        strategies.lists(strategies.integers(1, 300), max_size=4),
    ),
    strategies.tuples(strategies.just("settle"), numbers, strategies.sampled_from([0, 5, 100])),
    strategies.tuples(strategies.just("sent"), numbers),
    strategies.tuples(strategies.just("expire")),
    strategies.tuples(strategies.just("look")),
    strategies.tuples(strategies.just("wait"), strategies.sampled_from([1, 20, 70, 90_000])),
    strategies.tuples(strategies.just("cut"), strategies.sampled_from(STEPS), strategies.booleans()),
    strategies.tuples(
        strategies.just("limit"),
        strategies.dictionaries(
            strategies.sampled_from(list(WINDOWS)), strategies.integers(100, 2_000), min_size=1
        ),
    ),
)
_runs = itertools.count(1)


@asynccontextmanager
async def opened(url: str, state_dir: Path) -> AsyncIterator[tuple[Base, list[str]]]:
    base = await open_base(load(redis_url=url, state_dir=state_dir))
    try:
        # The fleet's ledger of the run before, and its tenants.
        await base.redis.delete(TENANTS, *await base.redis.keys("{" + FLEET + "}:*"))
        tenants = [f"t{next(_runs)}" for _ in range(3)]
        for tenant in tenants:
            await base.tenants.add(tenant)
        yield base, tenants
    finally:
        await base.close()


async def play(url: str, state_dir: Path, steps: list[tuple[Any, ...]]) -> None:
    async with opened(url, state_dir) as (base, tenants):
        with clock.set_by_hand():
            played = Play(base, tenants)
            first: list[tuple[Any, ...]] = [("wait", 0), ("limit", {"day": 900})]
            for one in (*first, *steps):
                await played.do(*one)
            await played.end()


@given(steps=strategies.lists(step, max_size=30))
@settings(max_examples=60, deadline=None)
def test_all_tenants_together_stay_within_the_fleets_limits(
    server: RedisServer, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play(server.url, tmp_path_factory.getbasetemp(), steps))


@pytest.fixture
async def two(server: RedisServer, tmp_path: Path) -> AsyncIterator[tuple[Base, list[str]]]:
    async with opened(server.url, tmp_path) as (base, tenants):
        yield base, tenants


async def reserve(
    base: Base, transfers: Transfers, tenant: str, hold: str, amount: int, term: int = 1
) -> Any:
    asked = [Reservation(hold, "", 0, amount, 60)]
    (answer,) = await transfers.reserve(base.of(tenant).ledger, tenant, asked, term, "g")
    return answer


async def test_what_one_tenant_holds_another_cannot_and_gets_when_it_settled(
    two: tuple[Base, list[str]],
) -> None:
    base, (a, b, _) = two
    await FleetLedger(base.redis).set_limits({"day": 1_000}, by="t")
    transfers = Transfers(base)
    await transfers.look(1, anew=True)
    assert await reserve(base, transfers, a, "h1", 800) is None
    refused = await reserve(base, transfers, b, "h2", 300)
    assert isinstance(refused, BudgetExceeded)
    assert (refused.kind, refused.level) == (RefusalKind.CONTENDED, "fleet/day")
    assert refused.left_microusd == 200 - 200 // 16, "the first drew a little ahead"
    await base.of(a).ledger.settle([Settlement("h1", 100)], term=1, by="g", **drive.KEEP)
    transfers.spent(a)
    await transfers.tell(a, 1)
    assert await reserve(base, transfers, b, "h3", 300) is None
    too_much = await reserve(base, transfers, b, "h4", 1_001)
    assert isinstance(too_much, BudgetExceeded)
    assert too_much.kind is RefusalKind.EXHAUSTED
    kinds = [event.kind async for _, event in base.of(b).recorder.read()]
    assert kinds.count("spend.refused") == 2


async def test_a_draw_that_was_cut_off_between_its_steps_returns_by_itself(
    two: tuple[Base, list[str]],
) -> None:
    base, (a, b, _) = two
    fleet = FleetLedger(base.redis)
    await fleet.set_limits({"day": 1_000}, by="t")
    drawn = await fleet.draw(a, need=900, least=900, term=1)  # and its governor dies
    assert (await fleet.balance()).held == 900
    successor = Transfers(base)
    await successor.look(2, anew=True)
    assert (await fleet.balance()).held == 0
    assert not await fleet.take(a, drawn.number, 900, term=2), "late, it is taken by nobody"
    assert await reserve(base, successor, b, "h1", 900, term=2) is None


async def test_what_was_held_before_there_was_a_limit_counts(two: tuple[Base, list[str]]) -> None:
    base, (a, b, _) = two
    transfers = Transfers(base)
    await transfers.look(1, anew=True)
    assert await reserve(base, transfers, a, "h1", 700) is None
    await FleetLedger(base.redis).set_limits({"day": 1_000}, by="t")
    await transfers.look(1, anew=False)
    refused = await reserve(base, transfers, b, "h2", 400)
    assert isinstance(refused, BudgetExceeded)
    assert await reserve(base, transfers, b, "h3", 300) is None


async def test_a_tenant_is_not_removed_before_the_fleet_heard_what_it_spent(
    two: tuple[Base, list[str]],
) -> None:
    base, (a, *_) = two
    fleet = FleetLedger(base.redis)
    await fleet.set_limits({"day": 1_000}, by="t")
    transfers = Transfers(base)
    transfers._tight_until = float("inf")  # nothing is drawn ahead
    await transfers.look(1, anew=True)
    assert await reserve(base, transfers, a, "h1", 100) is None
    await base.of(a).ledger.settle([Settlement("h1", 100)], term=1, by="g", **drive.KEEP)
    with pytest.raises(Conflict, match="1 holds"):
        await base.tenants.wind_up(a, "op", by="o", reason="left")
    transfers.spent(a)
    await transfers.tell(a, 1)
    await base.tenants.wind_up(a, "op", by="o", reason="left")
    found = await fleet.balance()
    assert (found.held, found.settled["lifetime"]) == (0, 100)


async def test_the_fleet_hears_of_a_late_settlement_of_a_tenant_that_was_removed(
    two: tuple[Base, list[str]],
) -> None:
    base, (a, *_) = two
    fleet = FleetLedger(base.redis)
    await fleet.set_limits({"day": 1_000}, by="t")
    async with Wakeups(base.blocking, keys.MONEY) as wakeups:
        governor = Governor(base, cast(Elector, Lead()), wakeups)

        async def sweep() -> None:
            governor._named = set()
            await governor.run_once()

        await sweep()
        assert await reserve(base, governor._transfers, a, "h1", 100) is None
        await base.of(a).requests.sent(["h1"])
        await base.redis.zadd(base.of(a).ledger.keys.holds, {"h1": 1})  # it runs out
        for _ in range(3):
            governor._transfers._tight_until = float("inf")
            await sweep()
        assert (await fleet.balance()).settled["lifetime"] == 100
        await base.tenants.wind_up(a, "op", by="o", reason="left")
        await base.of(a).requests.send("w1", "late", [settlement("h1", 30)])
        governor._named = {a}
        await governor.run_once()
        await sweep()
    assert (await fleet.balance()).settled["lifetime"] == 30


async def test_what_was_drawn_ahead_goes_back_after_two_seconds_of_quiet(two: tuple[Base, list[str]]) -> None:
    base, (a, *_) = two
    fleet = FleetLedger(base.redis)
    await fleet.set_limits({"day": 100_000}, by="t")
    transfers = Transfers(base)
    await transfers.look(1, anew=True)
    assert await reserve(base, transfers, a, "h1", 100) is None
    await base.of(a).ledger.settle([Settlement("h1", 30)], term=1, by="g", **drive.KEEP)
    await transfers.tell(a, 1)
    assert (await fleet.balance()).held == 5 * 100 - 30, "kept for the next call"
    transfers._drew_at[a] -= COLD_S
    await transfers.tell(a, 1)
    found = await fleet.balance()
    assert (found.held, found.settled["lifetime"]) == (0, 30)


async def test_a_draw_that_does_not_arrive_is_given_up_while_its_governor_lives(
    two: tuple[Base, list[str]],
) -> None:
    base, (a, *_) = two
    fleet = FleetLedger(base.redis)
    await fleet.set_limits({"day": 1_000}, by="t")
    transfers = Transfers(base)
    await transfers.look(1, anew=True)
    drawn = await fleet.draw(a, need=900, least=900, term=1)
    await transfers.look(1, anew=False)
    assert (await fleet.balance()).held == 900, "it may be on its way"
    await base.redis.zincrby(fleet.keys.draws, -LATE_S * 1e6, a)
    await transfers.look(1, anew=False)
    assert (await fleet.balance()).held == 0
    assert not await fleet.take(a, drawn.number, 900, term=1)


async def test_what_is_damaged_of_one_tenant_keeps_no_other_from_its_money(
    two: tuple[Base, list[str]],
) -> None:
    base, (a, b, _) = two
    fleet = FleetLedger(base.redis)
    await fleet.set_limits({"day": 1_000}, by="t")
    await fleet.draw(a, need=100, least=100, term=1)  # and its governor dies
    purse = base.of(a).ledger.keys.purse
    await base.redis.set(purse, "no hash")
    try:
        transfers = Transfers(base)
        await transfers.look(2, anew=True)
        assert await reserve(base, transfers, b, "h1", 800, term=2) is None
        assert (await fleet.balance()).held >= 900, "what it drew stays held until it is mended"
    finally:
        await base.redis.delete(purse)
