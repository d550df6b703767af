from __future__ import annotations

import re

from chimera.core.mission import NODE_PATTERN
from chimera.serving.gateway.ids import new_mission_id


def test_ids_are_short_distinct_lower_case_and_without_a_dot() -> None:
    ids = {new_mission_id() for _ in range(10_000)}
    assert len(ids) == 10_000
    assert all(re.fullmatch(r"m[0-9a-z]{20}", one) for one in ids)
    assert all(re.fullmatch(NODE_PATTERN, one) for one in ids)


def test_later_ids_sort_behind_earlier_ones() -> None:
    first = new_mission_id()
    while (second := new_mission_id())[:11] == first[:11]:
        pass
    assert first < second
