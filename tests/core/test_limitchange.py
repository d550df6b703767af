from __future__ import annotations

import pytest

from chimera.core.limitchange import raised


@pytest.mark.parametrize(
    ("before", "changes", "names"),
    [
        ({"day": 5}, {"day": 6}, ("day",)),
        ({"day": 5}, {"day": None}, ("day",)),
        ({"day": 5}, {"day": 5}, ()),
        ({"day": 5}, {"day": 0}, ()),
        ({}, {"day": 5}, ()),
        ({}, {"day": None}, ()),
        ({"day": 5, "agent/a/day": 1}, {"agent/a/day": 2, "day": 9}, ("agent/a/day", "day")),
        ({"day": 5}, {"month": 100, "day": 4}, ()),
    ],
)
def test_what_lets_more_be_spent_is_a_raise(
    before: dict[str, int], changes: dict[str, int | None], names: tuple[str, ...]
) -> None:
    assert raised(before, changes) == names
