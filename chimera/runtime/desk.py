"""The desk: where a worker or a judge asks the governor for money.

One desk serves a whole process. Requests of the same few milliseconds go out as one batch;
answers come back on a list of its own. A request without an answer is sent again under the same
hold id, which is harmless. While the governor is away nothing is granted (fail closed).
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from chimera.agents.purse import Charge
from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind, StoreError, StoreUnavailable
from chimera.runtime.service import backoff_s
from chimera.store.connection import Redis, end
from chimera.store.requests import Requests

log = structlog.get_logger(__name__)

ASK_AGAIN_S = 1.0
GIVE_UP_S = 30.0
RETRY_CONTENDED_S = 0.1


class Desk:
    """Asks the governor on behalf of one process.

    Args:
        asker: the worker's or judge's id; answers come to it.
        wait_s: how long a `contended` or `window` refusal waits in place.
    """

    def __init__(self, redis: Redis, blocking: Redis, tenant: str, asker: str, *, wait_s: float) -> None:
        self._requests = Requests(redis, tenant)
        self._answers = Requests(blocking, tenant)
        self._asker = asker
        self._wait_s = wait_s
        self._outbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin; idempotent."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(self._send(), name="desk sends"),
                asyncio.create_task(self._receive(), name="desk receives"),
            ]

    async def stop(self) -> None:
        """End, once what is in the outbox is sent; idempotent."""
        if self._tasks:
            try:
                async with asyncio.timeout(2):
                    await self._outbox.join()
            except TimeoutError:
                log.warning("desk.unsent", requests=self._outbox.qsize())
        tasks, self._tasks = self._tasks, []
        await end(*tasks)

    async def reserve(self, task_id: str, token: int, amount_microusd: int, ttl_s: float) -> str:
        """Hold money for one call. Returns the hold's id.

        Raises:
            BudgetExceeded: still refused after the wait, or exhausted.
            LeaseLost: the task is no longer ours.
            StoreUnavailable: the governor does not answer.
        """
        hold_id = uuid.uuid4().hex
        until = time.monotonic() + self._wait_s
        attempt = 0
        while True:
            answer = await self._ask(
                {
                    "do": "reserve",
                    "hold": hold_id,
                    "task": task_id,
                    "token": token,
                    "amount": amount_microusd,
                    "ttl_s": ttl_s,
                }
            )
            if answer["code"] == "granted":
                return hold_id
            if answer["code"] == "lost":
                raise LeaseLost(*answer["fields"])
            refusal = BudgetExceeded(RefusalKind(answer["fields"][0]), *answer["fields"][1:])
            left = until - time.monotonic()
            if refusal.kind is RefusalKind.EXHAUSTED or left <= 0:
                raise refusal
            attempt += 1
            await asyncio.sleep(min(left, backoff_s(attempt, base_s=RETRY_CONTENDED_S)))

    async def settle(self, hold_id: str, cost_microusd: int | None, charge: Charge | None) -> None:
        """End a hold; the request is in the store when this returns."""
        await self._ask(
            {
                "do": "settle",
                "hold": hold_id,
                "cost": cost_microusd,
                "charge": "" if charge is None else json.dumps(asdict(charge)),
            }
        )

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        key = f"{request['do']} {request['hold']}"
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            give_up = time.monotonic() + GIVE_UP_S
            while time.monotonic() < give_up:
                self._outbox.put_nowait(request | {"from": self._asker})
                done, _ = await asyncio.wait({future}, timeout=ASK_AGAIN_S)
                if done:
                    return future.result()
            raise StoreUnavailable(
                f"the governor gave no answer within {GIVE_UP_S:g} s, so nothing is spent: "
                "see `chimera status`"
            )
        finally:
            self._waiting.pop(key, None)

    async def _send(self) -> None:
        while True:
            batch = [await self._outbox.get()]
            await asyncio.sleep(0)  # those asked in the same turn of the loop go along
            while not self._outbox.empty() and len(batch) < 500:
                batch.append(self._outbox.get_nowait())
            try:
                await self._requests.send(batch)
            except StoreError as exc:
                # Whoever asked asks again.
                log.warning("store.unavailable", service="desk", error=str(exc))
                await asyncio.sleep(backoff_s(1))
            finally:
                for _ in batch:
                    self._outbox.task_done()

    async def _receive(self) -> None:
        while True:
            try:
                for answer in await self._answers.answers(self._asker, timeout_s=5):
                    future = self._waiting.get(answer["key"])
                    if future is not None and not future.done():
                        future.set_result(answer)
            except StoreError as exc:
                log.warning("store.unavailable", service="desk", error=str(exc))
                await asyncio.sleep(backoff_s(1))


@dataclass(frozen=True, slots=True)
class LeasedPurse:
    """One attempt's purse: every hold is fenced by its lease (see `chimera.agents.purse.Purse`)."""

    desk: Desk
    task_id: str
    token: int

    async def reserve(self, *, amount_microusd: int, model: str, agent: str, ttl_s: float) -> str:
        """See `Purse.reserve`."""
        return await self.desk.reserve(self.task_id, self.token, amount_microusd, ttl_s)

    async def settle(self, hold_id: str, *, cost_microusd: int, charge: Charge) -> None:
        """See `Purse.settle`."""
        await self.desk.settle(hold_id, cost_microusd, charge)

    async def release(self, hold_id: str) -> None:
        """See `Purse.release`."""
        await self.desk.settle(hold_id, None, None)
