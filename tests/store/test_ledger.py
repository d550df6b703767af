"""Money in the store: never over a limit at any level, every hold ends once, refusals of the right kind."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings, strategies

from chimera.core.money import Window
from chimera.core.replay import LONGEST_HOLD_S
from chimera.errors import BudgetExceeded, Conflict, LeaseLost, RefusalKind
from chimera.runtime.base import Base, TenantStores
from chimera.settings import Settings
from chimera.store.ledger import MOST_SUBJECTS, Answer, Ledger, Reservation, Settlement
from chimera.store.scripts import OldTerm, Refusal, source
from tests.store import clock, drive


async def leased(base: Base, tenant: str, budget_usd: str = "0.001", inputs: int = 1) -> TenantStores:
    """A mission with leased tasks and a budget (µ$ 1,000 unless said)."""
    mission = drive.spec(inputs=list(range(inputs)), budget_usd=Decimal(budget_usd))
    return await drive.begin(base, tenant, mission)


async def reserve(ledger: Ledger, task: str, token: int, hold: str, amount: int, ttl_s: float = 60) -> Answer:
    (answer,) = await ledger.reserve([Reservation(hold, task, token, amount, ttl_s)], term=drive.TERM, by="g")
    return answer


async def settle(ledger: Ledger, hold: str, cost: int | None) -> bool:
    (answer,) = await ledger.settle([Settlement(hold, cost)], term=drive.TERM, by="g", **drive.KEEP)
    return answer is not Refusal.MISSING


async def test_a_grant_is_held_then_settled_in_every_window(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    assert await reserve(stores.ledger, one.task_id, one.token, "h", 400) is None
    assert (await stores.ledger.balance()).held == 400
    assert await settle(stores.ledger, "h", 150)
    balance = await stores.ledger.balance()
    assert (balance.held, balance.settled["lifetime"], len(balance.settled)) == (0, 150, len(Window))
    mission = await stores.missions.get("m1")
    assert (mission.settled_microusd, mission.held_microusd) == (150, 0)
    assert (await stores.tasks.get("m1.0")).spent_microusd == 150


async def test_asking_and_settling_twice_has_one_effect(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    for _ in range(3):
        assert await reserve(stores.ledger, one.task_id, one.token, "h", 400) is None
    for _ in range(3):
        assert await settle(stores.ledger, "h", 100)
    assert (await stores.missions.get("m1")).settled_microusd == 100
    assert not await settle(stores.ledger, "never", 1)


NO_COSTS = [
    -1,
    -(2**63),
    1.5,
    5.0,
    -0.0,
    1e300,
    float("nan"),
    float("inf"),
    10**12 + 1,
    2**53 + 1,
    2**64,
    10**30,
]
"""What can be no cost of a call."""


@pytest.mark.parametrize("expires", [False, True])
@pytest.mark.parametrize("cost", NO_COSTS)
async def test_what_can_be_no_cost_is_charged_as_the_hold_and_recorded(
    cost: float, expires: bool, base: Base, tenant: str
) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    assert await reserve(stores.ledger, one.task_id, one.token, "h", 400, ttl_s=0 if expires else 60) is None
    if expires:
        assert await stores.ledger.expire(term=drive.TERM, by="g") == 1
    asked = [Settlement("h", cost, "{}", 0, "call", "reply")]
    done = await stores.ledger.settle(asked, term=drive.TERM, by="g", **drive.KEEP)
    assert done == [Refusal.NO_COST]
    assert await stores.ledger.settle(asked, term=drive.TERM, by="g", **drive.KEEP) == [None], "once"
    balance = await stores.ledger.balance()
    assert (balance.held, set(balance.settled.values())) == (0, {400})
    assert (await stores.missions.get("m1")).settled_microusd == 400
    assert (await stores.tasks.get("m1.0")).spent_microusd == 400
    (event,) = [event async for _, event in stores.recorder.read() if event.kind == "spend.settled"]
    assert (event.details["cost"], event.details["asked"]) == (400, str(cost)[:40])
    assert event.details["kept"] is True, "the reply was paid for"


async def test_the_greatest_cost_there_may_be_is_charged_as_it_is(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h", 400)
    done = [Settlement("h", 10**12)]
    assert await stores.ledger.settle(done, term=drive.TERM, by="g", **drive.KEEP) == [None]
    assert (await stores.missions.get("m1")).settled_microusd == 10**12
    (event,) = [event async for _, event in stores.recorder.read() if event.kind == "spend.settled"]
    assert "asked" not in event.details


async def test_the_same_twice_in_one_call_has_one_effect_too(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    asked = [Reservation(hold, one.task_id, one.token, 100, 60) for hold in ("h1", "h2", "h1", "h3")]
    assert await stores.ledger.reserve(asked[:1], term=drive.TERM, by="g") == [None]
    assert await stores.ledger.reserve([*asked, asked[-1]], term=drive.TERM, by="g") == [None] * 5
    assert (await stores.ledger.balance()).held == 300
    assert await stores.requests.sent(["h1", "h4", "h2", "h1"]) == [True, False, True, True]
    ended = [Settlement("h1", 10), Settlement("h2", None), Settlement("h1", 90), Settlement("h4", 1)]
    assert await stores.ledger.settle(ended, term=drive.TERM, by="g", **drive.KEEP) == [None] * 3 + [
        Refusal.MISSING
    ]
    mission = await stores.missions.get("m1")
    assert (mission.settled_microusd, mission.held_microusd) == (10, 100)
    assert (await stores.tasks.get("m1.0")).spent_microusd == 10
    assert await base.redis.hgetall(stores.ledger.keys.sent) == {"h3": "0"}
    assert await base.redis.zrange(stores.ledger.keys.holds, 0, -1) == ["h3"]


async def test_thousands_in_one_call_are_each_done(base: Base, tenant: str) -> None:
    """More than Lua can unpack at once."""
    stores = await leased(base, tenant, budget_usd="1")
    (one,) = await drive.claim(stores, lease_s=60)
    holds = [f"h{number}" for number in range(2_500)]
    asked = [Reservation(hold, one.task_id, one.token, 1, 60) for hold in holds]
    assert await stores.ledger.reserve(asked, term=drive.TERM, by="g") == [None] * len(holds)
    assert await stores.requests.sent(holds) == [True] * len(holds)
    assert set((await base.redis.hgetall(stores.ledger.keys.sent)).values()) == {"1"}
    ended = [Settlement(hold, 1) for hold in holds]
    assert await stores.ledger.settle(ended, term=drive.TERM, by="g", **drive.KEEP) == [None] * len(holds)
    assert await base.redis.exists(stores.ledger.keys.sent, stores.ledger.keys.holds) == 0
    assert (await stores.missions.get("m1")).settled_microusd == len(holds)


async def test_a_refusal_says_its_kind_and_its_figures(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h1", 700)
    contended = await reserve(stores.ledger, one.task_id, one.token, "h2", 400)
    assert isinstance(contended, BudgetExceeded)
    assert (contended.kind, contended.level, contended.held_microusd) == (
        RefusalKind.CONTENDED,
        "mission",
        700,
    )
    await settle(stores.ledger, "h1", 700)
    exhausted = await reserve(stores.ledger, one.task_id, one.token, "h2", 400)
    assert isinstance(exhausted, BudgetExceeded)
    assert exhausted.kind is RefusalKind.EXHAUSTED
    mission = await stores.missions.get("m1")
    assert mission.wanted_microusd == 400
    status = await stores.missions.settle("m1", term=drive.TERM, by="t")
    assert status is not None
    assert (status.value, (await stores.missions.get("m1")).reason) == ("FAILED", "budget_exceeded")


async def test_a_tenants_window_refuses_until_it_resets(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant, budget_usd="1")
    await stores.ledger.set_limits({Window.DAY: 1000, Window.LIFETIME: 10**6}, by="t")
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h1", 900)
    await settle(stores.ledger, "h1", 900)
    refused = await reserve(stores.ledger, one.task_id, one.token, "h2", 200)
    assert isinstance(refused, BudgetExceeded)
    assert (refused.kind, refused.level) == (RefusalKind.WINDOW, "tenant/day")
    assert 0 < refused.retry_after_s <= 86_400
    assert (await stores.missions.get("m1")).wanted_microusd == 0, "the mission is not exhausted"
    never = await reserve(stores.ledger, one.task_id, one.token, "h3", 1001)
    assert isinstance(never, BudgetExceeded)
    assert never.kind is RefusalKind.EXHAUSTED


async def test_what_would_fit_after_an_overrun_fits_when_it_is_asked_for(base: Base, tenant: str) -> None:
    """More is held for the model's calls then: what fits is told as it is asked for, not as it is held."""
    ledger = base.of(tenant).ledger
    await ledger.set_limits({"day": 1_000}, by="t")

    async def ask(hold: str, amount: int) -> Answer:
        (answer,) = await ledger.reserve(
            [Reservation(hold, "", 0, amount, 60, "", "m")], term=drive.TERM, by="g"
        )
        return answer

    assert await ask("h1", 100) is None
    await settle(ledger, "h1", 200)
    refused = await ask("h2", 500)
    assert isinstance(refused, BudgetExceeded)
    assert refused.fits_microusd == 363, "800 are left, and 2.2 times as much is held"
    assert await ask("h3", refused.fits_microusd + 1) is not None
    assert await ask("h4", refused.fits_microusd) is None


