"""Figures for people: no figure hides that it is not nothing."""

from __future__ import annotations

from chimera.dashboard import words
from chimera.dashboard.drawing.bars import WIDTH, limit_bar, share_bar


def test_rates_latencies_and_sizes_are_told_so_that_nothing_is_lost_to_rounding() -> None:
    space = words.NARROW_SPACE
    assert [words.rate(one) for one in (None, 0, 0.05, 12.34, 12_345.6)] == [
        *("–", "0", "3.0/min", "12.3/s", "12,345.6/s")
    ]
    assert [words.latency(one).replace(space, " ") for one in (None, 85.4, 1_234, 600_000)] == [
        *("–", "85 ms", "1.2 s", "600 s")
    ]
    assert [words.size(one).replace(space, " ") for one in (0, 1_500, 3_145_728)] == [
        *("0 B", "1.5 KiB", "3.0 MiB")
    ]


def test_a_bar_shows_what_is_used_and_never_more_than_the_whole() -> None:
    bar = str(limit_bar(1_000, 250, 250))
    assert f'class="held" width="{WIDTH // 2}"' in bar
    assert f'class="settled" width="{WIDTH // 4}"' in bar
    assert "over" not in bar
    spent = str(limit_bar(100, 300, 0))
    assert f'class="settled" width="{WIDTH}"' in spent
    assert 'class="bar limit over"' in spent
    assert 'class="settled" width="1"' in str(limit_bar(10**9, 1, 0))  # what is not nothing is seen
    assert 'class="settled" width="0"' in str(limit_bar(0, 0, 0))
    assert 'width="100"' in str(share_bar(1, 2))
    assert "style=" not in bar  # the page's policy allows none
