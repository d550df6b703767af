"""Many tasks over time: how many stood where, drawn as areas that stand on each other. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from chimera.dashboard.drawing.lanes import playhead_of
from chimera.dashboard.drawing.marks import UNPLANNED, WORDS
from chimera.dashboard.drawing.svg import element

HEIGHT = 56
BUSY_HEIGHT = 28
_WIDE = 1_000


def areas(samples: Sequence[Mapping[str, int]], size: int, *, playhead: float | None, label: str) -> Markup:
    """The tasks of a layer by status, at instants evenly apart; those not planned yet are left blank.

    Args:
        size: how many tasks there are, the height of the picture.
    """
    floor = [0] * len(samples)
    drawn: list[Markup] = []
    for status in WORDS:
        counts = [sample.get(status, 0) for sample in samples]
        if status == UNPLANNED or not any(counts):
            continue
        top = [low + count for low, count in zip(floor, counts, strict=True)]
        drawn.append(_area(floor, top, size, HEIGHT, status))
        floor = top
    return _picture(drawn, HEIGHT, playhead, label)


def busy(counts: Sequence[int], *, playhead: float | None, label: str) -> Markup:
    """How many were at work, against the most that ever were: above, few of thousands would not be seen."""
    most = max(counts, default=0) or 1
    return _picture(
        [_area([0] * len(counts), counts, most, BUSY_HEIGHT, "PENDING")], BUSY_HEIGHT, playhead, label
    )


def _area(low: Sequence[int], high: Sequence[int], size: int, height: float, status: str) -> Markup:
    def points(values: Sequence[int]) -> list[str]:
        last = max(1, len(values) - 1)
        return [
            f"{_WIDE * at / last:.4g},{height * (1 - value / max(1, size)):.4g}"
            for at, value in enumerate(values)
        ]

    outline = " ".join([*points(high), *reversed(points(low))])
    return element("polygon", element("title", WORDS[status]), points=outline, class_=f"area s-{status}")


def _picture(drawn: Sequence[Markup], height: float, playhead: float | None, label: str) -> Markup:
    # The areas are stretched to the width; the playhead is not.
    stretched = element(
        "svg",
        *drawn,
        viewBox=f"0 0 {_WIDE} {height:g}",
        preserveAspectRatio="none",
        width="100%",
        height=height,
    )
    return element(
        "svg",
        stretched,
        playhead_of(playhead, height),
        class_="density",
        role="img",
        aria_label=label,
        width="100%",
        height=height,
    )
