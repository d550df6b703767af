"""The desk: where a worker or a judge asks the governor for money.

One desk serves a whole process. Requests of the same few milliseconds go out as one batch;
answers come back on a list of its own. A request without an answer is sent again under the same
id, which is harmless. While the governor is away nothing is granted (fail closed); what needs no
answer, a settlement above all, is done once it stands in the store, and waits for the governor there.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from chimera.agents.purse import Charge, Keep
from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind, StoreError, StoreUnavailable
from chimera.runtime.batches import Batches
from chimera.runtime.service import backoff_s
from chimera.store.connection import Redis, end
from chimera.store.requests import Requests

log = structlog.get_logger(__name__)

ASK_AGAIN_S = 1.0
GIVE_UP_S = 30.0
RETRY_CONTENDED_S = 0.1
STOP_S = 2.0
"""What waits for the store when a desk stops is given this long."""


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
        self._outbox = Batches("requests for the governor", self._post)
        self._leaving = Batches("calls that leave", self._requests.sent)
        self._waiting: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._forgoing: set[asyncio.Task[None]] = set()
        self._receiver: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; idempotent."""
        self._outbox.start()
        self._leaving.start()
        if self._receiver is None:
            self._receiver = asyncio.create_task(self._receive(), name="desk receives")

    async def stop(self) -> None:
        """End, once what is in the outbox is sent; idempotent."""
        await self._outbox.stop(STOP_S)
        await self._leaving.stop(STOP_S)
        receiver, self._receiver = self._receiver, None
        await end(*self._forgoing, *([receiver] if receiver else []))

    async def reserve(self, task_id: str, token: int, amount_microusd: int, ttl_s: float) -> str:
        """Hold money for one call. Returns the hold's id.

        Raises:
            BudgetExceeded: still refused after the wait, or exhausted.
            LeaseLost: the task is no longer ours.
            StoreUnavailable: the governor does not answer.
        """
        hold_id = uuid.uuid4().hex
        request = {
            "do": "reserve",
            "id": hold_id,
            "task": task_id,
            "token": token,
            "amount": amount_microusd,
            "ttl_s": ttl_s,
        }
        try:
            await self._granted(request)
        except BaseException:
            # A copy of the request may still be granted, and nobody would use the hold.
            self._forgo(hold_id)
            raise
        return hold_id

    async def _granted(self, request: dict[str, Any]) -> None:
        until = time.monotonic() + self._wait_s
        refusals = 0
        while (answer := await self._ask(request))["code"] != "granted":
            if answer["code"] == "lost":
                raise LeaseLost(*answer["fields"])
            refusal = BudgetExceeded(RefusalKind(answer["fields"][0]), *answer["fields"][1:])
            left = until - time.monotonic()
            if refusal.kind is RefusalKind.EXHAUSTED or left <= 0:
                raise refusal
            refusals += 1
            await asyncio.sleep(min(left, backoff_s(refusals, base_s=RETRY_CONTENDED_S)))

    async def sent(self, hold_id: str) -> bool:
        """Say that a hold's call leaves now. False: the hold is over, and the call must not leave.

        Raises:
            StoreError: nobody knows; the call must not leave.
        """
        return await self._leaving.do(hold_id)

    async def find(self, task_id: str, round_: int, call: str) -> str | None:
        """The reply kept of a call of an earlier run, or None. Behind every settlement that was sent before.

        Raises:
            StoreUnavailable: the governor does not answer.
        """
        answer = await self._ask(
            {"do": "find", "id": uuid.uuid4().hex, "task": task_id, "round": round_, "call": call}
        )
        return str(answer["reply"]) if answer["code"] == "kept" else None

    async def settle(
        self,
        hold_id: str,
        cost_microusd: int | None,
        charge: Charge | None = None,
        keep: Keep | None = None,
        round_: int = 0,
    ) -> None:
        """End a hold; the request is in the store when this returns, and is not lost from there.

        Raises:
            StoreUnavailable: it could not be stored: the hold runs out, and is charged if its call was sent.
        """
        await self._append(
            {
                "do": "settle",
                "hold": hold_id,
                "cost": cost_microusd,
                "charge": "" if charge is None else json.dumps(asdict(charge)),
                "round": round_,
                "call": keep.call if keep else "",
                "reply": keep.reply if keep else "",
            }
        )

    def _forgo(self, hold_id: str) -> None:
        if self._receiver is None:
            return  # we have stopped: the hold runs out, unsent
        task = asyncio.create_task(self._release(hold_id), name=f"forgo {hold_id}")
        self._forgoing.add(task)
        task.add_done_callback(self._forgoing.discard)

    async def _release(self, hold_id: str) -> None:
        try:
            await self.settle(hold_id, None)
        except StoreError as exc:
            log.warning("hold.left", hold=hold_id, error=str(exc))  # it runs out, unsent

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[request["id"]] = future
        try:
            async with asyncio.timeout(GIVE_UP_S):
                while not future.done():
                    await self._append(request | {"from": self._asker})
                    await asyncio.wait({future}, timeout=ASK_AGAIN_S)
            return future.result()
        except TimeoutError as exc:
            raise StoreUnavailable(
                f"the governor gave no answer within {GIVE_UP_S:g} s, so nothing is spent: "
                "see `chimera status`"
            ) from exc
        finally:
            self._waiting.pop(request["id"], None)

    async def _append(self, request: dict[str, Any]) -> None:
        """Until it stands in the store: twice is harmless."""
        failures = 0
        try:
            async with asyncio.timeout(GIVE_UP_S):
                while True:
                    try:
                        return await self._outbox.do(request)
                    except StoreError:
                        failures += 1
                        await asyncio.sleep(backoff_s(failures))
        except TimeoutError as exc:
            raise StoreUnavailable(
                f"the store took no request for the governor within {GIVE_UP_S:g} s: see `chimera doctor`"
            ) from exc

    async def _post(self, requests: Sequence[dict[str, Any]]) -> Sequence[None]:
        await self._requests.send(self._asker, uuid.uuid4().hex, requests)
        return [None] * len(requests)

    async def _receive(self) -> None:
        while True:
            try:
                for answer in await self._answers.answers(self._asker, timeout_s=5):
                    future = self._waiting.get(answer["id"])
                    if future is not None and not future.done():
                        future.set_result(answer)
            except StoreError as exc:
                log.warning("store.unavailable", service="desk", error=str(exc))
                await asyncio.sleep(backoff_s(1))


@dataclass(frozen=True, slots=True)
class LeasedPurse:
    """One attempt's purse: every hold is fenced by its lease (see `chimera.agents.purse.Purse`).

    Attributes:
        round: of the task, for the replies that are kept.
    """

    desk: Desk
    task_id: str
    token: int
    round: int

    async def reserve(self, *, amount_microusd: int, model: str, agent: str, ttl_s: float) -> str:
        """See `Purse.reserve`."""
        return await self.desk.reserve(self.task_id, self.token, amount_microusd, ttl_s)

    async def sent(self, hold_id: str) -> bool:
        """See `Purse.sent`."""
        return await self.desk.sent(hold_id)

    async def settle(
        self, hold_id: str, *, cost_microusd: int, charge: Charge, keep: Keep | None = None
    ) -> None:
        """See `Purse.settle`."""
        await self.desk.settle(hold_id, cost_microusd, charge, keep, self.round)

    async def release(self, hold_id: str) -> None:
        """See `Purse.release`."""
        await self.desk.settle(hold_id, None)

    async def find(self, call: str) -> str | None:
        """See `Purse.find`."""
        return await self.desk.find(self.task_id, self.round, call)
