"""The desk: where a worker or a judge asks the governor for money.

One desk serves a whole process. Requests of the same few milliseconds go out as one batch;
answers come back on a list of its own. A request without an answer is sent again under the same
id, which is harmless. While the governor is away nothing is granted (fail closed); what needs no
answer, a settlement above all, is done once it stands in the store, and waits for the governor there.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from chimera.agents.purse import Charge, Keep
from chimera.agents.records import as_text
from chimera.errors import BudgetExceeded, LeaseLost, RefusalKind, StoreError, StoreUnavailable
from chimera.runtime.batches import Batches, fail
from chimera.runtime.service import backoff_s
from chimera.store.connection import Redis, end
from chimera.store.requests import MOST_NAME, Request, Requests, written

log = structlog.get_logger(__name__)

ASK_AGAIN_S = 1.0
LOOK_S = 0.25
"""How often is looked for what to ask again, or to give up."""
GIVE_UP_S = 30.0
RETRY_CONTENDED_S = 0.1
STOP_S = 2.0
"""What waits for the store when a desk stops is given this long."""


@dataclass(slots=True, eq=False)
class Asked:
    """A request that waits for its answer. It listens to the outbox, too.

    Attributes:
        until: it gives up then (`time.monotonic`).
        stands_at: when it was put into the store last; inf while it is on its way there.
    """

    text: bytes
    answer: asyncio.Future[dict[str, Any]]
    until: float
    stands_at: float = float("inf")

    def done(self) -> bool:
        """Whether it waits no more."""
        return self.answer.done()

    def set_result(self, _: None) -> None:
        """It stands in the store: from now on the governor is waited for."""
        self.stands_at = time.monotonic()

    def set_exception(self, exception: Exception) -> None:
        """There will be no answer."""
        self.answer.set_exception(exception)


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
        # Ids that nobody else makes: 96 bits of chance for this desk, then its own count.
        self._desk_id, self._count = secrets.token_hex(12), itertools.count(1)
        self._waiting: dict[str, Asked] = {}
        self._look: asyncio.TimerHandle | None = None
        self._receiver: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; idempotent."""
        self._outbox.start()
        self._leaving.start()
        if self._receiver is None:
            self._receiver = asyncio.create_task(self._receive(), name="desk receives")

    async def stop(self) -> None:
        """End, once what is in the outbox is sent; idempotent."""
        if self._look is not None:
            self._look.cancel()  # the outbox takes nothing more
            self._look = None
        await self._outbox.stop(STOP_S)
        await self._leaving.stop(STOP_S)
        receiver, self._receiver = self._receiver, None
        await end(*([receiver] if receiver else []))
        fail(self._waiting.values(), StoreUnavailable("requests for the governor: closed"))

    async def reserve(
        self,
        task_id: str,
        token: int,
        amount_microusd: int,
        ttl_s: float,
        agent: str = "",
        model: str = "",
    ) -> str:
        """Hold money for one call. Returns the hold's id.

        Args:
            task_id, token: who pays (see `chimera.store.ledger.Reservation`).
            agent, model: whose limits bind too.
        Raises:
            BudgetExceeded: still refused after the wait, exhausted, or refused by the tenant's brake.
            LeaseLost: the task is no longer ours.
            StoreUnavailable: the governor does not answer.
        """
        hold_id = self._new_id()
        request = {
            "do": "reserve",
            "id": hold_id,
            "task": task_id,
            "token": token,
            "amount": amount_microusd,
            "ttl_s": ttl_s,
            "agent": agent[:MOST_NAME],
            "model": model[:MOST_NAME],
            "from": self._asker,
        }
        try:
            answer = await self._ask(request)
            if answer["code"] != "granted":
                await self._wait_for(request, answer)
        except BaseException:
            # A copy of the request may still be granted, and nobody would use the hold.
            self._forgo(hold_id)
            raise
        return hold_id

    async def _wait_for(self, request: Request, answer: dict[str, Any]) -> None:
        """Ask for what was refused until it is granted, for as long as that may help."""
        until = time.monotonic() + self._wait_s
        refusals = 0
        while answer["code"] != "granted":
            if answer["code"] == "lost":
                raise LeaseLost(*answer["fields"])
            refusal = BudgetExceeded(RefusalKind(answer["fields"][0]), *answer["fields"][1:])
            left = until - time.monotonic()
            if refusal.kind is RefusalKind.EXHAUSTED or refusal.braked or left <= 0:
                raise refusal
            if refusal.kind is RefusalKind.WINDOW and refusal.retry_after_s > left:
                raise refusal  # to wait here is vain
            refusals += 1
            await asyncio.sleep(min(left, backoff_s(refusals, base_s=RETRY_CONTENDED_S)))
            answer = await self._ask(request)

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
        request = {"do": "find", "id": self._new_id(), "task": task_id, "round": round_, "call": call}
        answer = await self._ask(request | {"from": self._asker})
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

        Whoever is cancelled meanwhile is so once it stands there.

        Raises:
            StoreUnavailable: it could not be stored: the hold runs out, and is charged if its call was sent.
        """
        text = settlement(hold_id, cost_microusd, charge, keep, round_)
        try:
            await self._outbox.do(text, again_s=GIVE_UP_S)
        except asyncio.CancelledError:
            # It is on its way. Said again, behind itself: where that stands it does too; twice is harmless.
            try:
                await self._outbox.do(text, again_s=GIVE_UP_S)
            except StoreError as exc:
                runs_out(hold_id, exc)
            raise

    def _forgo(self, hold_id: str) -> None:
        try:
            given_back = self._outbox.do(settlement(hold_id, None), again_s=GIVE_UP_S)
        except StoreUnavailable:
            return  # we have stopped: the hold runs out, unsent
        given_back.add_done_callback(partial(_given_back, hold_id))

    async def _ask(self, request: Request) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        asked = Asked(written(request), loop.create_future(), time.monotonic() + GIVE_UP_S)
        self._outbox.put(asked.text, asked, again_s=GIVE_UP_S)
        self._waiting[request["id"]] = asked
        if self._look is None:
            self._look = loop.call_later(LOOK_S, self._look_again)
        try:
            return await asked.answer
        finally:
            del self._waiting[request["id"]]

    def _look_again(self) -> None:
        """Ask again for what the governor has not answered; in the end give up."""
        now = time.monotonic()
        for asked in self._waiting.values():
            if asked.done():
                continue
            if now >= asked.until:
                asked.set_exception(
                    StoreUnavailable(
                        f"the governor gave no answer within {GIVE_UP_S:g} s, so nothing is spent: "
                        "see `chimera status`"
                    )
                )
            elif now - asked.stands_at >= ASK_AGAIN_S:
                asked.stands_at = float("inf")
                self._outbox.put(asked.text, asked, again_s=asked.until - now)
        waits = self._waiting and self._receiver is not None
        self._look = asyncio.get_running_loop().call_later(LOOK_S, self._look_again) if waits else None

    def _new_id(self) -> str:
        return f"{self._desk_id}{next(self._count):08x}"

    async def _post(self, texts: Sequence[bytes]) -> Sequence[None]:
        await self._requests.send(self._asker, uuid.uuid4().hex, texts)
        return [None] * len(texts)

    async def _receive(self) -> None:
        while True:
            try:
                for answer in await self._answers.answers(self._asker, timeout_s=5):
                    asked = self._waiting.get(answer["id"])
                    if asked is not None and not asked.done():
                        asked.answer.set_result(answer)
            except StoreError as exc:
                log.warning("store.unavailable", service="desk", error=str(exc))
                await asyncio.sleep(backoff_s(1))


def settlement(
    hold_id: str,
    cost_microusd: int | None,
    charge: Charge | None = None,
    keep: Keep | None = None,
    round_: int = 0,
) -> bytes:
    """The request that ends a hold; a cost of None releases it."""
    return written(
        {
            "do": "settle",
            "hold": hold_id,
            "cost": cost_microusd,
            "charge": "" if charge is None else as_text(charge.account()),
            "called": "" if charge is None else charge.told(),
            "round": round_,
            "call": keep.call if keep else "",
            "reply": keep.reply if keep else "",
        }
    )


def runs_out(hold_id: str, exc: BaseException) -> None:
    """Nobody could be told that a hold is over: it runs out."""
    log.warning("hold.left", hold=hold_id, error=str(exc))


def _given_back(hold_id: str, done: asyncio.Future[None]) -> None:
    if not done.cancelled() and (exc := done.exception()) is not None:
        runs_out(hold_id, exc)


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
        return await self.desk.reserve(self.task_id, self.token, amount_microusd, ttl_s, agent, model)

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
