"""Requests to the governor leave the list when they are answered, and no others do."""

from __future__ import annotations

from chimera.runtime.base import Base


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
