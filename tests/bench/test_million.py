"""The run of a million: what it takes for a result of its input, and for progress."""

from __future__ import annotations

from typing import Any

import pytest

from bench.million import Course, Sample, Tally, went_back
from chimera.core.views import ResultView


def result(number: int, value: Any = None) -> ResultView:
    return ResultView(
        task_id=f"m1.{number}",
        stage="map",
        agent="bench-noop",
        result={"n": number if value is None else value},
        confidence=1.0,
        verdict=None,
        attempts=1,
        spent_microusd=0,
        finished_at=None,
    )


@pytest.mark.parametrize(
    ("results", "found"),
    [
        ([result(0), result(1), result(2)], (0, 0, [])),
        ([result(0), result(2)], (1, 0, [])),
        ([result(0), result(1), result(1), result(2)], (0, 1, [])),
        ([result(0), result(1, 7), result(2)], (1, 0, ["m1.1"])),
        ([result(0), result(1), result(2), result(3)], (0, 0, ["m1.3"])),
    ],
    ids=["all", "one is missing", "one came twice", "one is another's", "one too many"],
)
def test_each_input_has_one_result_and_its_own(
    results: list[ResultView], found: tuple[int, int, list[str]]
) -> None:
    tally = Tally(3)
    for one in results:
        tally.count(one)
    assert (tally.missing, tally.twice, tally.wrong) == found


def test_progress_that_goes_back_is_counted() -> None:
    assert went_back([0, 0, 5, 5, 9]) == 0
    assert went_back([0, 5, 4, 9, 8]) == 2


def test_a_run_that_went_wrong_misses_a_bar() -> None:
    samples = [
        Sample(0.0, 0, 0, 2**20, {"gateway": 2**20, "worker": 5}),
        Sample(2.0, 2, 2, 3 * 2**20, {"gateway": 2**20, "judge": 2**20}),
    ]
    tally = Tally(2)
    tally.count(result(0))
    course = Course(2, submit_s=1, accepted_s=2, results_s=1, samples=samples, tally=tally)
    figures = {one.name: one for one in course.figures()}
    assert figures["Redis, peak"].value == 3
    assert figures["hub resident, peak"].value == 2
    assert figures["inputs without a result"].reached is False
    tally.count(result(1))
    assert all(one.reached is not False for one in course.figures())
