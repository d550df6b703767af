"""Throughput says what the tally counted: rates of a window, latencies, and the curve of an hour."""

from __future__ import annotations

from chimera.core.gauges import Gauges
from chimera.core.series import Sample
from chimera.core.tally import FIELDS, Tally
from chimera.dashboard.throughput import (
    CURVES,
    RATES,
    TOLD,
    Histories,
    History,
    Span,
    curves,
    throughput_panel,
)
from chimera.runtime.base import Base
from chimera.store.series import add, look, now_ms
from tests.dashboard.trips import trips
from tests.store import drive


def sample(at_ms: int, **totals: int) -> Sample:
    """A sample; `task_accepted` is `task.accepted`."""
    named = {name.replace("_", ".", 1): total for name, total in totals.items()}
    return Sample(at_ms, Tally(named), Gauges())


async def noted(base: Base, tenant: str, *ago_s: float, **totals: int) -> None:
    """Samples of so long ago, each with more."""
    now = await now_ms(base.redis)
    samples = [
        sample(now - round(ago * 1_000), **{name: step * place for name, step in totals.items()})
        for place, ago in enumerate(ago_s)
    ]
    await add(base.redis, {tenant: samples}, term=1)


def test_every_name_is_counted() -> None:
    for kinds in (*CURVES.values(), *(kinds for _, kinds in RATES.values())):
        assert set(kinds) <= set(FIELDS)
    for rows in TOLD.values():
        for kinds in rows.values():
            assert set(kinds) <= set(FIELDS)


async def test_a_window_tells_what_was_done_in_it_and_how_long_it_took(base: Base, tenant: str) -> None:
    await add(base.redis, {tenant: [sample(1_000)]}, term=drive.TERM)
    stores = await drive.over(base, tenant, inputs=3)
    (one,) = [await drive.begin(base, tenant, drive.spec(inputs=["x"]), "m2")]
    (claim,) = await drive.claim(one)
    await drive.hand_in(stores, claim)
    (held,) = await drive.review(stores)
    await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    await add(base.redis, {tenant: [(await look(base.redis, [tenant]))[tenant]]}, term=drive.TERM)
    panel = await throughput_panel(base, [tenant], Span.FIVE_MINUTES)
    counts = {row.name: row.count for row in panel.rates}
    assert counts["accepted"] == 3
    assert (counts["submitted"], counts["escalated"], counts["missions"]) == (4, 1, 2)
    assert panel.covered_s == 300
    assert {row.name: row.per_s for row in panel.rates}["accepted"] == 3 / 300
    assert panel.verdicts == {
        **{"accept": 3, "reject": 0, "escalate": 1},
        **{"approved by a human": 0, "rejected by a human": 0},
    }
    by_name = {row.name: row for row in panel.latencies}
    assert by_name["attempt"].count == 4
    assert by_name["task:medium"].count == 3
    assert by_name["verdict"].p99_ms is not None
    assert by_name["model"].p50_ms is None


async def test_what_lies_before_the_window_is_not_counted(base: Base, tenant: str) -> None:
    await noted(base, tenant, 3_000, 1_000, 600, 100, 10, task_accepted=7)
    counts = []
    for span in Span:
        panel = await throughput_panel(base, [tenant], span)
        counts.append({row.name: row.count for row in panel.rates}["accepted"])
    assert counts == [14, 21, 28]
    assert panel.covered_s < 3_600
    assert round(panel.covered_s) == 3_000


async def test_a_tenant_that_was_never_sampled_is_not_known(base: Base, tenant: str) -> None:
    panel = await throughput_panel(base, [tenant], Span.HOUR)
    assert (panel.covered_s, panel.rates[0].per_s) == (0, None)


def test_the_curve_gives_each_step_what_happened_in_it() -> None:
    now = 10_000_005_000
    points = [
        (now - 3_590_000, (10, 0, 0, 0)),
        (now - 25_000, (10, 0, 0, 0)),
        (now - 20_000, (40, 20, 0, 0)),
        (now - 15_000, (40, 20, 5, 0)),
        (now - 8_000, (5, 25, 5, 0)),  # the store lost what it had: it began anew
        (now - 1_000, (500, 25, 5, 0)),  # of the step that is not over
    ]
    found = curves([points, points], now).series
    assert len(found.at) == 360
    assert (found.at[0], found.at[-1]) == (10_000_000 - 3_600, 10_000_000 - 10)
    assert found.submitted[-3:] == (0, 6.0, 1.0)
    assert found.accepted[-3:] == (0, 4.0, 1.0)
    assert found.rejected[-3:] == (0, 0, 1.0)
    assert sum(found.submitted[:-2]) == 0
    minutes = curves([points], now).minutes
    assert minutes.at == tuple(sorted(minutes.at, reverse=True))
    assert len(minutes.at) == 60


async def test_an_hour_is_read_once_and_then_only_what_is_new(base: Base, tenant: str) -> None:
    histories, many = Histories(), [f"{tenant}-{number}" for number in range(50)]
    await noted(base, tenant, 3_000, 60, 30, task_accepted=60)
    first = await histories.rates(base, [tenant, *many])
    assert sum(first.series.accepted) * 10 == 120
    with trips(base) as count:
        again = await histories.rates(base, [tenant, *many])
    assert count() == 2, "the clock, and what is new of all"
    assert sum(again.series.accepted) == sum(first.series.accepted)
    alone = await histories.rates(base, [tenant])
    assert alone.series.accepted == again.series.accepted


def test_what_is_older_than_an_hour_is_let_go_but_for_how_the_hour_began() -> None:
    history, now = History(), 10_000_000_000
    history.add([sample(now - ago * 1_000, task_accepted=1) for ago in (9_000, 8_000, 100)], now)
    assert [now - at for at, _ in history.points] == [8_000_000, 100_000]


async def test_a_hundred_tenants_cost_no_more_round_trips_than_one(base: Base, tenant: str) -> None:
    many = [f"{tenant}-{number}" for number in range(100)]
    counts = []
    for some in (many[:1], many):
        with trips(base) as count:
            await throughput_panel(base, some, Span.HOUR)
        counts.append(count())
    assert counts == [2, 2]
