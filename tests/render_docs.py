"""Renders what the docs have from tables of the code: ``python -m tests.render_docs`` writes it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping, Set
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from chimera.core.action import ACTION_FINAL, ACTION_TRANSITIONS, ActionStatus
from chimera.core.brake import BRAKE_STEPS, BrakeState
from chimera.core.mission import MISSION_FINAL, MISSION_TRANSITIONS, MissionStatus
from chimera.core.task import FINAL, TRANSITIONS, TaskStatus
from tests import render_metrics, render_settings
from tests.render_users import USERS, rendered

S = TypeVar("S", bound=StrEnum)

STATE_MACHINE = Path(__file__).parents[1] / "docs" / "state-machine.md"

HEAD = """# State machines

A task, a mission, an action and a tenant's brake each move through a few states, and only along the steps
below. A step that is not listed is impossible: the scripts in Redis make no other, and each step stands in
the flight recorder.

The code states each machine once, in `chimera/core/task.py`, `chimera/core/mission.py`,
`chimera/core/action.py` and `chimera/core/brake.py`. This page is made from those tables
(`.venv/bin/python -m tests.render_docs`), and a test compares the two.

A mission that is [archived](architecture.md#finished-missions), a while after its end, makes no step any
more, nor do its tasks and actions.
"""


def render() -> str:
    """The whole page."""
    return "\n".join(
        (
            HEAD,
            machine("Task", TaskStatus, TRANSITIONS, FINAL, (TaskStatus.READY, TaskStatus.BLOCKED)),
            machine("Mission", MissionStatus, MISSION_TRANSITIONS, MISSION_FINAL, (MissionStatus.PLANNING,)),
            machine("Action", ActionStatus, ACTION_TRANSITIONS, ACTION_FINAL, (ActionStatus.QUEUED,)),
            machine("Brake", BrakeState, BRAKE_STEPS, frozenset(), (BrakeState.OPEN,)),
        )
    )


def machine(
    title: str,
    states: type[S],
    transitions: Mapping[tuple[S, S], str],
    final: Set[S],
    first: tuple[S, ...],
) -> str:
    """One machine: a diagram whose steps are numbered, the steps, the states.

    Args:
        first: states that it may begin in.
    """
    used = {state for step in transitions for state in step}
    meanings = documented(states)
    lines = [f"## {title}", "", "```mermaid", "stateDiagram-v2"]
    lines += [f"    [*] --> {state}" for state in first]
    lines += [f"    {a} --> {b}: {number}" for number, (a, b) in enumerate(transitions, start=1)]
    lines += [f"    {state} --> [*]" for state in states if state in final]
    lines += ["```", "", "| Step | From | To | Why |", "|---:|---|---|---|"]
    lines += [
        f"| {number} | `{a}` | `{b}` | {why} |"
        for number, ((a, b), why) in enumerate(transitions.items(), start=1)
    ]
    lines += ["", "| State | Means |", "|---|---|"]
    lines += [
        f"| `{state}` | {meanings[state]}{'' if state in used else ' Not here yet: no step leads to it.'} |"
        for state in states
    ]
    return "\n".join([*lines, ""])


def documented(states: type[StrEnum]) -> dict[str, str]:
    """What the source says of each member, in the string that follows it."""
    (definition,) = ast.parse(inspect.getsource(states)).body
    assert isinstance(definition, ast.ClassDef)
    meanings = {}
    for member, text in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(member, ast.Assign) and isinstance(text, ast.Expr):
            meanings[str(ast.literal_eval(member.value))] = str(ast.literal_eval(text.value))
    return meanings


if __name__ == "__main__":
    STATE_MACHINE.write_text(render(), encoding="utf-8")
    USERS.write_text(rendered(USERS.read_text(encoding="utf-8")), encoding="utf-8")
    metrics = render_metrics.PAGE
    metrics.write_text(render_metrics.rendered(metrics.read_text(encoding="utf-8")), encoding="utf-8")
    page = render_settings.PAGE
    page.write_text(render_settings.rendered(page.read_text(encoding="utf-8")), encoding="utf-8")
