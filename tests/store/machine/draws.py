"""What examples draw: plans, missions, and who acts how on what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from chimera.core.mission import MissionSpec
from tests.store import drive

WIDTH = 2
"""Results one reduce task takes."""

picks = st.integers(0, 11)
"""One of however many there are."""
few = st.integers(1, 3)
seldom = st.sampled_from([False, False, False, True])
workers = st.sampled_from(["w1", "w2", "w3"])
judges = st.sampled_from(["j1", "j2"])
decisions = st.sampled_from(["accept", "accept", "reject", "escalate"])


@st.composite
def plans(draw: st.DrawFn) -> dict[str, Any]:
    """A plan and its inputs: a small dag, a tree, or a map."""
    strategy = draw(st.sampled_from(["dag", "dag", "map_reduce", "map"]))
    if strategy == "dag":
        return {"plan": {"strategy": "dag", "nodes": draw(nodes())}, "inputs": []}
    width = {"width": WIDTH} if strategy == "map_reduce" else {}
    return {"plan": {"strategy": strategy, **width}, "inputs": list(range(draw(st.integers(1, 4))))}


@st.composite
def nodes(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Nodes that depend on earlier ones."""
    names = ["a", "b", "c", "d", "e"][: draw(st.integers(2, 5))]
    made = []
    for at, name in enumerate(names):
        earlier = st.lists(st.sampled_from(names[:at] or [""]), unique=True, min_size=at > 1, max_size=3)
        made.append(
            {
                "name": name,
                "input": name,
                "depends_on": draw(earlier) if at else [],
                "accept_partial": draw(st.booleans()),
            }
        )
    return made


@st.composite
def missions(draw: st.DrawFn) -> MissionSpec:
    """A mission of a few tasks, most with one attempt each."""
    return drive.spec(
        **draw(plans()),
        budget_usd=Decimal("0.001"),
        priority=draw(st.sampled_from(["high", "medium", "low"])),
        max_attempts=draw(st.sampled_from([1, 1, 1, 2])),
        on_task_failure=draw(st.sampled_from(["continue", "continue", "continue", "stop"])),
        min_accepted=draw(st.integers(0, 2)),
        deadline_s=draw(st.sampled_from([None, None, None, 86_400.0])),
    )