@pytest.mark.parametrize("change", [{"day": 11}, {"day": None}, {"hour": 1, "day": 11}])
async def test_who_may_not_raise_a_limit_does_not_raise_one_that_was_lowered_meanwhile(
    base: Base, tenant: str, change: dict[str, int | None]
) -> None:
    ledger = base.of(tenant).ledger
    await ledger.set_limits({"day": 10}, by="t")
    with pytest.raises(Conflict, match="lowered meanwhile"):
        await ledger.change_limits(change, "op", by="t", reason="", may_raise=False)
    assert await ledger.limits() == {"day": 10}
    lowered = await ledger.change_limits({"day": 10, "hour": 2}, "op", by="t", reason="", may_raise=False)
    assert lowered == {"day": 10, "hour": 2}


async def test_reserving_needs_the_lease_and_settling_does_not(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (old,) = await drive.claim(stores)
    assert await reserve(stores.ledger, old.task_id, old.token, "h1", 100) is None
    await base.redis.zadd(stores.tasks.keys.leases, {old.task_id: 1})
    (new,) = await drive.claim(stores, worker="w2")
    lost = await reserve(stores.ledger, old.task_id, old.token, "h2", 100)
    assert isinstance(lost, LeaseLost)
    assert lost.holder == "w2"
    assert await reserve(stores.ledger, new.task_id, new.token, "h3", 100) is None
    assert await settle(stores.ledger, "h1", 80), "spent money is never refused"


async def test_a_judge_reserves_under_its_review(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await drive.hand_in(stores, one)
    (held,) = await drive.review(stores)
    assert await reserve(stores.ledger, held.task_id, held.token, "h", 100) is None
    assert isinstance(await reserve(stores.ledger, held.task_id, one.token, "h2", 100), LeaseLost)


async def test_a_sent_hold_that_ran_out_is_charged_at_its_worst_case_and_corrected_late(
    base: Base, tenant: str
) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h", 400, ttl_s=0)
    assert await stores.requests.sent(["h"]) == [True]
    assert await stores.ledger.expire(term=drive.TERM, by="g") == 1
    assert (await stores.missions.get("m1")).settled_microusd == 400
    assert await settle(stores.ledger, "h", 30)
    mission = await stores.missions.get("m1")
    assert (mission.settled_microusd, mission.held_microusd) == (30, 0)
    assert (await stores.tasks.get("m1.0")).spent_microusd == 30


async def test_a_hold_that_ran_out_unsent_is_released_and_none_may_be_sent_under_it(
    base: Base, tenant: str
) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h", 400, ttl_s=0)
    assert await stores.ledger.expire(term=drive.TERM, by="g") == 1
    mission = await stores.missions.get("m1")
    assert (mission.settled_microusd, mission.held_microusd) == (0, 0)
    assert await stores.requests.sent(["h"]) == [False]
    # Asked again, it is the same hold, and still none to send under.
    assert await reserve(stores.ledger, one.task_id, one.token, "h", 400) is None
    assert await stores.requests.sent(["h"]) == [False]
    assert await settle(stores.ledger, "h", 30), "spent all the same: never refused"
    assert (await stores.missions.get("m1")).settled_microusd == 30


def test_the_script_counts_as_many_subjects_one_by_one_as_is_said() -> None:
    assert f"MOST_SUBJECTS, OTHERS = {MOST_SUBJECTS}," in source("reserve_holds")


async def test_no_hold_lives_longer_than_four_hours_whatever_is_asked_for(base: Base, tenant: str) -> None:
    ledger = base.of(tenant).ledger
    assert await reserve(ledger, "", 0, "h", 400, ttl_s=1e12) is None
    ((_, ends_us),) = await base.redis.zrange(ledger.keys.holds, 0, -1, withscores=True)
    seconds, _ = await base.redis.time()
    assert 0 < ends_us / 1e6 - int(seconds) <= LONGEST_HOLD_S + 1


def test_the_longest_hold_is_the_longest_that_the_settings_ask_for() -> None:
    most = {name: field.metadata for name, field in Settings.model_fields.items()}

    def at_most(name: str) -> float:
        (bound,) = (one.le for one in most[name] if hasattr(one, "le"))
        return float(bound)

    calls = max(at_most("chat_stream_s"), at_most("model_timeout_s"))
    assert calls + at_most("hold_ttl_s") == LONGEST_HOLD_S


@pytest.mark.parametrize("cost", [100, None])
async def test_an_ended_hold_is_none_to_send_under(base: Base, tenant: str, cost: int | None) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h", 400)
    assert await stores.requests.sent(["h", "never"]) == [True, False]
    await settle(stores.ledger, "h", cost)
    assert await stores.requests.sent(["h"]) == [False]
    assert await base.redis.exists(stores.ledger.keys.sent) == 0


async def test_a_settlement_counts_in_the_window_of_its_own_time(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    with clock.set_by_hand():
        await clock.set_to(base, tenant, datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))
        await reserve(stores.ledger, one.task_id, one.token, "h", 400)
        await clock.set_to(base, tenant, datetime(2026, 11, 23, 0, 0, 1, tzinfo=UTC))
        await settle(stores.ledger, "h", 150)
    settled = (await stores.ledger.balance()).settled
    assert settled["day:2026-11-23"] == settled["month:2026-11"] == 150
    assert "day:2026-11-22" not in settled


async def test_a_late_settlement_gives_back_to_the_window_that_was_charged(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    with clock.set_by_hand():
        await clock.set_to(base, tenant, datetime(2026, 11, 22, 23, 59, tzinfo=UTC))
        await reserve(stores.ledger, one.task_id, one.token, "h", 400, ttl_s=0)
        await stores.requests.sent(["h"])
        await stores.ledger.expire(term=drive.TERM, by="g")
        await clock.set_to(base, tenant, datetime(2026, 11, 23, 0, 1, tzinfo=UTC))
        await settle(stores.ledger, "h", 30)
    settled = (await stores.ledger.balance()).settled
    # Else today would have room for 370 more than its limit.
    assert (settled["day:2026-11-22"], settled.get("day:2026-11-23", 0)) == (30, 0)
    assert settled["lifetime"] == 30


async def test_an_older_governor_is_refused(base: Base, tenant: str) -> None:
    stores = await leased(base, tenant)
    (one,) = await drive.claim(stores)
    await reserve(stores.ledger, one.task_id, one.token, "h", 1)
    for call in (
        stores.ledger.reserve([Reservation("x", one.task_id, one.token, 1, 1)], term=1, by="old"),
        stores.ledger.settle([Settlement("h", 1)], term=1, by="old", **drive.KEEP),
        stores.ledger.expire(term=1, by="old"),
        stores.ledger.forget([("m1.0", 0)], term=1),
    ):
        with pytest.raises(OldTerm):
            await call


async def test_a_thousand_at_once_never_overshoot(base: Base, tenant: str) -> None:
    """1,000 callers on a budget for about 200 worst cases: no instant has settled + held over it."""
    stores = await leased(base, tenant, budget_usd="0.02", inputs=50)
    base.redis.connection_pool.timeout = 100  # seconds: all of them wait for one of a few connections
    claims = await drive.claim(stores, 50)
    draw = random.Random(7)
    granted = 0

    async def call(number: int) -> None:
        nonlocal granted
        one = claims[number % 50]
        if await reserve(stores.ledger, one.task_id, one.token, f"h{number}", 100) is None:
            granted += 1
            mission = await stores.missions.get("m1")
            assert mission.settled_microusd + mission.held_microusd <= 20_000
            await settle(stores.ledger, f"h{number}", draw.choice([None, 5, 100]))

    await asyncio.gather(*(call(number) for number in range(1000)))
    mission = await stores.missions.get("m1")
    assert granted >= 200
    assert mission.held_microusd == 0
    assert mission.settled_microusd <= 20_000
    balance = await stores.ledger.balance()
    assert balance.settled["lifetime"] == mission.settled_microusd


PROBE = (
    source("expire_holds").partition("local k = keys")[0]
    + """
local c = calendar(tonumber(ARGV[1]))
local out = {}
for _, w in ipairs(WINDOWS) do out[#out + 1] = window_id(w, c); out[#out + 1] = resets_in(w, c) end
return out
"""
)


@given(moment=strategies.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))
@settings(max_examples=60, deadline=None)
def test_windows_follow_the_utc_calendar(redis_server: object, moment: datetime) -> None:
    from redis import Redis

    client = Redis.from_url(redis_server.url, decode_responses=True)  # type: ignore[attr-defined]  # (untyped there)
    at = moment.replace(tzinfo=UTC, microsecond=0)
    answer = client.eval(PROBE, 0, int(at.timestamp() * 1e6))
    found = dict(zip(answer[::2], answer[1::2], strict=True))
    expected = {
        f"minute:{at:%Y-%m-%dT%H:%M}": 60 - at.second,
        f"hour:{at:%Y-%m-%dT%H}": 3600 - at.minute * 60 - at.second,
        f"day:{at:%Y-%m-%d}": 86400 - (at.hour * 3600 + at.minute * 60 + at.second),
        f"month:{at:%Y-%m}": _until(at, datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)),
        f"year:{at:%Y}": _until(at, datetime(at.year + 1, 1, 1, tzinfo=UTC)),
        "lifetime": 0,
    }
    assert found == expected
    client.close()


def _until(at: datetime, then: datetime) -> int:
    return int((then - at).total_seconds())
