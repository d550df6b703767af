"""The judge: takes results under leases, judges them, commits the verdicts.

Only a committed verdict makes a result count. A judge that breaks is not a judge that said no:
its failure is tried again, then a human is asked.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from typing import Any

import structlog

from chimera.agents.models.client import ModelClient, Models
from chimera.core import trace
from chimera.core.fairness import room
from chimera.core.judge import LlmPolicy
from chimera.core.lease import Review
from chimera.core.mission import Stage
from chimera.core.verdict import Verdict
from chimera.errors import (
    BackendError,
    BudgetExceeded,
    CorruptRecord,
    LeaseLost,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from chimera.judging.boundaries import Boundaries
from chimera.judging.evaluate import Asker, Askers, evaluate
from chimera.judging.policy import Submission
from chimera.judging.quick import Case, is_quick, is_small, quickly
from chimera.runtime.base import Base
from chimera.runtime.briefs import Brief, Briefs
from chimera.runtime.bulkhead import Bulkhead
from chimera.runtime.desk import Desk, LeasedPurse
from chimera.runtime.modelkeys import TenantModels
from chimera.runtime.service import Service
from chimera.runtime.turns import Gate, Turns
from chimera.store.connection import end
from chimera.store.scripts import Refusal
from chimera.store.signals import Wakeups
from chimera.telemetry.logs import bind

log = structlog.get_logger(__name__)

BATCH = 128
"""Reviews of one claim, judged together as far as they are small; verdicts of one commit."""
AT_ONCE = 512
"""Reviews one judge holds at once; three quarters of one tenant: the next one's begin at once."""
THREADS = 6
"""Policies that run in threads at once; of one tenant half of them."""
DRAIN_S, COMMIT_S = 5.0, 2.0
"""At its end a judge finishes what it holds, and commits it, within these."""
PAUSE_S = 1.0
"""Before another look at what could not be judged."""
MAX_FAILURES = 3
"""Failures to judge one result before a human is asked."""


