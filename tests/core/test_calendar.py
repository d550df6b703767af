"""The ledger's calendar: windows by name, their beginnings and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chimera.core.calendar import begins, ends, is_kept, window_id, window_ids
from chimera.core.money import Window

AT = datetime(2028, 2, 29, 23, 59, 31, 5, tzinfo=UTC)


def test_an_instant_is_in_one_window_of_each_kind() -> None:
    assert window_ids(AT) == (
        "minute:2028-02-29T23:59",
        "hour:2028-02-29T23",
        "day:2028-02-29",
        "month:2028-02",
        "year:2028",
        "lifetime",
    )


@pytest.mark.parametrize(
    ("window", "begin", "end"),
    [
        (Window.MINUTE, datetime(2028, 2, 29, 23, 59, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (Window.HOUR, datetime(2028, 2, 29, 23, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (Window.DAY, datetime(2028, 2, 29, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (Window.MONTH, datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
        (Window.YEAR, datetime(2028, 1, 1, tzinfo=UTC), datetime(2029, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_window_begins_and_ends(window: Window, begin: datetime, end: datetime) -> None:
    assert (begins(window_id(window, AT)), ends(window_id(window, AT))) == (begin, end)


def test_the_lifetime_never_ends() -> None:
    assert ends("lifetime") is None


@pytest.mark.parametrize(
    ("identity", "ago", "kept"),
    [
        ("minute", timedelta(hours=2), True),
        ("minute", timedelta(hours=4), False),
        ("hour", timedelta(days=2), True),
        ("hour", timedelta(days=4), False),
        ("day", timedelta(days=399), True),
        ("day", timedelta(days=402), False),
        ("month", timedelta(days=4_000), True),
        ("lifetime", timedelta(days=4_000), True),
    ],
)
def test_short_windows_are_remembered_for_a_while(identity: str, ago: timedelta, kept: bool) -> None:
    assert is_kept(window_id(Window(identity), AT - ago), AT) is kept
