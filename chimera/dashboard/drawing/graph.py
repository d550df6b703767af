"""A mission's graph: who waits for whom, from left to right. Pure.

Few tasks are cards, more are cells; above that a node stands for many tasks, and shows how many of them
stand where. Every node is a link, so the keyboard reaches each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup

from chimera.dashboard.drawing.marks import WORDS, mark
from chimera.dashboard.drawing.svg import cut, element, together

CARDS = 40
"""So many nodes are cards with words on them; more are cells."""
MARGIN = 8


@dataclass(frozen=True, slots=True)
class Node:
    """A task, or the tasks of a layer.

    Attributes:
        title: its name; `note` stands below it.
        label: all of it in words, for who does not see it.
        status: of one task; "" for several.
        counts: of several, by status.
        needs: the nodes that it takes results from, by their places in the list.
    """

    title: str
    note: str
    label: str
    href: str
    depth: int
    status: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    needs: Sequence[int] = ()


class Size(NamedTuple):
    """How large a node is, and how far from the next."""

    width: float
    height: float
    gap_x: float
    gap_y: float
    rows: int
    """A column has so many nodes; more stand beside it."""


CARD = Size(172, 46, 52, 14, 12)
CELL = Size(30, 30, 44, 8, 12)
GROUP = Size(232, 92, 56, 18, 8)


class Place(NamedTuple):
    """Where a node stands: its upper left corner."""

    x: float
    y: float


def draw(nodes: Sequence[Node], *, label: str) -> Markup:
    """The picture of a graph."""
    size = GROUP if any(node.counts for node in nodes) else CARD if len(nodes) <= CARDS else CELL
    places, width, height = lay_out(nodes, size)
    edges = [_edge(places[need], places[at], size) for at, node in enumerate(nodes) for need in node.needs]
    drawn = [_node(node, place, size) for node, place in zip(nodes, places, strict=True)]
    return element(
        "svg",
        element("g", *edges, class_="edges", aria_hidden="true"),
        *drawn,
        class_="graph",
        role="group",
        aria_label=label,
        width=width,
        height=height,
        viewBox=f"0 0 {width:.6g} {height:.6g}",
    )


def lay_out(nodes: Sequence[Node], size: Size) -> tuple[list[Place], float, float]:
    """Where each stands, and how wide and high the picture is.

    Nodes of one depth share a column, or several where they are many; within it they stand beside what
    they take from, so that few lines cross.
    """
    columns: dict[int, list[int]] = defaultdict(list)
    for at, node in enumerate(nodes):
        columns[node.depth].append(at)
    rank: dict[int, float] = {}
    for _, column in sorted(columns.items()):
        column.sort(key=lambda at: (_middle(nodes[at].needs, rank), at))
        rank |= {at: place / max(1, len(column) - 1) for place, at in enumerate(column)}
    tallest = max((min(size.rows, len(column)) for column in columns.values()), default=0)
    height = tallest * (size.height + size.gap_y) - size.gap_y + 2 * MARGIN
    places = [Place(0, 0)] * len(nodes)
    x = float(MARGIN)
    for _, column in sorted(columns.items()):
        beside = -(-len(column) // size.rows)
        rows = -(-len(column) // beside)
        top = (height - rows * (size.height + size.gap_y) + size.gap_y) / 2
        for place, at in enumerate(column):
            across, down = (place % beside, place // beside)
            places[at] = Place(
                x + across * (size.width + size.gap_y), top + down * (size.height + size.gap_y)
            )
        x += beside * (size.width + size.gap_y) - size.gap_y + size.gap_x
    return places, x - size.gap_x + MARGIN, height


def _middle(needs: Sequence[int], rank: Mapping[int, float]) -> float:
    known = [rank[one] for one in needs if one in rank]
    return sum(known) / len(known) if known else 0.5


def _edge(start: Place, end: Place, size: Size) -> Markup:
    x1, y1 = start.x + size.width, start.y + size.height / 2
    x2, y2 = end.x, end.y + size.height / 2
    bend = max(16.0, (x2 - x1) / 2)
    return element(
        "path", d=f"M{x1:.6g} {y1:.6g}C{x1 + bend:.6g} {y1:.6g} {x2 - bend:.6g} {y2:.6g} {x2:.6g} {y2:.6g}"
    )


def _node(node: Node, place: Place, size: Size) -> Markup:
    if node.counts:
        inside = _group(node, size)
    elif size is CARD:
        inside = [
            mark(node.status, 11, 15),
            element("text", cut(node.title, 18), x=36, y=20, class_="title"),
            element("text", cut(node.note, 23), x=36, y=36, class_="note"),
        ]
    else:
        inside = [mark(node.status, 7, 7)]
    state = f"s-{node.status}" if node.status else "many"
    frame = element("rect", width=size.width, height=size.height, rx=6, class_=f"frame {state}")
    return element(
        "a",
        element("title", node.label),
        frame,
        *inside,
        href=node.href,
        aria_label=node.label,
        class_="node",
        transform=f"translate({place.x:.6g} {place.y:.6g})",
    )


def _group(node: Node, size: Size) -> list[Markup]:
    """A layer: its name, how many, a bar of where they stand, and the three largest counts in words."""
    total = sum(node.counts.values())
    there = [(status, node.counts[status]) for status in WORDS if node.counts.get(status)]
    bar: list[Markup] = []
    x, inner = 12.0, size.width - 24
    for status, count in there:
        width = inner * count / total
        bar.append(element("rect", x=x, y=44, width=max(width, 1.5), height=8, class_=f"bar s-{status}"))
        x += width
    words: list[Markup] = []
    largest = sorted(there, key=lambda one: -one[1])[:3]
    for place, (status, count) in enumerate(one for one in there if one in largest):
        left = 12 + place * inner / 3
        words += [
            mark(status, left, 64, 12),
            element("text", f"{count:,}", x=left + 16, y=74, class_="note"),
        ]
    return [
        element("text", cut(node.title, 26), x=12, y=20, class_="title"),
        element("text", cut(node.note, 34), x=12, y=36, class_="note"),
        together(bar),
        *words,
    ]