class Judge(Service):
    """Judges every tenant's results."""

    name = "judge"
    sweep_s = 0.5

    def __init__(self, base: Base, judge_id: str, wakeups: Wakeups, boundaries: Boundaries) -> None:
        super().__init__()
        self._base = base
        self.judge_id = judge_id
        self._wakeups = wakeups
        self._named: set[str] = set()
        self._bulkhead = Bulkhead(self.name)
        self._detector = boundaries.detector()
        self._models = TenantModels(base.settings)
        self._briefs: dict[str, Briefs] = {}
        self._desks: dict[str, Desk] = {}
        self._held: dict[tuple[str, str], Review] = {}
        self._of_tenant: Counter[str] = Counter()
        """How many of these are each tenant's."""
        self._left: set[str] = set()
        """Tenants with more to judge than there was room for."""
        self._turns, self._threads = Turns(), Gate(THREADS)
        self._judging: set[asyncio.Task[None]] = set()
        self._quick: ThreadPoolExecutor | None = None
        """A thread of its own: small results wait for no slow policy."""
        self._verdicts: asyncio.Queue[tuple[str, Review, Verdict]] = asyncio.Queue()
        self._helpers: list[asyncio.Task[None]] = []

    def start(self) -> None:
        super().start()
        if not self._helpers:
            self._helpers = [
                asyncio.create_task(self._commit(), name="commit verdicts"),
                asyncio.create_task(self._renew(), name="renew reviews"),
            ]

    @property
    def running(self) -> bool:
        """Whether its loop is alive, and what commits its verdicts and renews its leases too."""
        return super().running and not any(helper.done() for helper in self._helpers)

    async def stop(self) -> None:
        """End: what is being judged is finished and committed, or given back when it takes too long."""
        await super().stop()
        until = time.monotonic() + DRAIN_S
        while self._judging and (left_s := until - time.monotonic()) > 0:
            await asyncio.wait(self._judging, timeout=left_s)
        with suppress(TimeoutError):  # the store is away: leases run out by themselves
            await asyncio.wait_for(self._verdicts.join(), COMMIT_S)
        helpers, self._helpers = self._helpers, []
        await end(*helpers, *self._judging)
        for (tenant, _), review in list(self._held.items()):
            await self._give_back(tenant, review, "its judge ended", counts=False)
        for desk in self._desks.values():
            await desk.stop()
        self._desks = {}
        quick, self._quick = self._quick, None
        if quick is not None:
            quick.shutdown(wait=False, cancel_futures=True)
        await self._models.aclose()

    async def wait(self) -> None:
        self._named = await self._wakeups.wait(self.sweep_s)

    async def run_once(self) -> None:
        named, self._named = self._named, set()
        more = self._turns.of(named or await self._base.tenants.names())
        while more:  # a batch each, in turn
            taking, more = more, []
            for tenant in taking:
                with self._bulkhead.of(tenant):
                    if await self._take(tenant):
                        more.append(tenant)

    async def _take(self, tenant: str) -> bool:
        """Take some of a tenant's results to judge, as far as there is room. True: there may be more."""
        most = min(BATCH, room(AT_ONCE, len(self._held), self._of_tenant[tenant]))
        if most <= 0:
            self._left.add(tenant)
            return False
        reviews = await self._base.of(tenant).reviews.claim(
            self.judge_id, uuid.uuid4().hex, lease_s=self._base.settings.lease_s, most=most
        )
        for review in reviews:
            self._of_tenant[tenant] += (tenant, review.task_id) not in self._held
            self._held[tenant, review.task_id] = review
        if reviews:
            self._spawn(self._judge_all(tenant, reviews), f"judge {len(reviews)}")
        return len(reviews) == most

    def _let_go(self, tenant: str, *task_ids: str) -> None:
        """These are judged, given back or lost: there is room for others."""
        self._of_tenant[tenant] -= sum(
            self._held.pop((tenant, task_id), None) is not None for task_id in task_ids
        )
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]
        left, self._left = self._left, set()
        for other in left:
            self._wakeups.name(other)

    def _spawn(self, judging: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(judging, name=name)
        self._judging.add(task)
        task.add_done_callback(self._judging.discard)

    async def _judge_all(self, tenant: str, reviews: Sequence[Review]) -> None:
        """The small ones together, in one thread; each other one, and what that leaves, by itself."""
        began = time.monotonic()
        left = {review.task_id: review for review in reviews}
        try:
            cases = await self._small(tenant, reviews)
            small = {case.review.task_id for case in cases}
            for task_id in left.keys() - small:
                self._spawn(self._judge(tenant, left.pop(task_id), began), task_id)
            for case, verdict in zip(cases, await self._quickly(cases), strict=True):
                if verdict is not None:
                    self._verdicts.put_nowait((tenant, left.pop(case.review.task_id), verdict))
        except Exception:
            log.exception("judge.failed", tasks=len(left))
        for task_id, review in left.items():
            self._spawn(self._judge(tenant, review, began), task_id)

    async def _quickly(self, cases: Sequence[Case]) -> Sequence[Verdict | None]:
        if not cases:
            return ()
        if self._quick is None:
            self._quick = ThreadPoolExecutor(1, thread_name_prefix="judge quick")
        settings = self._base.settings
        work = partial(
            quickly,
            cases,
            detector=self._detector,
            accept_above=settings.accept_above,
            reject_below=settings.reject_below,
            judge=self.judge_id,
        )
        return await asyncio.get_running_loop().run_in_executor(self._quick, work)

    async def _small(self, tenant: str, reviews: Sequence[Review]) -> list[Case]:
        """Those that can be judged together. What cannot be read here is found, and told, one by one."""
        briefs = self._briefs_of(tenant)
        missions = {(review.mission_id, review.state_version) for review in reviews}
        read = await asyncio.gather(*(briefs.get(*mission) for mission in missions), return_exceptions=True)
        stages = {
            (*mission, name): (brief, stage)
            for mission, brief in zip(missions, read, strict=True)
            if isinstance(brief, Brief)
            for name, stage in brief.stages.items()
            if is_quick(stage.judge)
        }
        cases = []
        for review in reviews:
            found = stages.get((review.mission_id, review.state_version, review.stage))
            if found is not None and is_small(review, found[0].goal):
                cases.append(Case(review, found[0].goal, found[0].context, found[1].judge))
        return cases

    def _briefs_of(self, tenant: str) -> Briefs:
        if tenant not in self._briefs:
            self._briefs[tenant] = Briefs(self._base.of(tenant).missions)
        return self._briefs[tenant]

    async def _judge(self, tenant: str, review: Review, began: float) -> None:
        # They end with this task: its context is its own.
        bind(tenant=tenant, mission_id=review.mission_id, task_id=review.task_id, attempt=review.attempt)
        try:
            verdict = await self._evaluate(tenant, review)
        except LeaseLost as exc:
            log.warning("review.lost", task_id=review.task_id, detail=str(exc))
            self._let_go(tenant, review.task_id)
        except BudgetExceeded as exc:
            # It waits in REVIEW: no money to judge is no judgement.
            pause_s = exc.retry_after_s if exc.braked else PAUSE_S
            await self._give_back(tenant, review, str(exc), counts=False, pause_s=pause_s)
        except (StoreUnavailable, StoreTimeout) as exc:
            log.warning("store.unavailable", service="judge", error=str(exc))
            self._let_go(tenant, review.task_id)
        except (BackendError, CorruptRecord) as exc:
            # A record that cannot be read is no absence that passes: in the end a human looks.
            log.warning("judge.failed", task_id=review.task_id, error=str(exc))
            await self._give_back(tenant, review, str(exc), counts=True)
        except Exception as exc:
            log.exception("judge.failed", task_id=review.task_id)
            await self._give_back(tenant, review, f"{type(exc).__name__}: {exc}", counts=True)
        else:
            at_ms = review.claimed_at_us // 1000 + round(1000 * (time.monotonic() - began))
            self._verdicts.put_nowait((tenant, review, verdict.model_copy(update={"at_ms": at_ms})))

    async def _evaluate(self, tenant: str, review: Review) -> Verdict:
        brief = await self._briefs_of(tenant).get(review.mission_id, review.state_version)
        span = trace.span(tenant, "judge", review.task_id, review.round, review.attempt)
        bind(trace_id=brief.trace.trace_id, span_id=span)
        stage = brief.stages[review.stage]
        inputs = {}
        if review.depends_on:
            inputs = await self._base.of(tenant).tasks.results(
                [f"{review.mission_id}.{name}" for name in review.depends_on]
            )
        submission = Submission(
            goal=brief.goal,
            data=brief.context,
            input=review.input,
            inputs=inputs,
            result=review.result,
            actions=review.actions,
            attempt=review.attempt,
        )
        return await evaluate(
            submission,
            stage.judge,
            detector=self._detector,
            accept_above=self._base.settings.accept_above,
            reject_below=self._base.settings.reject_below,
            judge=self.judge_id,
            askers=self._askers(tenant, review, stage, brief.trace.parent(span)),
            turn=partial(self._threads.of, tenant),
        )

    def _askers(self, tenant: str, review: Review, stage: Stage, traceparent: str) -> Askers:
        settings = self._base.settings
        author = str(stage.options.get("model", "")) or settings.model

        @cache
        def client(models: Models) -> ModelClient:
            return self._model_for(tenant, review, models, traceparent)

        def asker(policy: LlmPolicy) -> Asker:
            model = policy.model or settings.judge_model or settings.model

            async def ask(prompt: str, schema: dict[str, Any]) -> dict[str, Any]:
                asked = client(await self._models.of(tenant))
                answer = await asked.structured(prompt, schema, model=model or None)
                return dict(answer)

            return Asker(ask, self_judging=model == author)

        return asker

    def _model_for(self, tenant: str, review: Review, models: Models, traceparent: str) -> ModelClient:
        desk = self._desks.get(tenant)
        if desk is None:
            desk = self._desks[tenant] = Desk(
                self._base.redis,
                self._base.blocking,
                tenant,
                self.judge_id,
                wait_s=self._base.settings.reserve_wait_s,
            )
            desk.start()
        return ModelClient(
            models=models,
            purse=LeasedPurse(desk, review.task_id, review.token, review.round),
            agent="judge",
            # The work is to judge this result, once more when judging it failed. A judge cannot know
            # whether another has died over it: it always looks.
            idempotency_key=f"{tenant}/{review.task_id}/{review.round}"
            f"/judge/{review.attempt}/{review.judge_errors}",
            rerun=True,
            traceparent=traceparent,
        )

    async def _give_back(
        self, tenant: str, review: Review, why: str, *, counts: bool, pause_s: float = PAUSE_S
    ) -> None:
        self._let_go(tenant, review.task_id)
        try:
            await self._base.of(tenant).reviews.give_back(
                self.judge_id, [(review, why, counts)], max_failures=MAX_FAILURES, pause_s=pause_s
            )
        except StoreError as exc:
            # Its lease runs out by itself.
            log.warning("store.unavailable", service="judge", error=str(exc))

    async def _commit(self) -> None:
        while True:
            batches: dict[str, list[tuple[Review, Verdict]]] = defaultdict(list)
            tenant, review, verdict = await self._verdicts.get()
            batches[tenant].append((review, verdict))
            for _ in range(min(BATCH - 1, self._verdicts.qsize())):
                tenant, review, verdict = self._verdicts.get_nowait()
                batches[tenant].append((review, verdict))
            for tenant, batch in batches.items():
                await self._commit_batch(tenant, batch)
                for _ in batch:
                    self._verdicts.task_done()

    async def _commit_batch(self, tenant: str, batch: list[tuple[Review, Verdict]]) -> None:
        try:
            answers = await self._base.of(tenant).reviews.commit(
                self.judge_id, batch, max_stale=self._base.settings.max_stale
            )
            for (review, _), answer in zip(batch, answers, strict=True):
                if answer is Refusal.LOST:
                    log.warning("review.lost", task_id=review.task_id)
        except StoreError as exc:
            # Not sent again: the leases run out, and another look judges anew.
            log.warning("store.unavailable", service="judge", error=str(exc))
        except Exception:
            log.exception("commit.failed")
        finally:
            self._let_go(tenant, *(review.task_id for review, _ in batch))

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(self._base.settings.heartbeat_s)
            leases: dict[str, list[tuple[str, int]]] = defaultdict(list)
            for (tenant, task_id), review in self._held.items():
                leases[tenant].append((task_id, review.token))
            for tenant, held in leases.items():
                try:
                    with self._bulkhead.of(tenant):
                        await self._base.of(tenant).reviews.renew(held, lease_s=self._base.settings.lease_s)
                except StoreError as exc:
                    log.warning("store.unavailable", service="judge", error=str(exc))
