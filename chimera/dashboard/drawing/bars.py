"""Bars: how much of a limit is used, and how parts of a sum compare. Pure SVG, no style of its own.

Every bar stands beside its figures, which say the same in words: so it is hidden from readers of the page.
Widths are attributes, for the page's policy allows no inline style.
"""

from __future__ import annotations

from markupsafe import Markup

from chimera.dashboard.drawing.svg import element

WIDTH, HEIGHT = 200, 10


def limit_bar(limit: int, settled: int, held: int) -> Markup:
    """A limit as a bar: settled, then held, and what is left of it.

    Settled money alone can go beyond a limit (a limit was lowered, or a call cost more than was held): the
    bar is then full, and marked ``over``.
    """
    whole = max(limit, settled + held, 1)
    over = " over" if settled + held > limit else ""
    return _bar(
        f"bar limit{over}",
        _part("rest", WIDTH),
        _part("held", _share(settled + held, whole)),
        _part("settled", _share(settled, whole)),
    )


def share_bar(part: int, most: int) -> Markup:
    """One part beside the largest."""
    return _bar("bar share", _part("settled", _share(part, max(most, 1))))


def _share(part: int, whole: int) -> float:
    """In units of the drawing. What is not nothing is seen."""
    width = round(WIDTH * max(0, part) / whole, 1)
    return min(float(WIDTH), max(width, 1.0 if part > 0 else 0.0))


def _part(name: str, width: float) -> Markup:
    return element("rect", class_=name, width=width, height=HEIGHT, rx=2)


def _bar(name: str, *parts: Markup) -> Markup:
    return element(
        "svg",
        *parts,
        class_=name,
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        aria_hidden="true",
        focusable="false",
    )
