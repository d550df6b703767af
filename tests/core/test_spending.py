"""How fast money goes, when a limit is reached, what a year would come to: and when nothing is said of it."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from statistics import stdev

import pytest

from chimera.core.calendar import window_ids
from chimera.core.money import Window
from chimera.core.recurrence import YEAR_H
from chimera.core.spending import Year, level, pace, since, year
from tests.core.ledgers import START

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def figures(charges: dict[datetime, int], held: int = 0) -> dict[str, int]:
    """A subject's counters after these charges."""
    found = {"held": held}
    for at, amount in charges.items():
        for identity in window_ids(at):
            name = f"settled:{identity}"
            found[name] = found.get(name, 0) + amount
    return found


def test_the_first_charge_is_known_to_the_minute_then_the_hour_then_the_day() -> None:
    at = START.replace(minute=20, second=10)
    own = figures({at: 5})
    assert since(own, at + HOUR) == at.replace(second=0)
    without_minutes = {name: cost for name, cost in own.items() if ":minute:" not in f":{name}"}
    assert since(without_minutes, at + HOUR) == at.replace(minute=0, second=0)
    only_days = {name: cost for name, cost in without_minutes.items() if "hour" not in name}
    assert since(only_days, at + HOUR) == at.replace(hour=0, minute=0, second=0)
    assert since({"held": 3}, at) is None


def test_a_recent_minute_does_not_hide_an_older_day() -> None:
    own = figures({START - 3 * DAY: 5, START: 5})
    assert since(own, START + HOUR) == START - 3 * DAY


def test_a_pace_is_what_went_in_the_span_an_hour() -> None:
    own = figures({START - 10 * HOUR: 1_000, START - timedelta(minutes=30): 60})
    found = pace(own, START, Window.MINUTE, HOUR)
    assert found is not None
    assert (found.microusd_per_h, found.hours, found.spent_microusd) == (60, 1.0, 60)


def test_a_pace_over_less_than_its_span_says_so() -> None:
    own = figures({START - timedelta(minutes=20): 100})
    found = pace(own, START, Window.MINUTE, HOUR)
    assert found is not None
    assert (found.microusd_per_h, round(found.hours * 60)) == (300, 20)


def test_no_pace_is_made_of_a_few_minutes() -> None:
    assert pace(figures({START - timedelta(minutes=9): 100}), START, Window.MINUTE, HOUR) is None
    assert pace({"held": 5}, START, Window.MINUTE, HOUR) is None


@pytest.mark.parametrize("ago", [timedelta(minutes=1), timedelta(hours=5, minutes=30)])
def test_too_little_is_not_made_into_a_year(ago: timedelta) -> None:
    said = year(figures({START + timedelta(minutes=30) - ago: 100}), START + timedelta(minutes=30))
    assert isinstance(said, str)
    assert "too little to extrapolate from" in said


def test_nothing_spent_is_no_year_of_nothing() -> None:
    assert "nothing was spent yet" in str(year({}, START))


def test_a_year_by_hours_while_there_are_no_three_full_days() -> None:
    found = year(figures({START - n * HOUR: 100 for n in range(9)}), START)
    assert isinstance(found, Year)
    assert (found.unit, found.units) == ("hour", 7)
    assert found.low_microusd == found.likely_microusd == found.high_microusd == round(100 * YEAR_H)


def test_a_year_by_days_has_two_standard_errors_either_side() -> None:
    midnight = START.replace(hour=0)
    spent = [0, 300, 900, 600]
    charges = {midnight - (n + 1) * DAY + HOUR: cost for n, cost in enumerate(spent) if cost}
    charges[midnight - 6 * DAY] = 50  # the first of all: it may have begun before
    charges[START] = 10**9  # today is not over
    found = year(figures(charges), START)
    assert isinstance(found, Year)
    days = [*spent, 0]
    mean, error = sum(days) / 5, 2 * stdev(days) / math.sqrt(5)
    assert (found.unit, found.units, found.least_microusd, found.most_microusd) == ("day", 5, 0, 900)
    assert found.likely_microusd == round(mean * YEAR_H / 24)
    assert found.low_microusd == round(max(0, mean - error) * YEAR_H / 24)
    assert found.high_microusd == round((mean + error) * YEAR_H / 24)


def test_quiet_hours_count() -> None:
    found = year(figures({START - 8 * HOUR: 1, START - HOUR: 700}), START)
    assert isinstance(found, Year)
    assert (found.units, found.likely_microusd) == (7, round(100 * YEAR_H))


def test_a_level_says_what_is_left_when_it_resets_and_when_nothing_is_left() -> None:
    own = figures({START - timedelta(minutes=30): 600}, held=200)
    found = level("agent/a/day", 2_000, own, START)
    assert (found.settled_microusd, found.held_microusd, found.left_microusd) == (600, 200, 1_200)
    assert found.resets_at == START.replace(hour=0) + DAY
    assert found.microusd_per_h == 1_200
    assert found.cap_at == START + HOUR
    assert found.rests_on == "the last 0.5 hours"


def test_a_cap_behind_the_reset_is_none() -> None:
    own = figures({START - timedelta(minutes=30): 10})
    assert level("tenant/day", 2_000, own, START).cap_at is None
    assert level("tenant/lifetime", 2_000, own, START).cap_at is not None


def test_a_level_used_up_is_so_now() -> None:
    own = figures({START - timedelta(minutes=30): 600})
    found = level("tenant/day", 500, own, START)
    assert (found.left_microusd, found.cap_at) == (0, START)


def test_no_pace_of_a_level_is_made_up() -> None:
    found = level("tenant/day", 500, {"held": 1}, START)
    assert (found.microusd_per_h, found.cap_at) == (None, None)
    assert "no pace" in found.rests_on
