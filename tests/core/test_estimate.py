"""What a mission will cost: low, likely and worst, what they rest on, and what they fit into."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies
from pydantic import ValidationError

from chimera.core.estimate import (
    ENOUGH_TASKS,
    JUDGE,
    Asking,
    Bounds,
    History,
    Part,
    Past,
    Rate,
    estimate,
    judging,
    sizes_of,
    tasks_by_stage,
    work,
)
from chimera.core.forecast import EstimateRequest, EstimateView
from chimera.core.mission import MissionSpec
from chimera.core.recurrence import YEAR_H, Every
from chimera.core.spending import Level
from tests.core.ledgers import Book

RATE = Rate("gpt", lambda i, o: i + 2 * o, lambda i, o: 2 * i + 2 * o, "test")
BOUNDS = Bounds(attempts=3, tries=4, judgings=3, width=20, result_bytes=1_000)
ASKING = Asking(likely_bytes=400, most_bytes=1_000, frame_tokens=128, max_tokens=100, known=True)


def spec(**fields: Any) -> MissionSpec:
    base = {"goal": "g", "agent": "writer", "inputs": [1, 2, 3], "budget_usd": Decimal(1)}
    return MissionSpec(**{**base, **fields})


def part(agent: str = "writer", likely: int = 100, worst: int | None = 400, call: int = 10) -> Part:
    return Part("map", agent, "gpt", 3, likely // 2, likely, worst, call, "")


def test_the_worst_case_is_every_attempt_and_try_at_its_most() -> None:
    mission = spec()
    found = work("map", mission.stages["map"], 3, ASKING, RATE, None, BOUNDS)
    assert found.call_microusd == 2 * (400 + 128) + 2 * 100, "of usual size"
    assert found.worst_microusd == 3 * 3 * 4 * (2 * (1_000 + 128) + 2 * 100)


def test_without_a_history_assumptions_are_made_and_told() -> None:
    found = work("map", spec().stages["map"], 10, ASKING, RATE, None, BOUNDS)
    assert found.likely_microusd == 10 * (100 + 2 * 50) * 1.2
    assert found.low_microusd == 10 * (80 + 2 * 10)
    assert "assumed" in found.rests_on
    assert "1.2 attempts a task" in found.rests_on


def test_a_history_replaces_assumptions_and_is_told() -> None:
    past = Past(tasks=50, calls=75, low=7, likely=12.5, days=7)
    found = work("map", spec().stages["map"], 10, ASKING, RATE, past, BOUNDS)
    assert (found.low_microusd, found.likely_microusd) == (70, 125)
    assert "75 calls for 50 tasks of writer in the last 7 days" in found.rests_on


@pytest.mark.parametrize("past", [Past(50, 50, 7, 1e6, 7), Past(20, 20, 100, 90.1, 7)])
def test_whatever_the_history_says_low_likely_and_worst_are_in_their_order(past: Past) -> None:
    for found in (
        work("map", spec().stages["map"], 10, ASKING, RATE, past, BOUNDS),
        judging("map", 1, 10, ASKING, RATE, past, BOUNDS),
    ):
        assert found.worst_microusd is not None
        assert found.low_microusd <= found.likely_microusd <= found.worst_microusd


def test_what_an_agents_own_code_calls_only_the_budget_bounds() -> None:
    asking = Asking(400, 1_000, 128, 100, known=False)
    one = work("map", spec().stages["map"], 3, asking, RATE, None, BOUNDS)
    assert one.worst_microusd is None
    found = estimate(spec(), 3, [one], [], BOUNDS)
    assert (found.worst_microusd, found.plan_worst_microusd) == (1_000_000, None)
    assert any("the budget alone bounds its worst case" in note for note in found.notes)


def test_a_likely_cost_above_the_budget_does_not_fit_whatever_bounds_the_worst() -> None:
    found = estimate(spec(budget_usd=Decimal("0.00005")), 3, [part(worst=None)], [], BOUNDS)
    assert found.fits[0].verdict == "no"


def test_judging_calls_are_counted_with_every_failure_to_judge() -> None:
    found = judging("map", 2, 10, ASKING, RATE, None, BOUNDS)
    call = 2 * (1_000 + 128) + 2 * 100
    assert found.worst_microusd == 10 * 3 * 2 * 3 * 4 * call
    assert found.agent == JUDGE


def test_the_reduce_trees_tasks_are_counted() -> None:
    mission = spec(plan={"strategy": "map_reduce", "width": 2}, inputs=list(range(5)))
    assert tasks_by_stage(mission, 5, 20) == {"map": 5, "reduce": 3 + 2 + 1}
    dag = spec(inputs=[], plan={"strategy": "dag", "nodes": [{"name": "a"}, {"name": "b"}]})
    assert tasks_by_stage(dag, 0, 20) == {"a": 1, "b": 1}


@pytest.mark.parametrize(("left", "verdict"), [(400, "fits"), (399, "likely"), (100, "likely"), (99, "no")])
def test_what_is_left_of_a_limit_decides_what_fits(left: int, verdict: str) -> None:
    level = Level("tenant/day", 10_000, 10_000 - left, 0)
    own, found = estimate(spec(), 3, [part()], [level], BOUNDS).fits
    assert (own.level, own.verdict) == ("mission", "fits")
    assert (found.verdict, found.left_microusd) == (verdict, left)


def test_a_call_that_reserves_more_than_the_whole_limit_never_runs() -> None:
    found = estimate(spec(), 3, [part(call=11)], [Level("model/gpt/hour", 10, 0, 0)], BOUNDS).fits[1]
    assert found.verdict == "never"


def test_an_agents_or_models_limit_counts_its_own_parts() -> None:
    parts = [part("writer", 100, 400), part(JUDGE, 10, 40)]
    levels = [Level(name, 1_000, 0, 0) for name in ("agent/writer/day", "agent/judge/day", "model/gpt/day")]
    levels.append(Level("agent/other/day", 1, 0, 0))
    found = {one.level: one.likely_microusd for one in estimate(spec(), 3, parts, levels, BOUNDS).fits}
    assert found == {"mission": 110, "agent/writer/day": 100, "agent/judge/day": 10, "model/gpt/day": 110}


def test_no_figure_is_above_the_budget_and_a_budget_too_small_is_told() -> None:
    found = estimate(spec(budget_usd=Decimal("0.00005")), 3, [part()], [], BOUNDS)
    assert (found.low_microusd, found.likely_microusd, found.worst_microusd) == (50, 50, 50)
    assert (found.wanted_microusd, found.plan_worst_microusd) == (100, 400)
    assert found.fits[0].verdict == "no"
    assert any("likely cost is above the budget" in note for note in found.notes)


@pytest.mark.parametrize(
    ("every", "runs"), [(Every.HOUR, YEAR_H), (Every.DAY, 365.25), (Every.MONTH, 12), (Every.YEAR, 1)]
)
def test_a_mission_that_recurs_has_a_years_cost(every: Every, runs: float) -> None:
    view = EstimateView.of(estimate(spec(), 3, [part()], [], BOUNDS, every))
    assert view.runs_a_year == pytest.approx(runs)
    assert (view.year_low_microusd, view.year_likely_microusd, view.year_worst_microusd) == (
        round(50 * runs),
        round(100 * runs),
        round(400 * runs),
    )


def test_all_runs_of_a_window_are_held_against_its_limit() -> None:
    levels = [
        Level("tenant/day", 2_400, 0, 0),
        Level("tenant/hour", 400, 0, 0),
        Level("tenant/lifetime", 1, 0, 0),
    ]
    found = estimate(spec(), 3, [part()], levels, BOUNDS, Every.HOUR).fits
    assert {one.level: one.recurring for one in found[1:]} == {
        "tenant/day": "likely",
        "tenant/hour": "fits",
        "tenant/lifetime": "",
    }


def test_a_history_tells_the_mean_and_the_cheapest_tenth_of_a_task() -> None:
    book = Book()
    for number in range(ENOUGH_TASKS):
        book.call(100 + number, f"m1.{number}", agent="writer")
    book.call(50, "m1.19", agent="writer")  # a second try
    book.call(9, "m1.0", agent=JUDGE)
    history = History(7)
    for event in book.events:
        history.take(event)
    past = history.of("writer")
    assert past == Past(20, 21, 102, (sum(range(100, 120)) + 50) / 20, 7)
    assert history.of(JUDGE) is None, "one task is no history"
    assert history.of("stranger") is None


@given(
    likely=strategies.integers(0, 10**9),
    worst=strategies.none() | strategies.integers(0, 10**12),
    left=strategies.integers(0, 10**9),
)
def test_low_is_never_above_likely_nor_likely_above_worst(likely: int, worst: int | None, left: int) -> None:
    worst = None if worst is None else likely + worst
    found = estimate(spec(), 3, [part(likely=likely, worst=worst)], [Level("tenant/day", left, 0, 0)], BOUNDS)
    assert 0 <= found.low_microusd <= found.likely_microusd <= found.worst_microusd <= found.budget_microusd


def test_many_inputs_are_told_by_their_sizes() -> None:
    assert sizes_of([2, 3]).mean_bytes == 3
    base = {"goal": "g", "budget_usd": "1"}
    asked = EstimateRequest.model_validate({**base, "sizes": {"count": 9, "mean_bytes": 5, "max_bytes": 7}})
    assert (asked.measured.count, asked.measured.max_bytes) == (9, 7)
    assert EstimateRequest.model_validate({**base, "inputs": ["é"]}).measured.max_bytes == 4
    for wrong in ({}, {"inputs": [1], "sizes": {"count": 1, "mean_bytes": 1, "max_bytes": 1}}):
        with pytest.raises(ValidationError, match="either inputs or sizes"):
            EstimateRequest.model_validate({**base, **wrong})
    with pytest.raises(ValidationError, match="mean_bytes must not be above max_bytes"):
        EstimateRequest.model_validate({**base, "sizes": {"count": 9, "mean_bytes": 8, "max_bytes": 7}})
