"""The panels of the costs page say what the ledger, the report and the recorder say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chimera.core.brake import BrakeState
from chimera.core.report import LevelView
from chimera.core.usage import By
from chimera.dashboard.brake import brake_panel, what_stops
from chimera.dashboard.breakdown import BreakdownPanel, Days, breakdown_panel
from chimera.dashboard.flags import flags_panel
from chimera.dashboard.spend import soonest, spend_panel
from chimera.runtime.base import Base
from chimera.runtime.spending import Question, report
from chimera.store import keys
from chimera.store.brakes import BrakeStore, Order
from chimera.store.keys import TenantKeys
from tests.dashboard.trips import trips
from tests.store import paid

OTHER = "other-costs"


@pytest.fixture
async def spent(base: Base, tenant: str) -> None:
    """Limits, a budget, money settled and held, and a refusal."""
    stores, claims = await paid.leased(base, tenant, inputs=3)
    await stores.ledger.set_limits({"day": 10_000, "model/gpt/hour": 5_000}, by="test")
    await paid.call(stores, claims[0], 1_200, agent="writer")
    await paid.call(stores, claims[1], 300, agent="reader")
    assert isinstance(await paid.hold(stores, claims[2], 400), str)
    assert not isinstance(await paid.hold(stores, claims[2], 50_000), str)


async def order(base: Base, tenant: str, what: Order, reason: str) -> None:
    await BrakeStore(base.redis).order(
        tenant, what, reason, by="key:1", reason=reason, seconds=60 if what is Order.OVERRIDE else 0
    )


@pytest.mark.usefixtures("spent")
async def test_one_tenants_panel_says_what_its_report_says(base: Base, tenant: str) -> None:
    panel = await spend_panel(base, [tenant], whole=False)
    told = await report(base, tenant, Question())
    assert panel.outlook is not None
    same = {
        "settled_microusd",
        "held_microusd",
        "levels",
        "flags",
        "pace_hour",
        "pace_day",
        "year",
        "year_note",
    }
    assert panel.outlook.model_dump(include=same) == told.model_dump(include=same)
    assert panel.outlook.held_microusd == 400
    by_name = {level.level: level for level in panel.outlook.levels}
    assert by_name["tenant/day"].settled_microusd == 1_500
    assert by_name["mission"].mission_id == "m1"
    assert (panel.day_microusd, panel.held_microusd) == (1_500, 400)
    (flag,) = (await flags_panel(base, [tenant])).flags
    assert (flag.tenant, flag.level, flag.count) == (tenant, "tenant/day", 1)
    assert panel.outlook.flags[0].level == "tenant/day"


@pytest.mark.usefixtures("spent")
async def test_every_tenant_has_a_line_and_who_is_nearest_its_limit_says_so(base: Base, tenant: str) -> None:
    await base.tenants.add(OTHER)
    try:
        panel = await spend_panel(base, [OTHER, tenant], whole=True)
    finally:
        await base.tenants.remove(OTHER)
    mine, other = panel.tenants
    assert (mine.tenant, other.tenant) == (tenant, OTHER)
    assert (mine.day_microusd, mine.held_microusd, mine.flags) == (1_500, 400, 1)
    assert mine.fullest is not None
    assert mine.fullest.level == "model/gpt/hour"  # 1,900 of 5,000 before 1,900 of 10,000
    assert (other.day_microusd, other.fullest, other.flags) == (0, None, 0)
    assert panel.outlook is None
    assert (panel.day_microusd, panel.held_microusd) == (1_500, 400)


async def test_the_brakes_log_is_what_the_recorder_has(base: Base, tenant: str) -> None:
    for what, why in ((Order.FREEZE, "we look"), (Order.THAW, "all is well"), (Order.OVERRIDE, "a big day")):
        await order(base, tenant, what, why)
    panel = await brake_panel(base, [tenant], whole=False)
    events = [
        (event.at.replace(microsecond=event.at.microsecond // 1000 * 1000), event.by, event.details["reason"])
        async for _, event in base.of(tenant).recorder.read()
        if event.kind == "brake.changed"
    ]
    assert [(move.at, move.by, move.reason) for move in panel.moves] == events[::-1]
    assert [(move.before, move.after) for move in panel.moves] == [
        *(("open", "open"), ("frozen", "open"), ("open", "frozen"))
    ]
    (brake,) = panel.brakes
    assert brake.governor is not None
    assert (brake.governor.state, brake.governor.reason) == (BrakeState.OPEN, "a big day")
    assert brake.governor.override_until is not None


async def test_the_log_keeps_the_newest_changes_alone(base: Base, tenant: str) -> None:
    for number in range(55):
        await order(base, tenant, Order.FREEZE, f"f{number}")
        await order(base, tenant, Order.THAW, f"t{number}")
    moves = await BrakeStore(base.redis).moves(tenant, 1_000)
    assert len(moves) == 100
    assert moves[0].reason == "t54"


async def test_a_brake_that_cannot_be_read_hides_nothing_else(base: Base, tenant: str) -> None:
    await base.redis.hset(TenantKeys(tenant).brake, "state", "ajar")
    (brake,) = (await brake_panel(base, [tenant], whole=False)).brakes
    assert brake.governor is None
    assert "governor freeze" in brake.damaged
    (line,) = (await spend_panel(base, [tenant], whole=True)).tenants
    assert line.brake is None


async def test_of_all_tenants_those_are_told_whose_brake_is_not_open(base: Base, tenant: str) -> None:
    several = [tenant, f"{tenant}-b", f"{tenant}-c"]
    await order(base, tenant, Order.FREEZE, "we look")
    await order(base, several[1], Order.OVERRIDE, "a big day")
    panel = await brake_panel(base, several, whole=True)
    assert [one.tenant for one in panel.brakes] == several[:2]
    assert (panel.open, panel.moves) == (1, ())


async def test_the_fleets_limits_are_told_where_all_tenants_are(base: Base, tenant: str) -> None:
    limits = TenantKeys(keys.FLEET).limits
    await base.redis.hset(limits, "day", 7_000_000)
    try:
        told = await spend_panel(base, [tenant], whole=True)
        untold = await spend_panel(base, [tenant], whole=False)
    finally:
        await base.redis.hdel(limits, "day")
    assert [(one.level, one.limit_microusd) for one in told.fleet] == [("fleet/day", 7_000_000)]
    assert untold.fleet == ()


@pytest.mark.usefixtures("spent")
async def test_what_a_freeze_stops_is_named_before_it_is_done(base: Base, tenant: str) -> None:
    found = await what_stops(base, tenant)
    assert (found.missions, found.goals, found.leases, found.waiting, found.calls) == (1, ("try",), 3, 0, 1)
    assert found.governor.state == "open"


def test_the_limit_that_is_reached_first_is_named() -> None:
    at = datetime(2026, 11, 29, 12, tzinfo=UTC)
    levels = [
        LevelView(
            level=name,
            limit_microusd=1,
            settled_microusd=0,
            held_microusd=0,
            left_microusd=1,
            cap_at=None if hours is None else at + timedelta(hours=hours),
        )
        for name, hours in (("never", None), ("late", 10), ("soon", 2))
    ]
    found = soonest(levels)
    assert found is not None
    assert found.level == "soon"
    assert soonest(levels[:1]) is None


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(
    ("by", "rows"),
    [
        (By.MODEL, [("gpt", 1_500)]),
        (By.AGENT, [("writer", 1_200), ("reader", 300)]),
        (By.MISSION, [("m1", 1_500)]),
    ],
)
async def test_what_money_went_to_is_told_apart_and_comes_to_the_same(
    base: Base, tenant: str, by: By, rows: list[Any]
) -> None:
    panel = await breakdown_panel(base, tenant, by, Days.WEEK)
    assert [(row.name, row.cost_microusd) for row in panel.rows] == rows
    assert panel.total_microusd == 1_500
    assert BreakdownPanel.model_validate_json(panel.model_dump_json()) == panel


async def test_a_hundred_tenants_cost_no_more_round_trips_than_one(base: Base, tenant: str) -> None:
    many = [f"{tenant}-{number}" for number in range(100)]
    counts = []
    for some in (many[:1], many):
        await spend_panel(base, some, whole=True)  # scripts are loaded, connections there
        with trips(base) as count:
            await spend_panel(base, some, whole=True)
        counts.append(count())
    assert 0 < counts[0] == counts[1] <= 8
