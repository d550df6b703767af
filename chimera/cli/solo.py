"""One agent in this process: no fleet, no Redis; a purse in memory, the same judge."""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chimera import settings as settings_module
from chimera.agents.context import Context
from chimera.agents.models import embedded
from chimera.agents.models.client import ModelClient, Models
from chimera.agents.models.endpoint import Endpoint
from chimera.agents.models.opening import open_endpoint
from chimera.agents.proposals import Proposals
from chimera.agents.purse import Charge, LocalPurse
from chimera.agents.registry import Registered, Registry
from chimera.agents.result import as_json
from chimera.cli import output
from chimera.core.action import Action, parse_action
from chimera.core.judge import DEFAULT_JUDGE, JudgePolicy, LlmPolicy
from chimera.core.money import microusd
from chimera.core.task import Priority, Task, TaskContext, TaskStatus
from chimera.core.verdict import Verdict
from chimera.errors import AgentCrashed, ChimeraError, ConfigurationError
from chimera.judging import Asker, Submission, evaluate, load_boundaries
from chimera.missionfile import parse, validate
from chimera.runtime.secrets import TenantSecrets
from chimera.settings import Settings

TASK_ID, TENANT = "alone.0", "alone"


@dataclass(frozen=True)
class SoloRun:
    """What one run gave. Money in µ$."""

    agent: str
    result: Any
    actions: tuple[Action, ...]
    """What it proposed; none of it was carried out."""
    verdict: Verdict
    charges: tuple[Charge, ...]
    cost_microusd: int
    seconds: float

    def document(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "agent": self.agent,
            "result": self.result,
            "actions": [action.model_dump(mode="json") for action in self.actions],
            "verdict": self.verdict.model_dump(mode="json"),
            "cost_microusd": self.cost_microusd,
            "calls": [asdict(charge) for charge in self.charges],
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True)
class Brief:
    """What the agent and the judge are told."""

    goal: str
    data: dict[str, Any]
    options: dict[str, Any]
    judge: tuple[JudgePolicy, ...]


def registry(files: Iterable[Path], environment: Settings | None = None) -> Registry:
    """The agents of this installation, of CHIMERA_AGENTS and of these files."""
    allowed = (environment or settings_module.load()).agents
    return Registry.load(",".join(filter(None, (allowed, *map(str, files)))))


def brief(goal: str, options: dict[str, Any], mission: Path | None) -> Brief:
    """From the flags, over the mission file where one is given."""
    if mission is None:
        return Brief(goal or "Do it well.", {}, options, DEFAULT_JUDGE)
    document = parse(mission)
    file = validate(document)
    if file is None:
        raise ConfigurationError("\n  ".join((f"{mission} is no mission:", *document.problems)))
    return Brief(goal or file.goal, file.context, {**file.options, **options}, file.judge)


async def run_alone(
    name: str,
    item: Any,
    files: Iterable[Path],
    goal: str,
    options: dict[str, Any],
    mission: Path | None,
    budget_usd: str,
) -> SoloRun:
    """Run the agent once and judge what it returns.

    Raises:
        NotFound: no such agent. InvalidRequest: its options do not fit.
        BudgetExceeded: it would spend more than the budget.
        AgentCrashed: its code raised. ModelUnavailable: the model did not answer.
    """
    environment = settings_module.load()
    # stdout is the command's answer: what the agent logs or prints goes beside it.
    with redirect_stdout(sys.stderr):
        async with Models(environment, Opener(environment)) as models:
            return await _run_and_judge(models, name, item, files, goal, options, mission, budget_usd)


