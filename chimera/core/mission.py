"""A mission: what a client asks for, and the states it moves through.

``MissionSpec`` is what the hub takes (`inputs` are items); ``MissionFile`` is what people write
(`inputs` may name files, which the CLI reads). Both share every other field.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from itertools import dropwhile, islice
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from chimera.core import mistakes
from chimera.core.judge import DEFAULT_JUDGE, JudgePolicy
from chimera.core.mistakes import Counted, at_most
from chimera.core.money import MAX_USD, microusd
from chimera.core.task import Priority

AGENT_PATTERN = r"^[a-z][a-z0-9_-]{0,62}$"
NODE_PATTERN = r"^[a-z][a-z0-9_-]{0,38}$"
TENANT_PATTERN = r"^[a-z0-9][a-z0-9-]{0,38}$"
MAX_NODES = 1_000
MAX_POLICIES = 16

AgentName = Annotated[str, Field(pattern=AGENT_PATTERN, description="A registered agent's name.")]
Judges = Annotated[
    tuple[JudgePolicy, ...], Field(min_length=1, max_length=MAX_POLICIES), at_most(MAX_POLICIES)
]


class MissionStatus(StrEnum):
    """Where a mission stands."""

    PLANNING = "PLANNING"
    """Acknowledged; its first tasks are being made."""
    RUNNING = "RUNNING"
    """Tasks are under way or may be claimed."""
    PAUSED = "PAUSED"
    """An operator holds it: nothing is claimed or judged; what is under way is kept."""
    WAITING_REVIEW = "WAITING_REVIEW"
    """All that is left waits for a human."""
    COMPLETED = "COMPLETED"
    """Every task is final and enough were accepted. Final unless a task is redriven."""
    FAILED = "FAILED"
    """Ended early or with too little accepted, for a stated reason. Final unless resumed or redriven."""
    CANCELLED = "CANCELLED"
    """Ended by its owner. Final."""


M = MissionStatus

MISSION_TRANSITIONS: dict[tuple[MissionStatus, MissionStatus], str] = {
    (M.PLANNING, M.RUNNING): "planned: its first tasks exist",
    (M.PLANNING, M.FAILED): "deadline",
    (M.PLANNING, M.CANCELLED): "cancelled by its owner",
    (M.PLANNING, M.PAUSED): "paused by its owner",
    (M.RUNNING, M.PAUSED): "paused by its owner",
    (M.WAITING_REVIEW, M.PAUSED): "paused by its owner",
    (M.PAUSED, M.PLANNING): "resumed before its first tasks existed",
    (M.PAUSED, M.RUNNING): "resumed",
    (M.PAUSED, M.FAILED): "deadline",
    (M.PAUSED, M.CANCELLED): "cancelled by its owner",
    (M.FAILED, M.RUNNING): "resumed under a larger budget, or a task was redriven",
    (M.COMPLETED, M.RUNNING): "a task was redriven",
    (M.RUNNING, M.WAITING_REVIEW): "all that is left waits for a human",
    (M.RUNNING, M.COMPLETED): "every task is final and min_accepted is met",
    (M.RUNNING, M.FAILED): "budget_exceeded, deadline, task_failed or min_accepted",
    (M.RUNNING, M.CANCELLED): "cancelled by its owner",
    (M.WAITING_REVIEW, M.RUNNING): "a human answered, or there is new work",
    (M.WAITING_REVIEW, M.COMPLETED): "the last answer came",
    (M.WAITING_REVIEW, M.FAILED): "budget_exceeded, deadline, task_failed or min_accepted",
    (M.WAITING_REVIEW, M.CANCELLED): "cancelled by its owner",
}
"""(from, to) → why a mission makes that step. A step that is not here is impossible."""

MISSION_FINAL = frozenset({M.COMPLETED, M.FAILED, M.CANCELLED})


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stage(Frozen):
    """What a kind of task in a mission runs and how it is judged."""

    agent: AgentName
    options: dict[str, Any] = {}
    judge: Judges


class MapPlan(Frozen):
    """One task for each input."""

    strategy: Literal["map"] = "map"


class Reduce(Frozen):
    """How results are brought together."""

    agent: AgentName = "llm"
    options: dict[str, Any] = {}
    judge: Judges | None = None


class MapReducePlan(Frozen):
    """One task for each input, then a tree of tasks that bring the results together.

    A reduce task takes what was accepted: failed inputs are left out, not waited for.
    """

    strategy: Literal["map_reduce"]
    reduce: Reduce = Reduce()
    width: int | None = Field(
        None, ge=2, le=200, description="Results one reduce task takes; more make a tree."
    )


class DagNode(Frozen):
    """One task of an explicit plan."""

    name: str = Field(pattern=NODE_PATTERN)
    agent: AgentName | None = Field(None, description="The mission's agent, unless named.")
    options: dict[str, Any] | None = Field(None, description="The mission's options, unless given.")
    input: Any = None
    depends_on: Annotated[tuple[str, ...], at_most(MAX_NODES)] = ()
    accept_partial: bool = Field(False, description="Runs with what was accepted when an input failed.")
    judge: Judges | None = Field(None, description="The mission's judge, unless given.")


class DagPlan(Frozen):
    """Named tasks and what each depends on."""

    strategy: Literal["dag"]
    nodes: Annotated[tuple[DagNode, ...], Field(min_length=1, max_length=MAX_NODES), at_most(MAX_NODES)]

    @field_validator("nodes")
    @classmethod
    def _is_a_dag(cls, nodes: tuple[DagNode, ...]) -> tuple[DagNode, ...]:
        if found := list(islice(_dag_problems(nodes), mistakes.MOST + 1)):
            raise ValidationError.from_exception_data(
                "DagPlan",
                [
                    InitErrorDetails(
                        type=PydanticCustomError("value_error", "{said}", {"said": said}),
                        loc=place,
                        input=None,
                    )
                    for place, said in found
                ],
            )
        return nodes


def _dag_problems(nodes: tuple[DagNode, ...]) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """Everything that keeps nodes from being a dag, with its place among them."""
    first: dict[str, int] = {}
    for index, node in enumerate(nodes):
        if first.setdefault(node.name, index) != index:
            yield (index, "name"), f"node names must differ; {node.name} stands more than once"
    for index, node in enumerate(nodes):
        for name in dict.fromkeys(node.depends_on):
            if name not in first:
                said = f"node {node.name!r} depends on {name!r}, which is no node of this plan"
                yield (index, "depends_on"), said
        if len(set(node.depends_on)) < len(node.depends_on):
            yield (index, "depends_on"), f"node {node.name!r} names a dependency twice"
    known: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        known.setdefault(node.name, tuple(name for name in node.depends_on if name in first))
    if cycle := find_cycle(known):
        yield (), f"depends_on goes in a circle: {' → '.join(cycle)}; remove one of these"


Plan = Annotated[MapPlan | MapReducePlan | DagPlan, Field(discriminator="strategy")]


def find_cycle(graph: dict[str, tuple[str, ...]]) -> list[str]:
    """One cycle of a dependency graph, first node repeated at the end; [] when there is none."""
    done: set[str] = set()
    for start in graph:
        path: dict[str, None] = {}  # in its order, and asked often
        stack: list[tuple[str, int]] = [(start, 0)]
        while stack:
            name, step = stack.pop()
            if name in done:
                continue
            if step == 0:
                path[name] = None
            if step < len(graph[name]):
                stack.append((name, step + 1))
                following = graph[name][step]
                if following in path:
                    return [*dropwhile(following.__ne__, path), following]
                stack.append((following, 0))
            else:
                done.add(name)
                path.popitem()
    return []


class MissionBase(Frozen, Counted):
    """All that a mission says, but for its inputs."""

    goal: str = Field(min_length=1, max_length=20_000, description="What the mission is for, in words.")
    agent: AgentName = "llm"
    options: dict[str, Any] = Field({}, description="The agent's own options.")
    context: dict[str, Any] = Field({}, description="Facts every task is given.")
    plan: Plan = MapPlan()
    judge: Judges = DEFAULT_JUDGE
    priority: Priority = Priority.MEDIUM
    budget_usd: Decimal = Field(
        gt=0, le=MAX_USD, decimal_places=6, description="The most this mission may ever spend, USD."
    )
    deadline_s: float | None = Field(
        None, gt=0, le=31_536_000, description="From submit; nothing starts after it."
    )
    task_timeout_s: float | None = Field(None, gt=0, le=86_400, description="An attempt's time.")
    max_attempts: int | None = Field(None, ge=1, le=100)
    on_task_failure: Literal["continue", "stop"] = "continue"
    min_accepted: int = Field(1, ge=0, description="Fewer accepted results make the mission FAILED.")

    @property
    def budget_microusd(self) -> int:
        """The budget in µ$."""
        return microusd(self.budget_usd)

    @cached_property
    def stages(self) -> dict[str, Stage]:
        """Every kind of task this mission has, by the name tasks refer to it."""
        own = Stage(agent=self.agent, options=self.options, judge=self.judge)
        if isinstance(self.plan, DagPlan):
            return {
                node.name: Stage(
                    agent=node.agent or self.agent,
                    options=self.options if node.options is None else node.options,
                    judge=node.judge or self.judge,
                )
                for node in self.plan.nodes
            }
        if isinstance(self.plan, MapReducePlan):
            reduce = self.plan.reduce
            return {
                "map": own,
                "reduce": Stage(
                    agent=reduce.agent, options=reduce.options, judge=reduce.judge or DEFAULT_JUDGE
                ),
            }
        return {"map": own}


def _check_inputs(info: ValidationInfo, given: bool) -> None:
    plan = info.data.get("plan")  # none where the plan itself is wrong, which is told anyhow
    if isinstance(plan, DagPlan) and given:
        raise ValueError("a dag plan has no inputs: each node names its own")
    if isinstance(plan, MapPlan | MapReducePlan) and not given:
        raise ValueError("there are none: give at least one item")


class MissionSpec(MissionBase):
    """A mission as the hub takes it."""

    inputs: tuple[Any, ...] = Field((), validate_default=True, description="One task is made for each item.")

    @field_validator("inputs")
    @classmethod
    def _inputs_fit(cls, inputs: tuple[Any, ...], info: ValidationInfo) -> tuple[Any, ...]:
        _check_inputs(info, bool(inputs))
        return inputs


class InputFiles(Frozen):
    """Inputs from files; the CLI reads them."""

    files: tuple[str, ...] = Field(
        min_length=1, description="Paths or globs, from the mission file's folder."
    )
    format: Literal["text", "jsonl", "csv"] = Field(
        "text", description="text: a file is an item {path, text}; jsonl: a line; csv: a row, by header."
    )
    head_chars: int | None = Field(
        None, ge=1, description="Of a text file, only its first characters, cut at a line's end."
    )


class InputItems(Frozen):
    """Inputs written out."""

    items: tuple[Any, ...] = Field(min_length=1)


class MissionFile(MissionBase):
    """A mission as people write it, in YAML or JSON."""

    inputs: tuple[Any, ...] | InputItems | InputFiles = Field((), validate_default=True)

    @field_validator("inputs")
    @classmethod
    def _inputs_fit(
        cls, inputs: tuple[Any, ...] | InputItems | InputFiles, info: ValidationInfo
    ) -> tuple[Any, ...] | InputItems | InputFiles:
        _check_inputs(info, inputs != ())
        return inputs
