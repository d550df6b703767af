"""The worker: one tenant's, with many slots. It pulls work under leases and hands in results.

    claim → attempt (in a slot) → hand in for review, or end → slot free → claim

It accepts nothing, decides no retry and knows no other tenant. It lives until it is told to
drain, or is idle with nobody to tell it.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from dataclasses import dataclass
from datetime import datetime

import structlog
from structlog.contextvars import bound_contextvars

from chimera.agents.models.client import ModelClient, Models
from chimera.agents.registry import Registry
from chimera.core.lease import Claim, Renewal
from chimera.core.task import Priority
from chimera.errors import LeaseLost, StoreError
from chimera.runtime.briefs import Briefs
from chimera.runtime.desk import Desk, LeasedPurse
from chimera.runtime.executor import Done, Dropped, Executor, Outcome, Stopped
from chimera.runtime.renewer import Renewer
from chimera.runtime.service import backoff_s
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
"""Idle this many times `idle_s`, with nobody to drain it, a worker ends itself."""
HAND_IN = 100
"""Outcomes of one script call."""


@dataclass(slots=True)
class Slot:
    """A claim under way."""

    claim: Claim
    high: bool
    task: asyncio.Task[None] | None = None


class Worker:
    """One worker process of one tenant.

    Args:
        blocking: a client of its own for waits; it has no socket timeout.
        sync: a client of its own for the heartbeat's thread.
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
    ) -> None:
        self.worker_id = worker_id
        self._settings = settings
        self._tasks = TaskStore(redis, tenant)
        self._briefs = Briefs(MissionStore(redis, tenant))
        self._desk = Desk(redis, blocking, tenant, worker_id, wait_s=settings.reserve_wait_s)
        self._bell = Bell(blocking, tenant)
        self._executor = Executor(settings, tenant, registry, self._tasks, self._briefs, self._model_for)
        self.renewer = Renewer(
            Heartbeat(SyncScripts(sync), tenant, worker_id, pid=os.getpid()),
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            slots=settings.slots,
            leases=self._leases,
            heard=self._heard,
        )
        self._models = Models(settings)
        self._held: dict[str, Slot] = {}
        self._outcomes: asyncio.Queue[tuple[Claim, Done | Stopped]] = asyncio.Queue()
        self._more = asyncio.Event()
        """Something changed that may make another claim worthwhile."""
        self._drained = False
        self._idle_since = time.monotonic()

    @property
    def busy(self) -> int:
        """Slots in use."""
        return len(self._held)

    def drain(self) -> None:
        """Take no more work; `run` returns once what is under way is handed in."""
        self._drained = True
        self._more.set()

    async def run(self) -> str:
        """Work until drained or orphaned. Returns why it ended."""
        self._desk.start()
        self.renewer.start()
        helpers = [
            asyncio.create_task(self._hand_in(), name="hand in"),
            asyncio.create_task(self._listen(), name="listen for the bell"),
        ]
        reason = "drained"
        log.info("worker.ready", slots=self._settings.slots)
        try:
            while not self._drained:
                if self._orphaned():
                    reason = "idle"
                    break
                self._more.clear()
                full = await self._claim()
                if not full:
                    await self._wait()
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

    def _orphaned(self) -> bool:
        idle_s = time.monotonic() - self._idle_since
        return not self._held and idle_s > ORPHANED_AFTER * self._settings.idle_s

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(SWEEP_S):
                await self._more.wait()
        except TimeoutError:
            return

    async def _claim(self) -> bool:
        """Fill free slots. True when it is worth asking again at once."""
        free = self._settings.slots - self.busy
        if free == 0:
            return False
        express = self._settings.express_slots if self._settings.slots > 1 else 0
        ordinary = sum(not slot.high for slot in self._held.values())
        general = max(0, min(free, self._settings.slots - express - ordinary))
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
                )
                break
            except StoreError as exc:
                # Under the same claim id: the store may have done it and lost its answer.
                failures += 1
                log.warning("store.unavailable", service="worker", error=str(exc))
                await asyncio.sleep(backoff_s(failures))
                if self._drained:
                    return False
        for claim in claims:
            await self._begin(claim)
        if claims:
            self._idle_since = time.monotonic()
        return bool(claims) and len(claims) >= general > 0

    async def _begin(self, claim: Claim) -> None:
        slot = Slot(claim, high=False)
        self._held[claim.task_id] = slot
        try:
            brief = await self._briefs.get(claim.mission_id, claim.state_version)
            slot.high = brief.priority is Priority.HIGH
        except StoreError:
            pass  # the attempt itself finds the store away, and hands the task back
        slot.task = asyncio.create_task(self._attempt(slot), name=claim.task_id)
        # Its lease is lost, its mission over, or its time up: there is nothing to report.
        slot.task.add_done_callback(lambda task: self._release(claim) if task.cancelled() else None)

    async def _attempt(self, slot: Slot) -> None:
        claim = slot.claim
        with bound_contextvars(mission_id=claim.mission_id, task_id=claim.task_id, attempt=claim.attempt):
            try:
                outcome: Outcome = await self._executor.attempt(claim)
            except Exception as exc:
                log.exception("attempt.failed")
                outcome = Stopped("error", f"{type(exc).__name__}: {exc}")
            if isinstance(outcome, Dropped):
                log.warning("lease.lost", detail=outcome.detail)
                self._release(claim)
            else:
                # The lease is kept until the store has taken the outcome.
                self._outcomes.put_nowait((claim, outcome))

    def _release(self, claim: Claim) -> None:
        self._held.pop(claim.task_id, None)
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
                self._release(claim)

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
                    )
                    for claim, outcome in done
                ],
                max_stale=self._settings.max_stale,
            )
        if stopped:
            answers += await self._tasks.end(
                self.worker_id,
                [
                    Ended(claim.task_id, claim.token, outcome.kind, outcome.detail, outcome.delay_s)
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
        """Let what is under way end; leases are renewed all the while."""
        while self._held:
            tasks = [slot.task for slot in self._held.values() if slot.task is not None]
            if tasks:
                await asyncio.wait(tasks, timeout=0.5)
            self._more.clear()
            await self._wait()

    def _leases(self) -> dict[str, int]:
        # Called from the renewer's thread: a copy made in one step of the interpreter.
        return {task_id: slot.claim.token for task_id, slot in list(self._held.items())}

    def _heard(self, renewal: Renewal) -> None:
        if renewal.drain:
            self.drain()
        for task_id, why in renewal.lost.items():
            self._cancel(task_id, "lease.lost", str(why))
        for task_id in renewal.overdue:
            self._cancel(task_id, "attempt.overdue", "its time was up")

    def _cancel(self, task_id: str, event: str, detail: str) -> None:
        slot = self._held.get(task_id)
        if slot is not None and slot.task is not None and not slot.task.done():
            log.warning(event, task_id=task_id, detail=detail)
            slot.task.cancel()

    def _model_for(self, claim: Claim, agent: str, deadline: datetime) -> ModelClient:
        return ModelClient(
            models=self._models,
            purse=LeasedPurse(self._desk, claim.task_id, claim.token),
            agent=agent,
            deadline=deadline,
            idempotency_key=f"{claim.task_id}/{claim.token}",
        )
