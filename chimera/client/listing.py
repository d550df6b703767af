"""What the client gives of a list."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from chimera.core.views import Damaged

T = TypeVar("T")


class Listing(list[T]):
    """The items of a list.

    Attributes:
        damaged: what was left out of it because its record cannot be read; nearly always nothing.
    """

    def __init__(self, items: Iterable[T] = (), damaged: Iterable[Damaged] = ()) -> None:
        super().__init__(items)
        self.damaged = tuple(damaged)
