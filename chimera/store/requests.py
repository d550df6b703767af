"""Requests to the governor and its answers, through Redis, so that a spoke may live anywhere.

A worker appends; the governor reads from the front, acts, answers, and only then removes what
it read: a governor that dies in between leaves the requests to the next one, and acting twice
on a request is harmless, for holds are idempotent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from chimera.store import keys
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys

ANSWERS_KEPT_S = 60


class Requests:
    """One tenant's requests."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._tenant = tenant
        self._keys = TenantKeys(tenant)

    async def send(self, requests: Sequence[dict[str, Any]]) -> None:
        """Append requests and wake the governor."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(self._keys.requests, *(json.dumps(request) for request in requests))
                pipe.publish(keys.MONEY, self._tenant)
                await pipe.execute()

    async def answers(self, asker: str, timeout_s: float) -> list[dict[str, Any]]:
        """The next answers to one asker; [] when the time passes. For a blocking client."""
        key = self._keys.of("answers", asker)
        with translated():
            first = await self._redis.blpop([key], timeout=timeout_s)
            if first is None:
                return []
            more = await self._redis.lpop(key, 500) or []
            return [json.loads(answer) for answer in (first[1], *more)]

    async def peek(self, most: int) -> list[str]:
        """Requests at the front (JSON), left in place."""
        with translated():
            return list(await self._redis.lrange(self._keys.requests, 0, most - 1))

    async def answer(self, answers: Sequence[tuple[str, dict[str, Any]]], done: Sequence[str]) -> None:
        """Send ``(asker, answer)`` and remove the requests that were `done`, as they were read.

        By what they say, not by where they stand: a governor that was paused here must not remove what a
        newer one has not read yet.
        """
        with translated():
            async with self._redis.pipeline(transaction=True) as pipe:
                for asker, answer in answers:
                    pipe.rpush(self._keys.of("answers", asker), json.dumps(answer))
                for asker in {asker for asker, _ in answers}:
                    pipe.expire(self._keys.of("answers", asker), ANSWERS_KEPT_S)
                for request in done:
                    pipe.lrem(self._keys.requests, 1, request)
                await pipe.execute()
