"""What an HTTP answer says of how long to wait."""

from __future__ import annotations

import pytest

from chimera.core.retryafter import retry_after_s

TEN = "Tue, 01 Sep 2026 10:00:00 GMT"


@pytest.mark.parametrize(
    ("asked", "date", "seconds"),
    [
        (" 7 ", "", 7.0),
        ("0", "", 0.0),
        ("Tue, 01 Sep 2026 10:01:00 GMT", TEN, 60.0),
        ("Tue, 01 Sep 2026 09:00:00 GMT", TEN, 0.0),
        ("Tue, 01 Sep 2026 10:01:00", TEN, 60.0),
        ("Tue, 01 Sep 2026 10:01:00 GMT", "", None),
        ("soon", TEN, None),
        ("-1", "", None),
        ("٧", "", None),
        ("", "", None),
    ],
)
def test_seconds_and_dates_are_read_and_nothing_else(asked: str, date: str, seconds: float | None) -> None:
    assert retry_after_s(asked, date) == seconds
