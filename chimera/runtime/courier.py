"""The courier: carries out the actions of accepted results, and says what came of each.

    claim under a lease → check the allow-list → send → report under the lease's token

The hub runs no tenant code: an action is data, and a request is all that it can ask for. Every replica
may run a courier; leases keep two from doing the same work. A courier that dies after it sent and before
it reported leaves an action that another sends again, under the same Idempotency-Key: at least once,
and once for a receiver that heeds the key.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass

import httpx
import structlog

from chimera.core.action import Allowed, Answer, Outcome, idempotency_key, outcome, parse_action
from chimera.errors import StoreError
from chimera.runtime.base import Base
from chimera.runtime.service import Service, backoff_s
from chimera.runtime.turns import Turns
from chimera.runtime.webhook import Webhook
from chimera.store.actions import Errand, Report
from chimera.store.connection import end
from chimera.store.signals import Wakeups

log = structlog.get_logger(__name__)

AT_ONCE = 64
"""Actions one courier holds at once."""
OF_TENANT = 16
"""Of these, of one tenant: a slow receiver must not hold up the others' actions."""
BASE_S, MOST_S = 0.5, 300.0
"""The pause before another try doubles from the first to the second."""
GRACE_S = 5.0
"""A courier that stops lets what is under way end for this long."""


@dataclass(frozen=True, slots=True)
class Held:
    """An action under way."""

    tenant: str
    errand: Errand
    until: float
    """Its lease's end by the local monotonic clock, which runs from before the claim."""


