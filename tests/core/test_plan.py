"""Planning: windows, trees, dags, and the same answer however it is cut."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies

from chimera.core.mission import MissionSpec, find_cycle
from chimera.core.plan import PlannedTask, next_window, reduce_levels, total_tasks


def spec(plan: dict[str, Any], inputs: int = 0) -> MissionSpec:
    return MissionSpec.model_validate(
        {"goal": "g", "budget_usd": Decimal(1), "plan": plan, "inputs": list(range(inputs))}
    )


def planned(mission: MissionSpec, inputs: int, cuts: list[int], width: int = 20) -> list[PlannedTask]:
    """All tasks, planned in windows of the given sizes (the last repeats)."""
    tasks: list[PlannedTask] = []
    cursor, turn = 0, 0
    while True:
        size = cuts[min(turn, len(cuts) - 1)]
        items = tuple(range(cursor, min(cursor + size, inputs)))
        window = next_window(mission, items, cursor=cursor, inputs=inputs, width=width)
        tasks.extend(window.tasks)
        cursor, turn = window.cursor, turn + 1
        if window.done:
            return tasks


def test_a_map_makes_one_task_for_each_input() -> None:
    tasks = planned(spec({"strategy": "map"}, 3), 3, [10])
    assert [(task.name, task.input, task.waits_for) for task in tasks] == [
        ("0", 0, 0),
        ("1", 1, 0),
        ("2", 2, 0),
    ]


@given(
    inputs=strategies.integers(1, 300),
    width=strategies.integers(2, 9),
    cuts=strategies.lists(strategies.integers(1, 60), min_size=1, max_size=6),
)
def test_a_tree_is_the_same_however_it_is_cut(inputs: int, width: int, cuts: list[int]) -> None:
    mission = spec({"strategy": "map_reduce", "width": width}, inputs)
    tasks = planned(mission, inputs, cuts)
    assert tasks == planned(mission, inputs, [inputs])
    assert len(tasks) == total_tasks(mission, inputs, 20)


@given(inputs=strategies.integers(1, 400), width=strategies.integers(2, 9))
def test_a_tree_has_one_top_and_every_result_one_reader(inputs: int, width: int) -> None:
    tasks = planned(spec({"strategy": "map_reduce", "width": width}, inputs), inputs, [inputs])
    by_name = {task.name: task for task in tasks}
    assert len(by_name) == len(tasks)
    tops = [task for task in tasks if not task.needed_by]
    assert [top.name for top in tops] == [f"r{reduce_levels(inputs, width)}-0"]
    made: set[str] = set()
    for task in tasks:
        for reader in task.needed_by:
            assert task.name in by_name[reader].depends_on
            assert reader in made, "a reader is made before what it waits for"
        assert task.waits_for == len(task.depends_on) <= width
        made.add(task.name)


def test_a_dag_is_planned_whole_at_once() -> None:
    nodes = [{"name": "a"}, {"name": "b", "depends_on": ["a"], "input": 7, "accept_partial": True}]
    window = next_window(spec({"strategy": "dag", "nodes": nodes}), (), cursor=0, inputs=0, width=20)
    first, second = window.tasks
    assert (first.needed_by, first.waits_for) == (("b",), 0)
    assert (second.depends_on, second.waits_for, second.input, second.partial) == (("a",), 1, 7, True)
    assert window.done


@pytest.mark.parametrize(
    ("graph", "cycle"),
    [
        ({"a": ("a",)}, ["a", "a"]),
        ({"a": ("b",), "b": ("c",), "c": ("a",)}, ["a", "b", "c", "a"]),
        ({"a": (), "b": ("a",), "c": ("a", "b")}, []),
        ({str(n): (str(n + 1),) for n in range(5000)} | {"5000": ()}, []),
    ],
)
def test_cycles_are_found_and_named(graph: dict[str, tuple[str, ...]], cycle: list[str]) -> None:
    assert find_cycle(graph) == cycle


def test_the_search_for_cycles_grows_with_the_dependencies_and_no_faster() -> None:
    compared = 0

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

    size = 120
    graph: dict[str, tuple[str, ...]] = {
        str(n): tuple(Name(other) for other in reversed(range(n))) for n in reversed(range(size))
    }  # everything depends on all before it
    assert find_cycle(graph) == []
    assert compared < 10 * size**2


@pytest.mark.parametrize(
    ("plan", "inputs", "message"),
    [
        ({"strategy": "map"}, 0, "inputs\n.*there are none"),
        ({"strategy": "dag", "nodes": [{"name": "a"}]}, 1, "a dag plan has no inputs"),
        ({"strategy": "dag", "nodes": [{"name": "a"}, {"name": "a"}]}, 0, "more than once"),
        ({"strategy": "dag", "nodes": [{"name": "a", "depends_on": ["x"]}]}, 0, "'x', which is no node"),
        ({"strategy": "dag", "nodes": [{"name": "a", "depends_on": ["a"]}]}, 0, "goes in a circle: a → a"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, Any], inputs: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec(plan, inputs)


@pytest.mark.parametrize("budget", [0, -1, "0.0000001", "a lot", 10**10])
def test_a_budget_is_a_positive_amount_of_at_most_six_places(budget: Any) -> None:
    with pytest.raises(ValueError, match="budget_usd"):
        MissionSpec.model_validate({"goal": "g", "inputs": [1], "budget_usd": budget})
