"""A mission's roster: the tasks of a plan by number, as the planner makes them, without making them."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, strategies

from chimera.core.mission import MissionSpec
from chimera.core.plan import next_window, total_tasks
from chimera.dashboard.roster import Roster, roster_of


def spec(plan: dict[str, Any], inputs: int = 0) -> MissionSpec:
    return MissionSpec.model_validate(
        {"goal": "g", "budget_usd": Decimal(1), "plan": plan, "inputs": list(range(inputs))}
    )


def of(mission: MissionSpec, inputs: int, width: int = 20) -> Roster:
    return roster_of(mission, inputs, total_tasks(mission, inputs, width), width)


def agrees(mission: MissionSpec, inputs: int, width: int, cuts: list[int]) -> None:
    """What the roster says of each task, and of what each window makes, is what the planner does."""
    roster = of(mission, inputs, width)
    seen: set[int] = set()
    for before, cursor in pairwise([0, *cuts]):
        window = next_window(mission, tuple(range(before, cursor)), cursor=before, inputs=inputs, width=width)
        made = {number for some in roster.made(before, window.cursor) for number in some}
        assert {roster.name(number) for number in made} == {task.name for task in window.tasks}
        assert not made & seen
        seen |= made
        for task in window.tasks:
            number = roster.number(task.name)
            assert number is not None
            assert roster.name(number) == task.name
            assert tuple(roster.name(one) for one in roster.needs(number)) == task.depends_on
            assert all(
                roster.layers[roster.layer_of(one)].depth < roster.layers[roster.layer_of(number)].depth
                for one in roster.needs(number)
            )
    assert len(seen) == roster.size == total_tasks(mission, inputs, width)


@given(
    inputs=strategies.integers(1, 300),
    width=strategies.integers(2, 9),
    cuts=strategies.lists(strategies.integers(1, 299), max_size=5, unique=True),
)
def test_a_trees_roster_names_what_the_planner_makes_in_each_window(
    inputs: int, width: int, cuts: list[int]
) -> None:
    ends = [*sorted(cut for cut in cuts if cut < inputs), inputs]
    agrees(spec({"strategy": "map_reduce"}, inputs), inputs, width, ends)


def test_a_maps_roster_is_its_inputs() -> None:
    agrees(spec({"strategy": "map"}, 12), 12, 20, [5, 12])


@given(data=strategies.data())
def test_a_dags_roster_names_what_the_planner_makes(data: strategies.DataObject) -> None:
    nodes: list[dict[str, Any]] = []
    for number in range(data.draw(strategies.integers(1, 12))):
        earlier = [node["name"] for node in nodes]
        needs = data.draw(strategies.lists(strategies.sampled_from(earlier), unique=True)) if earlier else []
        agent = data.draw(strategies.sampled_from(["a", "b"]))
        nodes.append({"name": f"n{number}", "agent": agent, "depends_on": needs})
    shuffled = data.draw(strategies.permutations(nodes))
    agrees(spec({"strategy": "dag", "nodes": shuffled}), len(nodes), 20, [len(nodes)])


def test_a_dags_layers_are_of_one_depth_and_one_agent_and_know_who_takes_their_results() -> None:
    roster = of(
        spec(
            {
                "strategy": "dag",
                "nodes": [
                    {"name": "join", "agent": "scribe", "depends_on": ["left", "right", "third"]},
                    {"name": "left", "agent": "reader"},
                    {"name": "right", "agent": "reader"},
                    {"name": "third", "agent": "scribe"},
                ],
            }
        ),
        4,
    )
    assert [(layer.title, layer.size) for layer in roster.layers] == [
        ("layer 1 · reader", 2),
        ("layer 1 · scribe", 1),
        ("layer 2 · scribe", 1),
    ]
    assert roster.links == ((0, 2, 2), (1, 2, 1))


def test_a_tree_made_under_another_width_is_known_by_its_number_of_tasks() -> None:
    mission = spec({"strategy": "map_reduce"}, 100)
    roster = roster_of(mission, 100, total_tasks(mission, 100, 7), 20)
    assert [layer.size for layer in roster.layers] == [100, 15, 3, 1]


@pytest.mark.parametrize("name", ["", "x", "12", "-1", "r1-9", "r9-0", "r1-", "r-1", "r1-x", "q1-0", "٣"])
def test_a_name_that_is_not_in_the_plan_has_no_number(name: str) -> None:
    assert of(spec({"strategy": "map_reduce"}, 12), 12).number(name) is None


def test_a_million_inputs_take_no_more_memory_than_a_few() -> None:
    roster = roster_of(spec({"strategy": "map"}, 1), 1_000_000, 1_000_000, 20)
    assert roster.size == 1_000_000
    assert roster.name(999_999) == "999999"
    assert not roster._names
