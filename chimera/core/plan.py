"""Planning: a mission's spec and a cursor → the next window of its tasks. Pure and resumable.

A large mission is made in windows. The cursor counts inputs (map, map_reduce) or nodes (dag):
planning the same cursor again yields the same tasks with the same ids, so a planner that dies
half-way is simply followed by another.

A reduce tree over N inputs of width w has levels 1…L, the least L with w^L ≥ N. Task
``r<level>-<j>`` takes the j-th group of w results of the level below. Each is made before the
tasks it waits for, so a result never finds its reader missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from chimera.core.mission import DagPlan, MapPlan, MapReducePlan, MissionBase


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task about to be made.

    Args:
        name: unique in its mission; the task id is ``<mission_id>.<name>``.
        stage: key of `MissionBase.stages`.
        input: its own input item, or None.
        depends_on: names of the tasks whose results it takes, in order.
        needed_by: names of the tasks that take its result.
        waits_for: how many of `depends_on` must be final first; 0 makes it READY at once.
        partial: runs with what was accepted when some of `depends_on` failed.
    """

    name: str
    stage: str
    input: Any = None
    depends_on: tuple[str, ...] = ()
    needed_by: tuple[str, ...] = ()
    waits_for: int = 0
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """Tasks to make now, and where to go on. `done` when the mission is wholly planned."""

    tasks: tuple[PlannedTask, ...]
    cursor: int
    done: bool


def reduce_levels(inputs: int, width: int) -> int:
    """How many levels the tree over `inputs` results has, at least one."""
    levels, reach = 1, width
    while reach < inputs:
        levels, reach = levels + 1, reach * width
    return levels


def total_tasks(spec: MissionBase, inputs: int, width: int) -> int:
    """How many tasks the mission has in all."""
    if isinstance(spec.plan, DagPlan):
        return len(spec.plan.nodes)
    if isinstance(spec.plan, MapReducePlan):
        width = spec.plan.width or width
        total, below = inputs, inputs
        for _ in range(reduce_levels(inputs, width)):
            below = -(-below // width)
            total += below
        return total
    return inputs


LARGE = 25_000
"""A map of so many inputs is a large mission: its accepted tasks leave Redis while it is under way. Of a
smaller one they take some 25 MiB there, with small results: not worth what moving them costs."""


def is_large(spec: MissionBase, inputs: int) -> bool:
    """Whether its accepted tasks leave Redis early: they are numbered, and no other task needs them."""
    return isinstance(spec.plan, MapPlan) and inputs >= LARGE


SMALL_TASKS, SMALL_BYTES = 100, 65_536
"""A mission of no more tasks, whose inputs are no more bytes of JSON, is small: planned in the step that
acknowledges it. So many tasks each mission may have at once, whatever quota its tenant has
(`chimera.runtime.planner.LEAST`)."""


def is_small(tasks: int, input_bytes: int, plan_window: int) -> bool:
    """Whether it is planned whole with its submit: nothing of it waits for the hub to plan it.

    Args:
        plan_window: unfinished tasks that a mission may have.
    """
    return tasks <= min(SMALL_TASKS, plan_window) and input_bytes <= SMALL_BYTES


def next_window(spec: MissionBase, items: tuple[Any, ...], *, cursor: int, inputs: int, width: int) -> Window:
    """Plan the inputs ``cursor … cursor + len(items)``; for a dag, all its nodes at once.

    Args:
        items: the input items from the cursor on.
        inputs: how many inputs the mission has in all.
        width: results one reduce task takes, where the plan does not say.
    """
    if isinstance(spec.plan, DagPlan):
        return Window(_dag(spec.plan), len(spec.plan.nodes), True)
    end = cursor + len(items)
    if isinstance(spec.plan, MapReducePlan):
        tasks = _map_reduce(items, cursor, inputs, spec.plan.width or width)
    else:
        tasks = tuple(
            PlannedTask(name=str(index), stage="map", input=item)
            for index, item in enumerate(items, start=cursor)
        )
    return Window(tasks, end, end >= inputs)


def _dag(plan: DagPlan) -> tuple[PlannedTask, ...]:
    needed_by: dict[str, list[str]] = {node.name: [] for node in plan.nodes}
    for node in plan.nodes:
        for name in node.depends_on:
            needed_by[name].append(node.name)
    return tuple(
        PlannedTask(
            name=node.name,
            stage=node.name,
            input=node.input,
            depends_on=node.depends_on,
            needed_by=tuple(needed_by[node.name]),
            waits_for=len(node.depends_on),
            partial=node.accept_partial,
        )
        for node in plan.nodes
    )


def _map_reduce(items: tuple[Any, ...], cursor: int, inputs: int, width: int) -> tuple[PlannedTask, ...]:
    levels = reduce_levels(inputs, width)
    tasks: list[PlannedTask] = []
    for index, item in enumerate(items, start=cursor):
        tasks.extend(
            _reduce(level, index // width**level, levels, inputs, width)
            for level in range(levels, 0, -1)
            if index % width**level == 0
        )
        tasks.append(
            PlannedTask(name=str(index), stage="map", input=item, needed_by=(f"r1-{index // width}",))
        )
    return tuple(tasks)


def _reduce(level: int, group: int, levels: int, inputs: int, width: int) -> PlannedTask:
    below = inputs if level == 1 else -(-inputs // width ** (level - 1))
    members = range(group * width, min((group + 1) * width, below))
    prefix = "" if level == 1 else f"r{level - 1}-"
    return PlannedTask(
        name=f"r{level}-{group}",
        stage="reduce",
        depends_on=tuple(f"{prefix}{member}" for member in members),
        needed_by=() if level == levels else (f"r{level + 1}-{group // width}",),
        waits_for=len(members),
        partial=True,
    )
