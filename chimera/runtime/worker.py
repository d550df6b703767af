"""The worker: one tenant's, with many slots. It pulls work under leases and hands in results.

    claim → attempt (in a slot) → hand in for review, or end → slot free → claim

It accepts nothing, decides no retry and knows no other tenant. It lives until it is told to drain. With
nobody to tell it so it ends by itself: idle for long, without the store for long, or when attempts that
nothing can stop fill its process.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Callable

import structlog
from structlog.contextvars import bind_contextvars

from chimera.agents.models.client import ModelClient, Models
from chimera.agents.registry import Registry
from chimera.agents.secrets import Secrets
from chimera.core.lease import Claim, Renewal
from chimera.core.task import Priority
from chimera.errors import LeaseLost, StoreError
from chimera.runtime.briefs import Brief, Briefs
from chimera.runtime.crew import watch
from chimera.runtime.desk import Desk, LeasedPurse
from chimera.runtime.executor import Done, Dropped, Executor, Outcome, Stopped
from chimera.runtime.renewer import Renewer
from chimera.runtime.service import backoff_s
from chimera.runtime.slots import Slot, Slots
from chimera.runtime.steps import Steps
from chimera.settings import Settings
from chimera.store.connection import Redis, SyncRedis, end
from chimera.store.missions import MissionStore
from chimera.store.scripts import SyncScripts
from chimera.store.signals import Bell
from chimera.store.tasks import Ended, HandedIn, Heartbeat, TaskStore

log = structlog.get_logger(__name__)

SWEEP_S = 1.0
"""A worker looks for work at least this often, rung for or not."""
ORPHANED_AFTER = 10
"""Idle, or without an answer of the store, for this many times `idle_s`: a worker ends itself."""
HAND_IN = 200
"""Outcomes of one script call."""


class Worker:
    """One worker process of one tenant.

    Args:
        blocking: a client of its own for waits; it has no socket timeout.
        sync: a client of its own for the heartbeat's thread.
        stuck: told, from that thread, when the event loop will not come back (see `Renewer`).
        node: the id of the cluster's node that it is on: the operator may name it by that.
        secrets: the tenant's, for its agents.
    """

    def __init__(
        self,
        settings: Settings,
        tenant: str,
        worker_id: str,
        registry: Registry,
        *,
        redis: Redis,
        blocking: Redis,
        sync: SyncRedis,
        stuck: Callable[[], None] = lambda: None,
        node: str = "",
        secrets: Secrets | None = None,
    ) -> None:
        self.tenant = tenant
        self.worker_id = worker_id
        self._settings = settings
        self._tasks = TaskStore(redis, tenant)
        self._briefs = Briefs(MissionStore(redis, tenant))
        self._desk = Desk(redis, blocking, tenant, worker_id, wait_s=settings.reserve_wait_s)
        self._bell = Bell(blocking, tenant)
        self._executor = Executor(
            settings, tenant, registry, self._tasks, self._briefs, self._model_for, secrets
        )
        self._more = asyncio.Event()
        """Something changed that may make another claim worthwhile."""
        self._slots = Slots(self._freed)
        self._steps = Steps()
        self.renewer = Renewer(
            Heartbeat(SyncScripts(sync), tenant, worker_id, pid=os.getpid(), node=node),
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            slots=settings.slots,
            leases=self._slots.leases,
            steps=self._steps,
            heard=self._heard,
            stuck=stuck,
        )
        self._models = Models(settings)
        self._outcomes: asyncio.Queue[tuple[Claim, Done | Stopped]] = asyncio.Queue()
        self._drained = False
        self._last_at = float("inf")
        """From then on a drained worker keeps nothing, whatever its settings say."""
        self._hurry_at = float("inf")
        """From then on (this process's clock) a drained worker keeps only what is of high priority."""
        self._idle_since = time.monotonic()

    @property
    def busy(self) -> int:
        """How many of its slots are in use."""
        return len(self._slots)

    def equip(self, settings: Settings, secrets: Secrets) -> None:
        """Take over new secrets, and a new model key: for attempts, and calls, that begin from now on."""
        self._executor.secrets = secrets
        self._models.use_key(settings.model_api_key)

    def drain(self, within_s: float | None = None, last_s: float | None = None) -> None:
        """Take no more work; `run` returns once what is under way is handed in, or back.

        Args:
            within_s: what is not of high priority is handed back after so long; None for `drain_s`.
            last_s: everything is handed back after so long; None for `drain_s`.
        """
        self._drained = True
        if last_s is not None:
            self._last_at = min(self._last_at, time.monotonic() + last_s)
        if within_s is not None:
            self._hurry_at = min(self._hurry_at, time.monotonic() + within_s)
        self._more.set()

    async def run(self) -> str:
        """Work until there is a reason to end. Returns it: drained, idle, store_away or strays."""
        watch(asyncio.get_running_loop())
        self._desk.start()
        self.renewer.start()
        helpers = [
            asyncio.create_task(self._hand_in(), name="hand in"),
            asyncio.create_task(self._listen(), name="listen for the bell"),
        ]
        log.info("worker.ready", slots=self._settings.slots)
        reason = "failed"
        try:
            while not (ending := self._ending()):
                self._more.clear()
                if not await self._claim():
                    await self._wait()
            reason = ending
            await self._finish()
        finally:
            await end(*helpers)
            await self._desk.stop()
            await self.renewer.stop()
            self._executor.close()
            await self._models.aclose()
            try:
                await self._tasks.leave(self.worker_id, reason)
            except StoreError as exc:
                log.warning("store.unavailable", service="worker", error=str(exc))
        log.info("worker.ended", reason=reason)
        return reason

    def _ending(self) -> str:
        """Why it takes no more work; "" while it does."""
        if self._drained:
            return "drained"
        if self._store_is_away():
            return "store_away"
        if self._slots.strays + self._executor.strays >= self._settings.slots:
            return "strays"
        idle_s = time.monotonic() - self._idle_since
        return "idle" if not self._slots and idle_s > ORPHANED_AFTER * self._settings.idle_s else ""

    def _store_is_away(self) -> bool:
        return self.renewer.unheard_s > ORPHANED_AFTER * self._settings.idle_s

    async def _wait(self, most_s: float = SWEEP_S) -> None:
        try:
            async with asyncio.timeout(max(0.01, min(SWEEP_S, most_s))):
                await self._more.wait()
        except TimeoutError:
            return

    async def _claim(self) -> bool:
        """Fill free slots. True when it is worth asking again at once."""
        free = self._settings.slots - len(self._slots)
        if free <= 0:
            return False
        express = self._settings.express_slots if self._settings.slots > 1 else 0
        general = max(0, min(free, self._settings.slots - express - self._slots.ordinary))
        claim_id = uuid.uuid4().hex
        failures = 0
        while True:
            try:
                claims = await self._tasks.claim(
                    self.worker_id,
                    claim_id,
                    lease_s=self._settings.lease_s,
                    general=general,
                    high=free,
                    slots=self._settings.slots,
                    max_agents=self._settings.tenant_max_agents,
                )
                break
            except StoreError as exc:
                # Under the same claim id: the store may have done it and lost its answer.
                failures += 1
                log.warning("store.unavailable", service="worker", error=str(exc))
                await asyncio.sleep(backoff_s(failures))
                if self._ending():
                    return False
        # All are held, and so renewed, before the first is waited for: their leases run.
        slots = [self._slots.take(claim) for claim in claims]
        if claims:
            high = await self._of_high_priority(claims)
            for slot in slots:
                self._begin(slot, high=slot.claim.mission_id in high)
            self._idle_since = time.monotonic()
        return bool(claims) and len(claims) >= general > 0

    async def _of_high_priority(self, claims: list[Claim]) -> set[str]:
        """Which of their missions are. What cannot be read, the attempts themselves find and report."""
        missions = {(claim.mission_id, claim.state_version) for claim in claims}
        read = await asyncio.gather(*(self._briefs.get(*one) for one in missions), return_exceptions=True)
        briefs = [one for one in read if isinstance(one, Brief)]
        return {brief.mission_id for brief in briefs if brief.priority is Priority.HIGH}

    def _begin(self, slot: Slot, *, high: bool) -> None:
        claim = slot.claim
        attempt = self._steps.timed(claim.task_id, self._attempt(claim))
        self._slots.begin(slot, asyncio.create_task(attempt, name=claim.task_id), high=high)

    async def _attempt(self, claim: Claim) -> None:
        # They end with this task: its context is its own.
        bind_contextvars(mission_id=claim.mission_id, task_id=claim.task_id, attempt=claim.attempt)
        try:
            outcome: Outcome = await self._executor.attempt(claim)
        except Exception as exc:
            log.exception("attempt.failed")
            outcome = Stopped("error", f"{type(exc).__name__}: {exc}")
        if isinstance(outcome, Dropped):
            log.warning("lease.lost", detail=outcome.detail)
            self._slots.free(claim)
        else:
            # The lease is kept until the store has taken the outcome.
            self._outcomes.put_nowait((claim, outcome))

    def _freed(self) -> None:
        self._idle_since = time.monotonic()
        self._more.set()

    async def _hand_in(self) -> None:
        while True:
            batch = [await self._outcomes.get()]
            while not self._outcomes.empty() and len(batch) < HAND_IN:
                batch.append(self._outcomes.get_nowait())
            failures = 0
            while True:
                try:
                    await self._report(batch)
                    break
                except StoreError as exc:
                    # The same tokens again: handing in twice is harmless.
                    failures += 1
                    log.warning("store.unavailable", service="worker", error=str(exc))
                    await asyncio.sleep(backoff_s(failures))
                except Exception:
                    log.exception("hand_in.failed", tasks=[claim.task_id for claim, _ in batch])
                    break
            for claim, _ in batch:
                self._slots.free(claim)

    async def _report(self, batch: list[tuple[Claim, Done | Stopped]]) -> None:
        done = [(claim, outcome) for claim, outcome in batch if isinstance(outcome, Done)]
        stopped = [(claim, outcome) for claim, outcome in batch if isinstance(outcome, Stopped)]
        answers: list[object] = []
        if done:
            answers += await self._tasks.submit(
                self.worker_id,
                [
                    HandedIn(
                        claim.task_id,
                        claim.token,
                        outcome.state_version,
                        outcome.result_json,
                        outcome.actions,
                        outcome.told,
                    )
                    for claim, outcome in done
                ],
                max_stale=self._settings.max_stale,
            )
        if stopped:
            answers += await self._tasks.end(
                self.worker_id,
                [
                    Ended(
                        claim.task_id,
                        claim.token,
                        outcome.kind,
                        outcome.detail,
                        outcome.delay_s,
                        outcome.told,
                    )
                    for claim, outcome in stopped
                ],
            )
        for answer in answers:
            if isinstance(answer, LeaseLost):
                log.warning("lease.lost", task_id=answer.task_id, detail=str(answer))

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                if await self._bell.wait(5.0):
                    self._more.set()
                failures = 0
            except StoreError:
                failures += 1  # the sweep looks for work meanwhile
                await asyncio.sleep(backoff_s(failures))

    async def _finish(self) -> None:
        """Let what is under way end, for `drain_s`; then hand it back. Leases are renewed all the while.

        Where others wait for its place, what is not of high priority has less time.
        """
        begun = time.monotonic()
        while self._slots and not self._store_is_away():
            now, until = time.monotonic(), min(self._last_at, begun + self._settings.drain_s)
            if now >= min(until, self._hurry_at):
                for claim in self._slots.hand_back(high=now >= until):
                    self._outcomes.put_nowait((claim, Stopped("return", "its worker had to end")))
            self._more.clear()
            await self._wait(min(at - now for at in (until, self._hurry_at, now + SWEEP_S) if at > now))

    def _heard(self, renewal: Renewal) -> None:
        if renewal.drain:
            self.drain(renewal.hurry_s)
        for lease, why in renewal.lost.items():
            self._slots.stop(lease, "lease.lost", str(why))
        for lease in renewal.overdue:
            self._slots.stop(lease, "attempt.overdue", "its time was up")

    def _model_for(self, claim: Claim, agent: str, ends_at: float, traceparent: str) -> ModelClient:
        return ModelClient(
            models=self._models,
            purse=LeasedPurse(self._desk, claim.task_id, claim.token, claim.round),
            agent=agent,
            ends_at=ends_at,
            idempotency_key=f"{self.tenant}/{claim.task_id}/{claim.round}",
            rerun=claim.attempt > 1,
            traceparent=traceparent,
        )
