"""Requests to the governor leave the list when they are answered, and no others do."""

from __future__ import annotations

import json

import pytest

from chimera.runtime.base import Base
from chimera.store.requests import understood

RESERVE = {"do": "reserve", "id": "h", "task": "m1.0", "token": 1, "amount": 5, "ttl_s": 60, "from": "w1"}


async def test_a_governor_that_was_late_removes_only_what_it_read(base: Base, tenant: str) -> None:
    requests = base.of(tenant).requests
    await requests.send([{"hold": f"h{number}"} for number in range(4)])
    late = await requests.peek(2)
    await requests.answer([], await requests.peek(2))
    assert await requests.peek(9) == ['{"hold": "h2"}', '{"hold": "h3"}']
    await requests.answer([("w1", {"key": "reserve h0", "code": "granted"})], late)
    assert await requests.peek(9) == ['{"hold": "h2"}', '{"hold": "h3"}']


async def test_of_a_request_that_was_sent_again_each_copy_is_answered(base: Base, tenant: str) -> None:
    requests = base.of(tenant).requests
    await requests.send([{"hold": "h"}, {"hold": "h"}])
    await requests.answer([], await requests.peek(1))
    assert len(await requests.peek(9)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[1]",
        "{}",
        json.dumps({**RESERVE, "do": "print money"}),
        json.dumps({**RESERVE, "amount": "5"}),
        json.dumps({name: value for name, value in RESERVE.items() if name != "from"}),
    ],
)
def test_a_broken_request_is_told_from_a_whole_one(text: str) -> None:
    assert understood(json.dumps(RESERVE)) == RESERVE
    assert understood(text) is None
