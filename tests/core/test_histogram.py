"""Percentiles and differences of times that were counted by bucket."""

from __future__ import annotations

import pytest

from chimera.core.histogram import BOUNDS_MS, Histogram


def of(**within: int) -> Histogram:
    """So many in each bucket: ``of(_100=3)``; ``_more`` is beyond all bounds."""
    counts = {f"_{bound}": index for index, bound in enumerate(BOUNDS_MS)} | {"_more": len(BOUNDS_MS)}
    made = [0] * (len(BOUNDS_MS) + 1)
    for name, count in within.items():
        made[counts[name]] = count
    return Histogram(tuple(made), 1_000)


@pytest.mark.parametrize(
    ("times", "q", "expected"),
    [
        (of(_100=10), 0.5, 25 + 75 / 2),
        (of(_100=10), 1.0, 100),
        (of(_5=99, _10000=1), 0.5, 5 * 50 / 99),
        (of(_5=99, _10000=1), 0.99, 5.0),
        (of(_5=98, _10000=2), 0.99, 5_000 + 5_000 / 2),
        (of(_5=1, _more=9), 0.99, 300_000),
        (of(_25=4), 0.0, 5),
        (Histogram(), 0.5, None),
    ],
)
def test_a_percentile_lies_in_its_bucket_as_far_as_its_rank_does(
    times: Histogram, q: float, expected: float | None
) -> None:
    assert times.percentile(q) == pytest.approx(expected)


def test_what_came_since_is_the_difference_and_both_together_the_sum() -> None:
    before, now = of(_5=3), Histogram(of(_5=4, _100=2).within, 1_500)
    assert now - before == Histogram(of(_5=1, _100=2).within, 500)
    assert (now - before) + before == now
    assert (now.count, now.mean_ms, Histogram().mean_ms) == (6, 250, None)


def test_a_store_that_lost_writes_makes_no_negative_times() -> None:
    assert of(_5=1) - of(_5=3) == of(_5=1)
