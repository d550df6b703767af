"""The brake's decisions: both windows set it, calm lets it go, people and the canary stand above."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.core.brake import (
    BRAKE_STEPS,
    DAY_S,
    RELEASE,
    STATES,
    Brake,
    BrakeCause,
    BrakeState,
    Burn,
    Decision,
    Rules,
    decide,
    plan_per_day,
)

S, C = BrakeState, BrakeCause
PLAN = 86_400_000
"""A thousand µ$ a second."""
RULES = Rules(short_s=60, long_s=300, floor=0, unaccepted=0, calm_s=60, plan_per_day=PLAN)
NOW = 1_800_000_000_000_000


def burning(short: float, long: float, now_us: int = NOW) -> Burn:
    """Burns of so many plans in the two windows."""
    return Burn(
        now_us,
        short=round(short * RULES.short_s * PLAN / DAY_S),
        long=round(long * RULES.long_s * PLAN / DAY_S),
    )


@pytest.mark.parametrize(
    ("short", "long", "state"),
    [
        (1, 1, S.OPEN),
        (50, 3.9, S.OPEN),
        (3.9, 50, S.OPEN),
        (4, 4, S.OPEN),
        (4.1, 50, S.THROTTLED),
        (50, 4.1, S.THROTTLED),
        (50, 8, S.THROTTLED),
        (8.1, 8.1, S.FROZEN),
    ],
)
def test_a_brake_is_set_only_by_a_burn_over_its_threshold_in_both_windows(
    short: float, long: float, state: BrakeState
) -> None:
    assert decide(Brake(), burning(short, long), RULES).state is state


def test_a_set_brake_says_why_and_with_which_figures() -> None:
    decision = decide(Brake(), burning(50, 9), RULES)
    assert decision.cause is C.BURN
    assert decision.figures["burn_short"] == 50
    assert decision.figures["burn_long"] == 9
    assert decision.figures["plan_microusd_per_day"] == PLAN


def test_without_a_plan_no_burn_sets_it() -> None:
    assert decide(Brake(), burning(1e6, 1e6), replace(RULES, plan_per_day=0)).state is S.OPEN


def test_less_than_the_floor_sets_nothing() -> None:
    burn = burning(50, 50)
    assert decide(Brake(), burn, replace(RULES, floor=burn.long)).state is S.FROZEN
    assert decide(Brake(), burn, replace(RULES, floor=burn.long + 1)).state is S.OPEN


def test_a_threshold_of_0_never_sets_it() -> None:
    never = replace(RULES, throttle_burn=0, freeze_burn=0)
    assert decide(Brake(), burning(1e6, 1e6), never).state is S.OPEN
    assert decide(Brake(), burning(1e6, 1e6), replace(never, throttle_burn=4)).state is S.THROTTLED


@pytest.mark.parametrize(
    ("limits", "explicit", "plan"),
    [
        ({}, 0, 0),
        ({"lifetime": 10}, 0, 0),
        ({"agent/a/day": 5}, 0, 0),
        ({"day": 5_000_000}, 0, 5_000_000),
        ({"day": 5_000_000, "month": 30_000_000}, 0, 1_000_000),
        ({"minute": 1_000, "day": 5_000_000}, 0, 1_440_000),
        ({"hour": 1_000_000}, 0, 24_000_000),
        ({"year": 365_000_000}, 0, 1_000_000),
        ({"day": 5_000_000}, 9, 9),
    ],
)
def test_the_plan_is_the_tightest_limit_spread_over_its_window(
    limits: dict[str, int], explicit: int, plan: int
) -> None:
    assert plan_per_day(limits, Rules(plan_per_day=explicit, of_limits=True)) == plan
    assert plan_per_day(limits, Rules(plan_per_day=explicit)) == explicit


LOST = Burn(NOW, short=1, long=10_000_000, unaccepted=10_000_001, since_us=NOW - 61_000_000, busy=1)
NO_PLAN = replace(RULES, plan_per_day=0, unaccepted=10_000_000)


def unaccepted(**changes: Any) -> Burn:
    return replace(LOST, **changes)


def test_spend_without_progress_sets_it_without_any_plan() -> None:
    decision = decide(Brake(), unaccepted(), NO_PLAN)
    assert (decision.state, decision.cause) == (S.THROTTLED, C.PROGRESS)
    assert decision.figures["unaccepted_s"] == 61
    assert decide(Brake(), unaccepted(unaccepted=20_000_001), NO_PLAN).state is S.FROZEN


@pytest.mark.parametrize(
    "changes",
    [{"unaccepted": 10_000_000}, {"since_us": NOW - 59_000_000}, {"since_us": 0}, {"busy": 0}],
    ids=["too little", "too short", "none", "over"],
)
def test_spend_is_not_without_progress_when_it_is(changes: dict[str, int]) -> None:
    assert decide(Brake(), unaccepted(**changes), NO_PLAN).state is S.OPEN


def test_a_brake_that_stopped_all_spending_without_progress_does_not_let_go_for_that() -> None:
    throttled = Brake(S.THROTTLED, C.PROGRESS, since_us=NOW - 600_000_000, calm_since_us=NOW - 100_000_000)
    assert decide(throttled, unaccepted(busy=0), NO_PLAN).state is S.THROTTLED
    accepted = unaccepted(unaccepted=0, since_us=0)
    assert decide(throttled, accepted, NO_PLAN).state is S.OPEN


def test_it_goes_back_one_step_at_a_time_each_after_its_calm() -> None:
    brake, steps = Brake(S.FROZEN, C.BURN, since_us=NOW), []
    for second in range(200):
        now = NOW + second * 1_000_000
        brake, moved = applied(brake, decide(brake, burning(0, 9, now), RULES), now)
        if moved:
            steps.append((second, brake.state, brake.cause))
    assert steps == [(60, S.THROTTLED, C.BURN), (121, S.OPEN, C.CALM)]


def test_calm_that_is_interrupted_begins_anew() -> None:
    brake = Brake(S.THROTTLED, C.BURN, since_us=NOW, calm_since_us=NOW)
    loud = decide(brake, burning(2.1, 9, NOW + 59_000_000), RULES)
    assert (loud.state, loud.calm_since_us) == (S.THROTTLED, 0)


def test_between_release_and_threshold_nothing_moves() -> None:
    for state, burn in ((S.OPEN, 3.0), (S.THROTTLED, 3.0), (S.THROTTLED, 7.9), (S.FROZEN, 4.1)):
        brake = Brake(state, C.BURN, since_us=NOW - DAY_S * 1_000_000)
        assert not decide(brake, burning(burn, burn), RULES).changes(brake)


def test_the_canary_freezes_whatever_else_holds_and_once_for_one_failure() -> None:
    overridden = Brake(override_until_us=NOW + 1_000_000)
    decision = decide(overridden, burning(0, 0), RULES, canary="f1")
    assert (decision.state, decision.cause, decision.canary) == (S.FROZEN, C.CANARY, "f1")
    thawed = Brake(S.OPEN, C.OPERATOR, canary="f1")
    assert decide(thawed, burning(0, 0), RULES, canary="f1").state is S.OPEN
    assert decide(thawed, burning(0, 0), RULES, canary="f2").state is S.FROZEN


def test_a_brake_that_a_burn_froze_is_the_canarys_afterwards() -> None:
    frozen = Brake(S.FROZEN, C.BURN, calm_since_us=1)
    decision = decide(frozen, burning(0, 0), RULES, canary="f1")
    assert decision.moves(frozen)
    assert decision.cause is C.CANARY


# Whatever is spent in whatever order

spends = st.lists(st.integers(0, 30_000), min_size=1, max_size=200)
"""What is spent in each 5 s, µ$; the plan is 5,000."""


def applied(brake: Brake, decision: Decision, now_us: int) -> tuple[Brake, bool]:
    """The brake as move_brake.lua writes it, and whether that is a step."""
    if not decision.moves(brake):
        return replace(brake, calm_since_us=decision.calm_since_us), False
    return (
        replace(
            brake,
            state=decision.state,
            cause=decision.cause,
            canary=decision.canary,
            since_us=now_us,
            calm_since_us=0,
        ),
        True,
    )


def lived(brake: Brake, spent: list[int], rules: Rules = RULES) -> Iterator[tuple[Brake, Brake, Burn]]:
    """The brake before and after each look, one every 5 s, and what it saw."""
    for at in range(len(spent)):
        burn = Burn(
            NOW + at * 5_000_000,
            short=sum(spent[max(0, at + 1 - rules.short_s // 5) : at + 1]),
            long=sum(spent[max(0, at + 1 - rules.long_s // 5) : at + 1]),
        )
        after, _ = applied(brake, decide(brake, burn, rules), burn.now_us)
        yield brake, after, burn
        brake = after


def least(burn: Burn) -> float:
    return min(burn.short / RULES.short_s, burn.long / RULES.long_s) * DAY_S / PLAN


@given(spends)
def test_a_frozen_brake_was_never_set_by_a_burn_below_the_thresholds(spent: list[int]) -> None:
    for before, after, burn in lived(Brake(), spent):
        if STATES.index(after.state) > STATES.index(before.state):
            threshold = RULES.freeze_burn if after.state is S.FROZEN else RULES.throttle_burn
            assert least(burn) > threshold


@given(spends)
def test_it_never_flaps(spent: list[int]) -> None:
    entered = None
    for before, after, burn in lived(Brake(), spent):
        if after.state is before.state:
            continue
        assert (before.state, after.state) in BRAKE_STEPS
        if STATES.index(after.state) < STATES.index(before.state):
            assert STATES.index(before.state) - STATES.index(after.state) == 1
            assert entered is not None
            assert burn.now_us - entered >= RULES.calm_s * 1_000_000
            share = RULES.freeze_burn if before.state is S.FROZEN else RULES.throttle_burn
            assert least(burn) <= share * RELEASE
        entered = burn.now_us


@given(spends, st.integers(0, 4))
def test_each_run_of_spending_ends_open_again(spent: list[int], trailing: int) -> None:
    calm = [0] * (2 * RULES.long_s // 5 + 2 * RULES.calm_s // 5 + 4 + trailing)
    *_, (_, last, _) = lived(Brake(), spent + calm)
    assert last.state is S.OPEN


@given(spends)
def test_a_persons_freeze_stays_until_it_is_thawed(spent: list[int]) -> None:
    frozen = Brake(S.FROZEN, C.OPERATOR, since_us=1, by="key:1")
    for _, after, _ in lived(frozen, spent):
        assert after == frozen


@given(spends, st.integers(0, 200))
def test_an_override_stands_until_its_end_and_no_longer(spent: list[int], looks: int) -> None:
    until = NOW + looks * 5_000_000
    for before, after, burn in lived(Brake(override_until_us=until), spent):
        if burn.now_us < until:
            assert after == before
        elif least(burn) > RULES.freeze_burn:
            assert after.state is S.FROZEN
