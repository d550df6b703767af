"""The executor: one attempt, from a claim to an outcome.

    brief → task and context → run the agent → check the result

It decides nothing about the task's future: the worker reports the outcome, the store's scripts
and the judge decide.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from traceback import clear_frames
from typing import Any

import structlog

from chimera.agents.context import Context
from chimera.agents.models.client import ModelClient
from chimera.agents.proposals import Proposals
from chimera.agents.registry import Registered, Registry
from chimera.agents.result import as_json
from chimera.agents.secrets import Secrets
from chimera.agents.toolcalls import ToolCalls
from chimera.core import trace
from chimera.core.lease import Claim
from chimera.core.task import Task, TaskContext, TaskStatus
from chimera.errors import (
    AgentCrashed,
    BudgetExceeded,
    ChimeraError,
    CorruptRecord,
    LeaseLost,
    ModelUnavailable,
    RefusalKind,
    StoreError,
)
from chimera.runtime import memory
from chimera.runtime.briefs import Brief, Briefs
from chimera.runtime.crew import Crew
from chimera.settings import Settings
from chimera.store.tasks import EndKind, TaskStore
from chimera.telemetry.logs import bind
from chimera.telemetry.payloads import Payloads

log = structlog.get_logger(__name__)

PAUSE_S = 2.0
"""Before another attempt when the model or the store was away."""


@dataclass(frozen=True, slots=True)
class Done:
    """The agent returned a result that may be handed in."""

    state_version: int
    result_json: str
    actions: tuple[str, ...] = ()
    """What it proposed, each as JSON."""
    told: str = ""
    """What the recorder is to have of it (`chimera.store.tasks.HandedIn`)."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """The attempt ends without a result (see `chimera.store.tasks.Ended`)."""

    kind: EndKind
    detail: str
    delay_s: float = 0.0
    told: str = ""


@dataclass(frozen=True, slots=True)
class Dropped:
    """The lease is lost: there is nothing to report."""

    detail: str


Outcome = Done | Stopped | Dropped


class Executor:
    """Runs attempts. One for each worker; blocking agents run in threads of its own."""

    def __init__(
        self,
        settings: Settings,
        tenant: str,
        registry: Registry,
        tasks: TaskStore,
        briefs: Briefs,
        model_for: Callable[[Claim, str, float, str], ModelClient],
        secrets: Secrets | None = None,
    ) -> None:
        self._settings = settings
        self._tenant = tenant
        self._registry = registry
        self._tasks = tasks
        self._briefs = briefs
        self._model_for = model_for
        self.secrets = secrets or Secrets()
        """The tenant's, for attempts that begin from now on."""
        # A thread whose attempt timed out runs on until its agent returns: leave room for some.
        self._threads = ThreadPoolExecutor(2 * settings.slots, thread_name_prefix="agent")
        self._strays: set[Future[Any]] = set()

    @property
    def strays(self) -> int:
        """Threads whose attempt has ended and which still run their agent: none can be stopped."""
        return len(self._strays)

    def close(self) -> None:
        """Wait for no thread: a blocked agent must not hold up the worker's end."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def attempt(self, claim: Claim) -> Outcome:
        """Run one attempt. Never raises but for cancellation."""
        payloads = Payloads(self._settings.recorder_payloads)
        tools = ToolCalls(payloads)
        outcome = await self._outcome(claim, tools)
        if isinstance(outcome, Dropped):
            return outcome
        return replace(outcome, told=told(outcome, tools, payloads, self._settings.recorder_payloads > 0))

    async def _outcome(self, claim: Claim, tools: ToolCalls) -> Outcome:
        cancellation = asyncio.Event()
        settings = self._settings
        proposals = Proposals(settings.action_hosts, settings.max_actions, settings.max_action_bytes)
        try:
            brief = await self._briefs.get(claim.mission_id, claim.state_version)
            span = trace.span(self._tenant, claim.task_id, claim.round, claim.attempt)
            bind(trace_id=brief.trace.trace_id, span_id=span)
            stage = brief.stages[claim.stage]
            registered = self._registry.get(stage.agent)
            inputs = await self._dependencies(claim)
            task = _task(claim, brief, stage.agent, inputs)
            timeout_s = self._timeout_s(brief)
            ends_at = time.monotonic() + timeout_s
            context = Context(
                tenant=self._tenant,
                mission_id=claim.mission_id,
                task_id=claim.task_id,
                attempt=claim.attempt,
                round=claim.round,
                model=self._model_for(claim, stage.agent, ends_at, brief.trace.parent(span)),
                options=registered.options_of(stage.options),
                # For the agent to read. Nothing of ours is decided by this machine's calendar.
                deadline=datetime.now(UTC) + timedelta(seconds=timeout_s),
                idempotency_key=f"{self._tenant}/{claim.task_id}/{brief.state_version}",
                hub_url=settings.address,
                cancellation=cancellation,
                report=lambda text: log.info("agent.progress", text=text),
                proposals=proposals,
                tools=tools,
                secrets=self.secrets,
                traceparent=brief.trace.parent(span),
            )
            async with asyncio.timeout(timeout_s):
                result = await self._run(registered, task, context)
            result_json = as_json(stage.agent, result, settings.max_result_bytes)
            return Done(brief.state_version, result_json, proposals.close())
        except TimeoutError:
            return Stopped("timeout", f"no result within {self._timeout_s(brief):g} s")
        except MemoryError as exc:
            # What the agent took goes back at once, before a neighbour asks in vain.
            clear_frames(exc.__traceback__)
            log.warning("agent.out_of_memory", exc_info=True)
            return Stopped("error", memory.refusal(self._settings.worker_memory_mb))
        except LeaseLost as exc:
            return Dropped(str(exc))
        except ChimeraError as exc:
            return _stopped(exc)
        finally:
            cancellation.set()
            proposals.close()

    async def _dependencies(self, claim: Claim) -> dict[str, Any]:
        if not claim.depends_on:
            return {}
        return await self._tasks.results([f"{claim.mission_id}.{name}" for name in claim.depends_on])

    def _timeout_s(self, brief: Brief) -> float:
        return brief.task_timeout_s or self._settings.task_timeout_s

    async def _run(self, registered: Registered, task: Task, context: Context) -> Any:
        try:
            if registered.info.blocking:
                return await self._in_thread(registered, task, context)
            with Crew():
                return await registered.run(task, context)
        except (AgentCrashed, BudgetExceeded, LeaseLost, ModelUnavailable, StoreError, MemoryError):
            raise
        except BaseException as exc:
            # Whatever an agent raises, `sys.exit()` too, in its own task or one that it started, ends its
            # attempt alone. Only who is cancelled from outside ends cancelled: an agent that awaits what it
            # cancelled raises the like itself.
            if isinstance(exc, asyncio.CancelledError) and _is_cancelled():
                raise
            log.warning("agent.raised", agent=registered.info.name, exc_info=True)
            raise AgentCrashed(registered.info.name, _cause(exc)) from exc

    async def _in_thread(self, registered: Registered, task: Task, context: Context) -> Any:
        running = self._threads.submit(copy_context().run, _called, registered, task, context)
        try:
            return await asyncio.wrap_future(running)
        finally:
            if not running.done():  # cancelled, and no thread can be
                self._strays.add(running)
                running.add_done_callback(self._strays.discard)


def told(outcome: Done | Stopped, tools: ToolCalls, payloads: Payloads, texts: bool) -> str:
    """What the recorder is to have of an attempt beside its outcome; "" where that says it all."""
    said: dict[str, Any] = {}
    if calls := tools.told():
        said["tools"] = calls
    if isinstance(outcome, Done):
        if outcome.actions:
            said["actions"] = [
                {"index": index, "action": payloads.of(action)}
                for index, action in enumerate(outcome.actions)
            ]
        if texts:
            said["result"] = payloads.of(outcome.result_json)
    return json.dumps(said) if said else ""


def _called(registered: Registered, task: Task, context: Context) -> Any:
    """Run a blocking agent."""
    try:
        return registered.run(task, context)
    except BaseException as exc:
        if isinstance(exc, Exception) and not isinstance(exc, StopIteration):
            raise
        # No future carries these over: they would be lost, end the event loop, or pass for a cancellation.
        raise AgentCrashed(registered.info.name, _cause(exc)) from exc


def _is_cancelled() -> bool:
    """Whether somebody else asks the task that runs to end."""
    running = asyncio.current_task()
    return running is not None and running.cancelling() > 0


def _task(claim: Claim, brief: Brief, agent: str, inputs: dict[str, Any]) -> Task:
    return Task(
        task_id=claim.task_id,
        task_type=agent,
        priority=brief.priority,
        context=TaskContext(
            goal=brief.goal,
            data=brief.context,
            input=json.loads(claim.input_json) if claim.input_json else None,
            inputs=inputs,
            feedback=claim.feedback,
        ),
        status=TaskStatus.PENDING,
    )


def _stopped(exc: ChimeraError) -> Stopped:
    """What an error means for the attempt: its fault counts, ours and the budget's do not."""
    if isinstance(exc, BudgetExceeded):
        return _unaffordable(exc)
    if isinstance(exc, ModelUnavailable):
        return Stopped("error", str(exc), PAUSE_S)
    if isinstance(exc, StoreError) and not isinstance(exc, CorruptRecord):
        return Stopped("return", str(exc), PAUSE_S)
    return Stopped("error", str(exc))


PARK_S = 60.0
"""A task that waits for a limit to be reset or raised asks this often: both may have happened meanwhile."""


def _unaffordable(exc: BudgetExceeded) -> Stopped:
    """Handed back uncounted: the hub ends a mission whose own budget is exhausted, the others come round."""
    delay_s = {
        RefusalKind.CONTENDED: 1.0,
        RefusalKind.WINDOW: min(PARK_S, max(1.0, exc.retry_after_s)),
        # A moment, so that the hub ends the mission before it is claimed again. Other levels end none.
        RefusalKind.EXHAUSTED: 5.0 if exc.level == "mission" else PARK_S,
    }[exc.kind]
    return Stopped("return", str(exc), delay_s)


def _cause(exc: BaseException) -> str:
    return f"{type(exc).__name__}: {exc}"[:2000]
