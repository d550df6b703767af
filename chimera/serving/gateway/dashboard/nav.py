"""The pages that there are, as the navigation shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """A page in the navigation.

    Attributes:
        path: where it is, from `/dashboard` on.
        key: pressed behind `g`, it leads there.
        rank: entries stand in this order.
    """

    title: str
    path: str
    key: str
    rank: int
