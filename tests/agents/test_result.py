"""What an agent returned becomes JSON that everybody can read, or the attempt's error."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from chimera.agents.result import as_json
from chimera.errors import AgentCrashed

MOST = 1_000


@pytest.mark.parametrize(
    "result", [None, "é\0", 2**63, 1.5e300, {"a": [1, "b"]}, json.loads("[" * 100 + "]" * 100)]
)
def test_what_is_handed_in_is_json(result: Any) -> None:
    text = as_json("a", result, MOST)
    assert orjson.loads(text) == json.loads(text) == result


@pytest.mark.parametrize(
    "result",
    [
        *(float("nan"), {"share": float("inf")}, [[-float("inf")]]),
        *(10**400, {"n": 10**900}),
        *("\ud800", b"\xff", object(), {"a": object}),
        json.loads("[" * 101 + "]" * 101),
    ],
)
def test_what_is_no_json_is_an_error_of_the_agent(result: Any) -> None:
    with pytest.raises(AgentCrashed, match="is no JSON value"):
        as_json("a", result, MOST)


def test_a_result_that_is_too_large_is_an_error_that_names_the_limit() -> None:
    with pytest.raises(AgentCrashed, match="1,003 bytes, over the limit of 1,000"):
        as_json("a", "x" * 1_001, MOST)
