"""Requests to the governor leave the list when they are answered, and no others do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chimera.runtime.base import Base
from chimera.store.requests import understood, written
from chimera.store.scripts import OldTerm

RESERVE = {"do": "reserve", "id": "h", "task": "m1.0", "token": 1, "amount": 5, "ttl_s": 60, "from": "w1"}


async def test_a_governor_that_was_late_removes_nothing(base: Base, tenant: str) -> None:
    requests = base.of(tenant).requests
    await requests.send("w1", "op", [written({"hold": f"h{number}"}) for number in range(4)])
    await requests.answer([], 2, "newer", term=2, by="new")
    left = ['{"hold":"h2"}', '{"hold":"h3"}']
    assert await requests.peek(9) == left
    with pytest.raises(OldTerm):
        await requests.answer([("w1", {"id": "h0", "code": "granted"})], 2, "older", term=1, by="old")
    assert await requests.peek(9) == left


async def test_of_a_request_that_was_sent_again_each_copy_is_answered(base: Base, tenant: str) -> None:
    requests = base.of(tenant).requests
    await requests.send("w1", "op", [written({"hold": "h"})] * 2)
    await requests.answer([], 1, "answer", term=1, by="governor")
    assert len(await requests.peek(9)) == 1


@pytest.mark.parametrize("cost", [float("nan"), float("inf"), 1.5, 2**70, -1, True])
def test_what_can_be_no_cost_is_never_written_as_a_release(cost: Any) -> None:
    """A settlement without a cost gives the hold back: one with a cost that makes no sense must not."""
    said = json.loads(written({"do": "settle", "cost": cost}))["cost"]
    assert type(said) is type(cost)
    assert repr(said) == repr(cost)


async def test_answers_reach_their_askers_in_order_however_many(base: Base, tenant: str) -> None:
    requests = base.of(tenant).requests
    await requests.send("w1", "op", [written({"hold": str(number)}) for number in range(1_500)])
    assert [json.loads(text)["hold"] for text in await requests.peek(9_999)] == list(map(str, range(1_500)))
    answers = [("w1" if number % 3 else "w2", {"id": number}) for number in range(3_000)]
    await requests.answer(answers, 1_500, "answer", term=1, by="governor")
    for asker in ("w1", "w2"):
        heard: list[int] = []
        while taken := await requests.answers(asker, 0.01):
            heard += [answer["id"] for answer in taken]
        assert heard == [answer["id"] for to, answer in answers if to == asker]


@pytest.mark.parametrize(
    "text",
    [
        "[" * 200_000,
        '{"do":"find","id":"\\ud800","task":"m1.0","round":0,"call":"c","from":"w1"}',
        '{"do":"forget","task":"m1.0","round":"' + "9" * 5_000 + '"}',
        '{"do":"forget","task":"m1.0","round":"²"}',
        "no json",
        "[1]",
        "{}",
        json.dumps({**RESERVE, "do": "print money"}),
        json.dumps({**RESERVE, "do": ["reserve"]}),
        json.dumps({**RESERVE, "amount": "5"}),
        json.dumps({**RESERVE, "amount": -5}),
        json.dumps({**RESERVE, "ttl_s": 1e13}),
        json.dumps({**RESERVE, "model": "m" * 201}),
        json.dumps({**RESERVE, "agent": None}),
        json.dumps({**RESERVE, "from": "\ud800"}),
        "[" * 100_000,
        json.dumps({name: value for name, value in RESERVE.items() if name != "from"}),
    ],
)
def test_a_broken_request_is_told_from_a_whole_one(text: str) -> None:
    whole = {**RESERVE, "agent": "a", "model": "m"}
    assert understood(json.dumps(whole)) == whole
    assert understood(json.dumps(RESERVE)) == {**RESERVE, "agent": "", "model": ""}, (
        "as an older version asks"
    )
    assert understood(text) is None


async def test_what_is_no_text_stands_in_no_other_requests_way(base: Base, tenant: str) -> None:
    stores = base.of(tenant)
    await base.redis.rpush(stores.ledger.keys.requests, b"\xff\xfe", json.dumps(RESERVE))
    odd, asked = await stores.requests.peek(9)
    assert understood(odd) is None
    assert understood(asked) is not None
