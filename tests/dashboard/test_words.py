"""Figures for people: no figure hides that it is not nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chimera.dashboard import words
from chimera.dashboard.drawing.bars import WIDTH, limit_bar, share_bar


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "$0"),
        (1, "$0.000001"),
        (999, "$0.000999"),
        (1_500, "$0.0015"),
        (1_234_567_890, "$1,234.57"),
        (-2_000_000, "-$2.00"),
    ],
)
def test_money_has_as_many_places_as_it_takes_to_see_it(amount: int, said: str) -> None:
    assert words.dollars(amount) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_600, "1 h"),
        (12_000, "3 h 20 min"),
        (90_000, "1 d 1 h"),
        (-5, "0 s"),
    ],
)
def test_a_span_is_told_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert words.span(seconds) == said


def test_instants_are_told_from_now() -> None:
    now = datetime(2026, 11, 29, 12, tzinfo=UTC)
    assert words.until(now + timedelta(minutes=5), now) == "in 5 min"
    assert words.ago(now - timedelta(days=1), now) == "1 d ago"
    assert words.until(None, now) == words.ago(None, now) == ""


def test_rates_times_and_sizes() -> None:
    assert [words.rate(one) for one in (None, 0, 0.05, 12.34, 12_345.6)] == [
        *("–", "0", "3.0/min", "12.3/s", "12,345.6/s")
    ]
    assert [words.milliseconds(one) for one in (None, 85.4, 1_234, 600_000)] == [
        *("–", "85 ms", "1.2 s", "10 min")
    ]
    assert [words.bytes_(one) for one in (0, 1_500, 3_145_728)] == ["0 B", "1.5 KiB", "3.0 MiB"]


def test_a_bar_shows_what_is_used_and_never_more_than_the_whole() -> None:
    bar = str(limit_bar(1_000, 250, 250))
    assert f'class="held" width="{WIDTH / 2}"' in bar
    assert f'class="settled" width="{WIDTH / 4}"' in bar
    assert "over" not in bar
    spent = str(limit_bar(100, 300, 0))
    assert f'class="settled" width="{float(WIDTH)}"' in spent
    assert 'class="bar limit over"' in spent
    assert 'class="settled" width="1.0"' in str(limit_bar(10**9, 1, 0))  # what is not nothing is seen
    assert 'class="settled" width="0.0"' in str(limit_bar(0, 0, 0))
    assert 'width="100.0"' in str(share_bar(1, 2))
    assert "style=" not in bar  # the page's policy allows none
