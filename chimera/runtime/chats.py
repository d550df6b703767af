"""Chat completions for whoever speaks to the gateway: each try reserved, sent, forwarded, settled.

As an agent's own calls are (`chimera.agents.models.client`), by the same bill. A call is a task of its own,
apart from the request that asked for it: whoever leaves, it is settled.

    whole answer    its caller left: it goes on to its end, and is charged what it cost
    stream          its reader left: it hangs up, and is charged its usage if that came, else the hold
    the process is killed: the hold runs out and is charged, for it was sent
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import structlog

from chimera.agents.models.bill import Bill
from chimera.agents.models.chat import Chat
from chimera.agents.models.compatible import CompatibleEndpoint
from chimera.agents.models.endpoint import CallFailed
from chimera.agents.models.kept import digest
from chimera.agents.models.opening import open_compatible
from chimera.agents.models.prices import Price
from chimera.agents.models.relay import Metered, forward, relay
from chimera.agents.purse import Called, Charge, Keep
from chimera.errors import HubBusy, InvalidTransition, LeaseLost, RateLimited
from chimera.runtime.base import Base
from chimera.runtime.desk import LeasedPurse
from chimera.runtime.desks import Desks
from chimera.runtime.modelkeys import TenantModels
from chimera.settings import Settings
from chimera.telemetry.payloads import Payloads
from chimera.telemetry.redaction import redact

log = structlog.get_logger(__name__)

MOST = 1_024
"""Calls under way at once in one process."""
MOST_OF_TENANT = 256
"""Of these, of one tenant."""
BUFFER_BYTES = 1 << 18
"""Of a stream, waiting for its reader: while there are as many the endpoint waits."""
LAST_CALL_S = 3.0
"""A process that is to end lets calls under way go on for this long; then it ends them, settled."""
RETRY_AFTER_S = 1.0
CLOSING = "this gateway is being replaced, and ended the call: ask again"


@dataclass(frozen=True, slots=True)
class Payer:
    """Whose money a call takes.

    Attributes:
        subject: a task's id, under its lease; a mission's; or "": the tenant's alone.
        token: of the lease; 0 where there is none.
        round: of the task, for replies that are kept.
        agent: whose limits bind, beside the others.
        traceparent: the span that it is made within, sent on; or "".
    """

    tenant: str
    subject: str
    token: int
    round: int
    agent: str
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Paid:
    """An answer in one piece. `hold` is "" and `charge` None where it was kept of an earlier call."""

    body: bytes
    hold: str
    charge: Charge | None


class Stream:
    """An answer that comes piece by piece. Take until b""; then, or when nobody reads on, `leave`."""

    def __init__(self) -> None:
        self.hold = ""
        self.charge: Charge | None = None
        """What it cost, once it is over."""
        self.failure: BaseException | None = None
        """Why it ended before its end."""
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._more, self._room = asyncio.Event(), asyncio.Event()
        self._over = False
        self._began: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._call: asyncio.Task[None]

    async def take(self) -> bytes:
        """What came since; b"" once nothing more comes."""
        while not self._pieces:
            if self._over:
                return b""
            self._more.clear()
            await self._more.wait()
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        self._room.set()
        return taken

    def leave(self) -> None:
        """Nobody reads on: what is under way hangs up."""
        self._call.cancel()

    def _run(self, call: asyncio.Task[None]) -> None:
        self._call = call
        call.add_done_callback(self._end)

    async def _put(self, piece: bytes) -> None:
        if not self._began.done():
            self._began.set_result(None)
        while self._size >= BUFFER_BYTES:
            self._room.clear()
            await self._room.wait()
        if piece:
            self._pieces.append(piece)
            self._size += len(piece)
            self._more.set()

    def _end(self, call: asyncio.Task[None]) -> None:
        failure = HubBusy(CLOSING, RETRY_AFTER_S) if call.cancelled() else call.exception()
        if not self._began.done():
            self._began.set_exception(failure or HubBusy(CLOSING, RETRY_AFTER_S))
            self._began.exception()  # its caller may have left
        self.failure, self._over = failure, True
        self._more.set()


class Chats:
    """Calls of one process.

    Args:
        asker: names this process to the governor.
    """

    def __init__(
        self, base: Base, asker: str, *, most: int = MOST, most_of_tenant: int = MOST_OF_TENANT
    ) -> None:
        self._settings = settings = base.settings
        self._models = TenantModels(settings, partial(_open, settings))
        self.desks = Desks(base.redis, base.blocking, asker, wait_s=settings.reserve_wait_s)
        self._most, self._most_of_tenant = most, most_of_tenant
        self._of_tenant: Counter[str] = Counter()
        self._calls: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def under_way(self) -> int:
        """How many calls are."""
        return len(self._calls)

    async def whole(self, chat: Chat, payer: Payer, key: str = "") -> Paid:
        """An answer in one piece.

        Args:
            key: the client's name for the call: the same again for the same round of the task, and the same
                request, gives the reply that is kept of it.
        Raises:
            BudgetExceeded, LeaseLost: the governor refuses; nothing was sent.
            CallFailed: the endpoint failed.
            ModelUnavailable, ConfigurationError: there is no such endpoint, or no price.
            RateLimited, HubBusy: too many calls are under way.
            StoreError: the governor or the store is away; nothing was sent.
        """
        call: asyncio.Task[Paid] = self._start(payer.tenant, self._whole(chat, payer, key))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if call.cancelled():
                raise HubBusy(CLOSING, RETRY_AFTER_S) from None
            raise  # the caller is: the call goes on

    async def stream(self, chat: Chat, payer: Payer) -> Stream:
        """An answer piece by piece, once the endpoint has taken the call.

        Raises:
            As `whole`. What fails later is the stream's `failure`.
        """
        stream = Stream()
        stream._run(self._start(payer.tenant, self._stream(chat, payer, stream)))
        try:
            await asyncio.shield(stream._began)
        except asyncio.CancelledError:
            stream.leave()
            raise
        return stream

    def last_call(self) -> None:
        """Take no more calls, and end those under way soon; at once it only says so. Twice is fine."""
        if not self._closing:
            self._closing = True
            self._timer = asyncio.get_running_loop().call_later(LAST_CALL_S, self._cut)

    async def close(self) -> None:
        """End what is under way, settled, and close all connections. Twice is fine."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._cut()
        await asyncio.gather(*self._calls, return_exceptions=True)
        await self.desks.close()
        await self._models.aclose()

    def _cut(self) -> None:
        for call in self._calls:
            call.cancel()

    def _start(self, tenant: str, call: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        try:
            self._require(tenant)
        except BaseException:
            call.close()
            raise
        task = asyncio.create_task(call, name=f"chat completion of {tenant}")
        self._calls.add(task)
        self._of_tenant[tenant] += 1
        task.add_done_callback(partial(self._ended, tenant))
        return task

    def _require(self, tenant: str) -> None:
        if self._closing:
            raise HubBusy(CLOSING, RETRY_AFTER_S)
        if len(self._calls) >= self._most:
            raise HubBusy(
                f"this gateway has {self._most:,} chat completions under way, and may have no more",
                RETRY_AFTER_S,
            )
        if self._of_tenant[tenant] >= self._most_of_tenant:
            raise RateLimited(
                f"this tenant has {self._most_of_tenant:,} chat completions under way on this gateway: let "
                "some end",
                RETRY_AFTER_S,
            )

    def _ended(self, tenant: str, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        self._of_tenant[tenant] -= 1
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]
        if not task.cancelled():
            task.exception()  # whoever asked may have left: then nobody else looks at it

    async def _whole(self, chat: Chat, payer: Payer, key: str) -> Paid:
        endpoint, price = await self._opened(chat.model, payer.tenant)
        data = chat.written(endpoint.name, endpoint.cap)
        call = digest(["chat", payer.tenant, payer.subject, payer.round, key, data.decode()]) if key else ""
        timeout_s = self._settings.model_timeout_s
        async with self.desks.of(payer.tenant) as desk:
            purse = LeasedPurse(desk, payer.subject, payer.token, payer.round)
            if call and (kept := await purse.find(call)):
                return Paid(kept.encode(), "", None)
            bill = await self._bill(purse, endpoint, price, chat, data, payer, timeout_s)
            payloads = Payloads(self._settings.recorder_payloads)
            called = Called(payloads.of(data))
            try:
                answer = await forward(
                    endpoint, data, timeout_s=timeout_s, call=call, traceparent=payer.traceparent
                )
            except CallFailed as exc:
                failed = replace(called, error=redact(str(exc))[:200])
                await (bill.settle(bill.charge(None, called=failed)) if exc.sent else bill.release())
                raise
            except BaseException:  # the process ends, or a defect: it may have been sent
                await bill.settle(bill.charge(None, called=called))
                raise
            called = replace(called, reply=payloads.of(answer.body))
            charge = bill.charge(answer.tokens, answer.request_id, called)
            await bill.settle(charge, Keep(call, answer.body.decode()))
            return Paid(answer.body, bill.hold, charge)

    async def _stream(self, chat: Chat, payer: Payer, stream: Stream) -> None:
        endpoint, price = await self._opened(chat.model, payer.tenant)
        data = chat.written(endpoint.name, endpoint.cap)
        settings, metered = self._settings, Metered(chat.answers)
        timeout_s = max(settings.chat_stream_s, settings.model_timeout_s)
        async with self.desks.of(payer.tenant) as desk:
            purse = LeasedPurse(desk, payer.subject, payer.token, payer.round)
            bill = await self._bill(purse, endpoint, price, chat, data, payer, timeout_s)
            stream.hold = bill.hold

            async def settle() -> None:
                tokens = metered.tokens if metered.final else None
                # Of a stream nothing is kept here: what its reader got, the reader has.
                called = Called(Payloads(settings.recorder_payloads).of(data))
                stream.charge = bill.charge(tokens, metered.request_id, called)
                await bill.settle(stream.charge)

            try:
                await relay(
                    endpoint,
                    data,
                    chat,
                    metered,
                    stream._put,
                    silence_s=settings.model_timeout_s,
                    timeout_s=timeout_s,
                    traceparent=payer.traceparent,
                )
            except CallFailed as exc:
                await (settle() if exc.sent else bill.release())
                raise
            except BaseException:  # the reader left, the process ends, or a defect
                await settle()
                raise
            await settle()

    async def _bill(
        self,
        purse: LeasedPurse,
        endpoint: CompatibleEndpoint,
        price: Price,
        chat: Chat,
        data: bytes,
        payer: Payer,
        timeout_s: float,
    ) -> Bill:
        try:
            return await Bill.open(
                purse,
                model=endpoint.name,
                price=price,
                bound=chat.bound(data),
                agent=payer.agent,
                ttl_s=timeout_s + self._settings.hold_ttl_s,
            )
        except LeaseLost:
            if payer.token:
                raise
            raise InvalidTransition(f"mission {payer.subject} is over: it pays no more") from None

    async def _opened(self, model: str, tenant: str) -> tuple[CompatibleEndpoint, Price]:
        endpoint, price = await (await self._models.of(tenant)).open(model)
        return cast(CompatibleEndpoint, endpoint), price  # as `_open` makes them


def _open(settings: Settings, model: str, url: str, api_key: str) -> CompatibleEndpoint:
    return open_compatible(model, url, api_key, configured=settings.model)