async def _run_and_judge(
    models: Models,
    name: str,
    item: Any,
    files: Iterable[Path],
    goal: str,
    options: dict[str, Any],
    mission: Path | None,
    budget_usd: str,
) -> SoloRun:
    environment = models.settings
    registered = registry(files, environment).get(name)
    told = brief(goal, options, mission)
    own_options = registered.options_of(told.options)
    purse = LocalPurse(_limit(budget_usd))
    proposals = Proposals(environment.action_hosts, environment.max_actions, environment.max_action_bytes)
    began = time.monotonic()
    task = Task(
        task_id=TASK_ID,
        task_type=name,
        priority=Priority.MEDIUM,
        context=TaskContext(goal=told.goal, data=told.data, input=item),
        status=TaskStatus.PENDING,
    )
    context = Context(
        tenant=TENANT,
        mission_id="alone",
        task_id=TASK_ID,
        attempt=1,
        model=ModelClient(models=models, purse=purse, agent=name),
        options=own_options,
        report=output.note,
        proposals=proposals,
        secrets=TenantSecrets(environment.tenant_secrets_dir).of(TENANT),
    )
    returned = await _run(registered, task, context, environment.task_timeout_s)
    result = json.loads(as_json(name, returned, environment.max_result_bytes))
    actions = tuple(map(parse_action, proposals.close()))
    verdict = await evaluate(
        Submission(goal=told.goal, data=told.data, input=item, result=result, actions=actions, attempt=1),
        told.judge,
        detector=load_boundaries(environment.boundaries_file).detector(),
        accept_above=environment.accept_above,
        reject_below=environment.reject_below,
        judge="alone",
        askers=Judges(environment, models, purse, str(told.options.get("model", ""))).asker,
    )
    seconds = time.monotonic() - began
    return SoloRun(name, result, actions, verdict, tuple(purse.charges), purse.settled_microusd, seconds)


def _limit(budget_usd: str) -> int:
    try:
        return microusd(budget_usd)
    except ValueError as exc:
        raise ConfigurationError(f"--budget-usd: {exc}") from exc


async def _run(registered: Registered, task: Task, context: Context, timeout_s: float) -> Any:
    """What the agent returns."""
    name = registered.info.name
    try:
        async with asyncio.timeout(timeout_s):
            if registered.info.blocking:
                return await asyncio.to_thread(registered.run, task, context)
            return await registered.run(task, context)
    except ChimeraError:
        raise
    except TimeoutError as exc:
        raise AgentCrashed(name, f"nothing within {timeout_s:g} s: raise CHIMERA_TASK_TIMEOUT_S") from exc
    except Exception as exc:
        output.note(own_traceback(exc, registered.run))
        raise AgentCrashed(name, f"{type(exc).__name__}: {exc}") from exc


def own_traceback(exc: Exception, agent: Callable[..., Any]) -> str:
    """A traceback from the agent's own code on: what called it is of no interest to its author."""
    frame, file = exc.__traceback__, agent.__code__.co_filename
    while frame is not None and frame.tb_frame.f_code.co_filename != file:
        frame = frame.tb_next
    return "".join(traceback.format_exception(exc.with_traceback(frame or exc.__traceback__))).rstrip()


class Opener:
    """Opens endpoints; the embedded model is started in this process when it is first asked for."""

    def __init__(self, environment: Settings) -> None:
        self._environment = environment
        self._server: embedded.EmbeddedServer | None = None

    def __call__(self, model: str, url: str, api_key: str) -> Endpoint:
        if not url and model == embedded.MODEL_NAME:
            shape = embedded.Shape(
                self._environment.embedded_model_threads, self._environment.embedded_model_slots
            )
            self._server = self._server or embedded.EmbeddedServer(0, shape, api_key)
            url = self._server.url
        return open_endpoint(model, url, api_key)


@dataclass(frozen=True)
class Judges:
    """How `llm` policies reach their model, on the same purse as the agent."""

    environment: Settings
    models: Models
    purse: LocalPurse
    author: str
    """The model the agent's options name; "" is the default one."""

    def asker(self, policy: LlmPolicy) -> Asker:
        """The policy's bound model call."""
        chosen = policy.model or self.environment.judge_model or None
        default = self.environment.model or embedded.MODEL_NAME
        client = ModelClient(models=self.models, purse=self.purse, agent="judge")

        async def ask(prompt: str, schema: dict[str, Any]) -> dict[str, Any]:
            return await client.structured(prompt, schema, model=chosen)

        return Asker(ask, (chosen or default) == (self.author or default))
