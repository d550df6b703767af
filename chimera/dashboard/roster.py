"""A mission's roster: every task that its plan has, those not yet planned included. Pure.

A plan says of each task what it is called, what it waits for and in which layer it stands; so a page needs
no task's record to draw a mission of any size. Tasks are numbered by layer: those of one stand together.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chimera.core.mission import DagPlan, MapReducePlan, MissionBase
from chimera.core.plan import reduce_levels, total_tasks

WIDTHS = range(2, 201)
"""As wide as a reduce task may be."""
_NUMBERED = re.compile(r"(?:r([1-9][0-9]{0,2})-)?(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True, slots=True)
class Layer:
    """Tasks that stand equally deep and are done by the same agent.

    Attributes:
        title: for people, and one of a kind in its mission: `map`, `reduce 2`, `layer 3 · scribe`.
        depth: from 0; a task's inputs stand less deep.
        first, size: its tasks' numbers are those from `first` on.
        span: of a reduce, inputs of the mission that one of its tasks brings together; of all others 1.
    """

    title: str
    agent: str
    depth: int
    first: int
    size: int
    span: int = 1


@dataclass(frozen=True)
class Roster:
    """The tasks of one mission by number, from 0.

    Attributes:
        links: (layer, layer that takes its results, how many pairs of tasks), by their places in `layers`.
    """

    layers: tuple[Layer, ...]
    size: int
    links: tuple[tuple[int, int, int], ...] = ()
    _names: tuple[str, ...] = ()
    """Of a dag: its nodes, by number."""
    _numbers: Mapping[str, int] = field(default_factory=dict)
    _needs: tuple[tuple[int, ...], ...] = ()
    _width: int = 0

    def name(self, number: int) -> str:
        """A task's name: what follows the mission's id in its own."""
        if self._names:
            return self._names[number]
        at = self.layer_of(number)
        place = number - self.layers[at].first
        return f"r{at}-{place}" if at else str(place)

    def number(self, name: str) -> int | None:
        """The task of a name; None: the plan has none."""
        if self._names:
            return self._numbers.get(name)
        match = _NUMBERED.fullmatch(name)
        if match is None:
            return None
        at, place = int(match[1] or 0), int(match[2])
        if at >= len(self.layers) or place >= self.layers[at].size:
            return None
        return self.layers[at].first + place

    def layer_of(self, number: int) -> int:
        """Which layer a task stands in, by its place in `layers`."""
        return bisect_right(self.layers, number, key=lambda layer: layer.first) - 1

    def needs(self, number: int) -> Sequence[int]:
        """The tasks whose results it takes."""
        if self._names:
            return self._needs[number]
        at = self.layer_of(number)
        if at == 0:
            return ()
        below, place = self.layers[at - 1], number - self.layers[at].first
        return range(
            below.first + place * self._width, below.first + min((place + 1) * self._width, below.size)
        )

    def made(self, before: int, cursor: int) -> Iterator[range]:
        """The tasks that are made when the planner's cursor goes from one place to another."""
        if self._names:
            if not before and cursor:
                yield range(self.size)
            return
        for layer in self.layers:
            begin, end = (min(layer.size, -(-place // layer.span)) for place in (before, cursor))
            if end > begin:
                yield range(layer.first + begin, layer.first + end)


def roster_of(spec: MissionBase, inputs: int, tasks: int, width: int) -> Roster:
    """A mission's roster.

    Args:
        tasks: how many it has in all, as it was acknowledged.
        width: results one reduce task takes where the plan does not say. It may have been another when the
            mission was acknowledged: the number of tasks tells.
    """
    if isinstance(spec.plan, DagPlan):
        return _dag(spec, spec.plan)
    if not isinstance(spec.plan, MapReducePlan):
        return Roster((Layer("map", spec.agent, 0, 0, inputs),), inputs)
    fits = (one for one in (width, *WIDTHS) if total_tasks(spec, inputs, one) == tasks)
    return _tree(spec, inputs, spec.plan.width or next(fits, width))


def _tree(spec: MissionBase, inputs: int, width: int) -> Roster:
    reducer = spec.stages["reduce"].agent
    layers, links, below = [Layer("map", spec.agent, 0, 0, inputs)], [], inputs
    levels = reduce_levels(inputs, width)
    for level in range(1, levels + 1):
        links.append((level - 1, level, below))
        last = layers[-1]
        below = -(-below // width)
        title = "reduce" if levels == 1 else f"reduce {level}"
        layers.append(Layer(title, reducer, level, last.first + last.size, below, width**level))
    return Roster(tuple(layers), layers[-1].first + below, tuple(links), _width=width)


def _dag(spec: MissionBase, plan: DagPlan) -> Roster:
    depth = _depths({node.name: node.depends_on for node in plan.nodes})
    nodes = sorted(plan.nodes, key=lambda node: (depth[node.name], node.agent or spec.agent))
    numbers = {node.name: number for number, node in enumerate(nodes)}
    layers: list[Layer] = []
    for number, node in enumerate(nodes):
        agent = node.agent or spec.agent
        deep = depth[node.name]
        if layers and (layers[-1].depth, layers[-1].agent) == (deep, agent):
            last = layers.pop()
            layers.append(Layer(last.title, agent, deep, last.first, last.size + 1))
        else:
            layers.append(Layer(f"layer {deep + 1} · {agent}", agent, deep, number, 1))
    needs = tuple(tuple(numbers[one] for one in node.depends_on) for node in nodes)
    roster = Roster(tuple(layers), len(nodes), _names=tuple(numbers), _numbers=numbers, _needs=needs)
    pairs = Counter(
        (roster.layer_of(one), roster.layer_of(number)) for number, some in enumerate(needs) for one in some
    )
    links = tuple((*pair, count) for pair, count in sorted(pairs.items()))
    return Roster(roster.layers, roster.size, links, roster._names, numbers, needs)


def _depths(needs: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """How deep each node stands: behind the deepest that it takes from. The plan has no cycle."""
    depth: dict[str, int] = {}
    for start in needs:
        stack = [start]
        while stack:
            if stack[-1] in depth:
                stack.pop()
                continue
            open_ = [one for one in needs[stack[-1]] if one not in depth]
            if open_:
                stack += open_
            else:
                name = stack.pop()
                depth[name] = 1 + max((depth[one] for one in needs[name]), default=-1)
    return depth