class Courier(Service):
    """Carries out every tenant's actions.

    Args:
        courier_id: unique among couriers; the recorder names it.
        transport: another httpx transport.
    """

    name = "courier"
    sweep_s = 0.25
    """Often enough that its own looks leave no gap that counts as a stall (lua/include/pulse.lua)."""

    def __init__(
        self,
        base: Base,
        courier_id: str,
        wakeups: Wakeups,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__()
        self._base = base
        self.courier_id = courier_id
        self._wakeups = wakeups
        self._allowed = Allowed.parse(base.settings.action_hosts)
        self._transport = transport
        self._webhook: Webhook | None = None
        self._named: set[str] = set()
        self._swept_at = float("-inf")
        self._turns = Turns()
        self._claim_ids: dict[str, str] = {}
        """Claims whose answer has not come: they are asked for again under the same id."""
        self._held: Counter[str] = Counter()
        self._full = False
        self._freed = asyncio.Event()
        self._sending: set[asyncio.Task[None]] = set()
        self._reports: asyncio.Queue[tuple[str, Report]] = asyncio.Queue()
        self._reporter: asyncio.Task[None] | None = None

    def start(self) -> None:
        super().start()
        if self._reporter is None or self._reporter.done():
            self._reports = asyncio.Queue()
            self._reporter = asyncio.create_task(self._report(), name=f"{self.courier_id} reports")

    async def stop(self) -> None:
        """End: what is under way may end first, for a while. The rest is left to its leases."""
        await super().stop()
        reporter, self._reporter = self._reporter, None
        if reporter is None:
            return
        try:
            async with asyncio.timeout(GRACE_S):
                while self._held.total():
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            log.warning("courier.left", actions=self._held.total())
        await end(reporter, *self._sending)
        self._held.clear()
        webhook, self._webhook = self._webhook, None
        if webhook is not None:
            await webhook.aclose()

    async def wait(self) -> None:
        if self._full:
            # Places come free one by one: look again with the first.
            self._freed.clear()
            try:
                async with asyncio.timeout(self.sweep_s):
                    await self._freed.wait()
            except TimeoutError:
                return
        else:
            self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        named, self._named, self._full = self._named, set(), False
        for tenant in await self._tenants(named):
            while (room := self._room(tenant)) > 0:
                if await self._claim(tenant, room) < room:
                    break
            self._full = self._full or room <= 0

    async def _tenants(self, named: set[str]) -> list[str]:
        """Those named; all of them at least once a sweep, since time alone makes actions due."""
        now = time.monotonic()
        if named and now - self._swept_at < self.sweep_s:
            return self._turns.of(named)
        self._swept_at = now
        return self._turns.of(await self._base.tenants.names())

    def _room(self, tenant: str) -> int:
        return min(AT_ONCE - self._held.total(), OF_TENANT - self._held[tenant])

    async def _claim(self, tenant: str, most: int) -> int:
        settings, asked_at = self._base.settings, time.monotonic()
        claim_id = self._claim_ids.setdefault(tenant, uuid.uuid4().hex)
        errands = await self._base.of(tenant).actions.claim(
            self.courier_id,
            claim_id,
            # A whole try fits in, with as much time again as a worker's lease for what lies around it.
            lease_s=settings.action_timeout_s + settings.lease_s,
            most=most,
            grace_s=settings.lease_s,
        )
        del self._claim_ids[tenant]
        for errand in errands:
            held = Held(tenant, errand, asked_at + errand.lease_s)
            self._held[tenant] += 1
            task = asyncio.create_task(
                self._carry_out(held), name=f"{self.courier_id} sends {errand.action_id}"
            )
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
            # Cut short: nothing is known of it, and its lease runs out.
            task.add_done_callback(lambda task: self._release(tenant) if task.cancelled() else None)
        return len(errands)

    async def _carry_out(self, held: Held) -> None:
        errand = held.errand
        try:
            answer, final = await self._answer(held)
        except Exception as exc:
            # Ours, not the receiver's: it is tried again like an answer that did not come.
            log.exception("action.crashed", tenant=held.tenant, action=errand.action_id)
            answer, final = Answer(None, f"{type(exc).__name__}: {exc}"[:500]), False
        if answer is None:
            log.warning("action.late", tenant=held.tenant, action=errand.action_id)
            self._release(held.tenant)
            return
        tries = errand.tries + 1
        what = (
            Outcome.FAILED if final else outcome(answer, tries=tries, most=self._base.settings.action_tries)
        )
        delay_s = max(answer.retry_after_s, backoff_s(tries, base_s=BASE_S, most_s=MOST_S))
        if what is not Outcome.DONE:
            log.warning(
                f"action.{what}", tenant=held.tenant, action=errand.action_id, tries=tries, answer=str(answer)
            )
        self._reports.put_nowait(
            (held.tenant, Report(errand.action_id, errand.token, what, str(answer), delay_s))
        )

    async def _answer(self, held: Held) -> tuple[Answer | None, bool]:
        """What came of one try, and whether no other can help; no answer when it is too late to try."""
        try:
            action = parse_action(held.errand.action_json)
        except ValueError as exc:
            return Answer(None, f"it cannot be read, so it was not sent: {exc}"[:500]), True
        if refusal := self._allowed.refusal(action):
            return Answer(None, f"not sent: {refusal}"), True
        timeout_s = self._base.settings.action_timeout_s
        if held.until - time.monotonic() < timeout_s:
            return None, False
        self._webhook = self._webhook or Webhook(self._transport)
        key = idempotency_key(held.tenant, held.errand.action_id)
        return await self._webhook.send(action, key, within_s=timeout_s), False

    def _release(self, tenant: str) -> None:
        self._held[tenant] -= 1
        self._freed.set()

    async def _report(self) -> None:
        while True:
            batches: dict[str, list[Report]] = defaultdict(list)
            tenant, report = await self._reports.get()
            batches[tenant].append(report)
            while not self._reports.empty():
                tenant, report = self._reports.get_nowait()
                batches[tenant].append(report)
            for tenant, batch in batches.items():
                await self._report_batch(tenant, batch)

    async def _report_batch(self, tenant: str, batch: list[Report]) -> None:
        """Until the store has taken it: what was sent must not be sent again for want of a word."""
        failures = 0
        while True:
            try:
                written = await self._base.of(tenant).actions.report(self.courier_id, batch)
                break
            except StoreError as exc:
                failures += 1
                log.warning("store.unavailable", service=self.name, error=str(exc))
                await asyncio.sleep(backoff_s(failures))
        for report, kept in zip(batch, written, strict=True):
            if not kept:
                log.warning("action.lost", tenant=tenant, action=report.action_id, outcome=report.outcome)
            self._release(tenant)
