"""The herald: tells a webhook of every change of a brake.

A change and its notice are written in one step; the notice stays in Redis until the webhook took it, so it
survives this process. It is told at least once, in order of each tenant, under an id that never changes. A
receiver that is slow or away holds up nobody: the governor does not wait for the herald.
"""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import structlog

from chimera.core.action import Allowed, Answer, HttpAction, Outcome, outcome
from chimera.runtime.base import Base
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.elector import Elector
from chimera.runtime.service import Service, backoff_s
from chimera.runtime.webhook import Webhook
from chimera.store.brakes import BrakeStore

log = structlog.get_logger(__name__)

BASE_S, MOST_S = 1.0, 300.0
"""The pause before another try doubles from the first to the second."""
TRIES = 100
"""Then a notice is given up: with these pauses after some eight hours."""
PAGE = 10


class Herald(Service):
    """Tells the webhook.

    Args:
        transport: another httpx transport.
    """

    name = "herald"
    sweep_s = 1.0

    def __init__(
        self, base: Base, elector: Elector, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__()
        self._settings = base.settings
        self._allowed = Allowed.parse(base.settings.action_hosts)
        self._elector = elector
        self._store = BrakeStore(base.redis)
        self._transport = transport
        self._webhook: Webhook | None = None
        self._bulkhead = Bulkhead(self.name)
        self._waiting: set[str] = set()
        self._put_off: dict[str, tuple[int, float]] = {}
        """Tenants whose first notice was tried in vain: how often, and when it is tried again."""
        self._named = asyncio.Event()

    def name_tenant(self, tenant: str) -> None:
        """There are notices of a tenant."""
        self._waiting.add(tenant)
        self._named.set()

    async def wait(self) -> None:
        self._named.clear()
        try:
            async with asyncio.timeout(self.sweep_s):
                await self._named.wait()
        except TimeoutError:
            return

    async def run_once(self) -> None:
        await self._elector.led()
        now = time.monotonic()
        due = [tenant for tenant in self._waiting if self._put_off.get(tenant, (0, 0.0))[1] <= now]
        self._waiting.difference_update(due)
        await self._bulkhead.each(sorted(due), self._tell)

    async def stop(self) -> None:
        await super().stop()
        webhook, self._webhook = self._webhook, None
        if webhook is not None:
            await webhook.aclose()

    async def _tell(self, tenant: str) -> None:
        """What waits of a tenant, until one is not taken."""
        for notice in await self._store.notices(tenant, PAGE):
            answer = await self._send(notice) if self._settings.brake_webhook_url else None
            if answer is not None and not self._over(tenant, answer):
                self._waiting.add(tenant)
                return
            self._put_off.pop(tenant, None)
            await self._store.told(tenant, notice)
        # Behind those of this page; the brakes' next look names the tenant again.

    async def _send(self, notice: str) -> Answer:
        try:
            body = json.loads(notice)
        except ValueError as exc:
            return Answer(400, f"it cannot be read, so it was not sent: {exc}")
        action = HttpAction(url=self._settings.brake_webhook_url, body=body)
        if refusal := self._allowed.refusal(action):
            return Answer(403, f"not sent: {refusal}")
        self._webhook = self._webhook or Webhook(self._transport)
        return await self._webhook.send(action, body["id"], within_s=self._settings.action_timeout_s)

    def _over(self, tenant: str, answer: Answer) -> bool:
        """Whether a notice is done with, taken or given up; else it is tried again later."""
        tries = self._put_off.get(tenant, (0, 0.0))[0] + 1
        what = outcome(answer, tries=tries, most=TRIES)
        if what is Outcome.RETRY:
            delay_s = max(answer.retry_after_s, backoff_s(tries - 1, base_s=BASE_S, most_s=MOST_S))
            self._put_off[tenant] = tries, time.monotonic() + delay_s
            log.warning("notice.put_off", tenant=tenant, tries=tries, answer=str(answer))
            return False
        if what is Outcome.FAILED:
            log.error("notice.given_up", tenant=tenant, tries=tries, answer=str(answer))
        return True
