"""A mark for each status a task can have: a shape of its own, so that no colour alone says it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from markupsafe import Markup

from chimera.core.task import TaskStatus
from chimera.dashboard.drawing.svg import element

SIZE = 16
UNPLANNED = "UNPLANNED"
"""Of a task that the plan has and that was not made yet."""

WORDS: Mapping[str, str] = MappingProxyType(
    {
        TaskStatus.ACCEPTED: "accepted",
        TaskStatus.FAILED: "failed",
        TaskStatus.CANCELLED: "cancelled",
        TaskStatus.ESCALATED: "waits for a human",
        TaskStatus.REVIEW: "in review",
        TaskStatus.PENDING: "at work",
        TaskStatus.READY: "ready",
        TaskStatus.BLOCKED: "waits for others",
        UNPLANNED: "not planned yet",
    }
)
"""Every status in words, in the order they are shown: what is done first, what is far away last."""

_SHAPES = {
    TaskStatus.ACCEPTED: "M3 8.5l3.5 3.5L13 4.5",
    TaskStatus.FAILED: "M4 4l8 8M12 4l-8 8",
    TaskStatus.CANCELLED: "M8 2.5a5.5 5.5 0 1 0 .01 0zM4.2 11.8l7.6-7.6",
    TaskStatus.ESCALATED: "M8 2L14.5 13.5h-13zM8 6.3v3.4M8 11.4v.4",
    TaskStatus.REVIEW: "M7 2.8a4.2 4.2 0 1 0 .01 0zM10.2 10.2l3.5 3.5",
    TaskStatus.PENDING: "M5 3.2v9.6L12.8 8z",
    TaskStatus.READY: "M8 3.2a4.8 4.8 0 1 0 .01 0z",
    TaskStatus.BLOCKED: "M5.5 3.5v9M10.5 3.5v9",
    UNPLANNED: "M3 8h1M7.5 8h1M12 8h1",
}
_FILLED = frozenset({TaskStatus.PENDING})


def mark(status: str, x: float = 0, y: float = 0, size: float = SIZE) -> Markup:
    """The mark of a status, its upper left corner at a place of a picture."""
    scale = f" scale({size / SIZE:.4g})" if size != SIZE else ""
    filled = " filled" if status in _FILLED else ""
    return element(
        "path",
        d=_SHAPES[status],
        class_=f"mark s-{status}{filled}",
        transform=f"translate({x:.6g} {y:.6g}){scale}",
    )


def picture(status: str, size: int = SIZE) -> Markup:
    """The mark as a picture of its own, beside words that say the same."""
    return element(
        "svg", mark(status), viewBox=f"0 0 {SIZE} {SIZE}", width=size, height=size, aria_hidden="true"
    )
