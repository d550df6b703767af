"""Samples of a tenant's last hour: as they are stored, and what they tell of the time between."""

from __future__ import annotations

import pytest

from chimera.core.gauges import Gauges
from chimera.core.series import Sample, overall, rates, together
from chimera.core.tally import FIELDS, Tally


def sample(at_s: float, accepted: int, **stands: int) -> Sample:
    return Sample(round(1000 * at_s), Tally({"task.accepted": accepted}), Gauges(**stands))


def test_a_sample_is_read_as_it_was_written() -> None:
    every = {name: number for number, name in enumerate(FIELDS, start=1)}
    one = Sample(7, Tally(every), Gauges(*range(5, 19)))
    assert Sample.parse(7, one.text()) == one
    assert Sample.parse(7, "") == Sample(7, Tally(), Gauges())


def test_a_sample_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="no place 'fff'"):
        Sample.parse(1, "fff:3")


def test_rates_are_of_the_time_between_two_samples() -> None:
    told = rates([sample(10, 100), sample(15, 150, settled_microusd=500), sample(15, 150), sample(25, 250)])
    assert [(one.at_ms, one.seconds, one.of("task.accepted")) for one in told] == [
        (15_000, 5, 10),
        (25_000, 10, 10),
    ]
    assert (told[0].spent_microusd, told[0].microusd_per_s) == (500, 100)
    assert rates([sample(10, 1)]) == []


def test_a_store_that_lost_writes_makes_no_negative_rate() -> None:
    (one,) = rates([sample(10, 100), sample(20, 30)])
    assert one.of("task.accepted") == 3


def test_the_whole_time_is_from_the_first_sample_to_the_last() -> None:
    whole = overall([sample(10, 100), sample(15, 150), sample(30, 160)])
    assert whole is not None
    assert (whole.seconds, whole.since.of("task.accepted")) == (20, 60)
    assert overall([sample(10, 100)]) is overall([]) is None


def test_nothing_is_counted_under_an_unknown_name() -> None:
    with pytest.raises(KeyError, match=r"task\.adored"):
        Tally().of("task.adored")


def test_the_fleet_is_the_sum_of_what_each_tenant_had_last() -> None:
    told = together(
        {"a": [sample(10, 5, workers=1), sample(20, 9, workers=2)], "b": [sample(15, 100), sample(20, 101)]}
    )
    assert [(one.at_ms, one.tally.of("task.accepted"), one.gauges.workers) for one in told] == [
        (10_000, 105, 1),
        (15_000, 105, 1),
        (20_000, 110, 2),
    ]
