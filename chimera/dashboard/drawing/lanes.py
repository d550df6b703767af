"""Lanes of a timeline: where a task stood, and for how long. Pure.

A lane follows the width it is given: lengths are in percent of it, marks keep their size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from chimera.dashboard.drawing.marks import WORDS, mark
from chimera.dashboard.drawing.svg import element, percent
from chimera.dashboard.words import length

HEIGHT = 22
MARK = 12
TICKS = 5


class Stay(NamedTuple):
    """A time that a task stood somewhere; from and to as parts of the whole, 0 to 1.

    Attributes:
        note: what is said of it beside its status and length: an attempt's number, for example.
        seconds: how long.
    """

    status: str
    begin: float
    end: float
    seconds: float
    note: str = ""


def lane(stays: Sequence[Stay], *, playhead: float | None, label: str) -> Markup:
    """One task's lane. What is final has a mark and no length."""
    drawn: list[Markup] = []
    for stay in stays:
        said = f"{WORDS[stay.status]}{stay.note}, {length(stay.seconds)}"
        final = stay.status in {"ACCEPTED", "FAILED", "CANCELLED"}
        high = 12 if stay.status in {"PENDING", "REVIEW"} else 4
        drawn.append(
            element(
                "rect",
                element("title", said),
                x=percent(stay.begin),
                width=percent(max(stay.end - stay.begin, 0.002)),
                y=(HEIGHT - high) / 2,
                height=high,
                class_=f"stay s-{stay.status}{' final' if final else ''}",
            )
        )
        if final or stay.status == "ESCALATED":
            drawn.append(_mark(stay.status, stay.begin))
    return element(
        "svg",
        *drawn,
        playhead_of(playhead),
        class_="lane",
        role="img",
        aria_label=label,
        width="100%",
        height=HEIGHT,
    )


def playhead_of(at: float | None, height: float = HEIGHT) -> Markup:
    """The line that says which moment is shown."""
    place = percent(1 if at is None else at)
    hidden = " unseen" if at is None else ""
    return element("line", x1=place, x2=place, y1=0, y2=height, class_=f"playhead{hidden}")


def axis(seconds: float) -> Markup:
    """The hours or seconds since the mission was submitted, above the lanes."""
    ticks: list[Markup] = []
    for tick in range(TICKS):
        part = tick / (TICKS - 1)
        anchor = "start" if tick == 0 else "end" if tick == TICKS - 1 else "middle"
        ticks.append(
            element("text", length(part * seconds), x=percent(part), y=14, text_anchor=anchor, class_="tick")
        )
    return element("svg", *ticks, class_="axis", width="100%", height=18, aria_hidden="true")


def _mark(status: str, at: float) -> Markup:
    top = (HEIGHT - MARK) / 2
    # An inner picture, for it may stand at a percentage and keep its size. Near the end it stands left of it.
    left = -MARK if at > 0.98 else 2
    return element("svg", mark(status, left, top, MARK), x=percent(at), overflow="visible", class_="at")
