"""A figure: what was measured, against what it must reach."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table.

    Attributes:
        bar: what it must reach; None when it is only told.
        most: whether the bar is the most it may be, or the least.
        method: how it was measured, in a few words.
    """

    bench: str
    name: str
    value: float
    unit: str
    bar: float | None = None
    most: bool = True
    method: str = ""

    @property
    def reached(self) -> bool | None:
        """None without a bar."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.most else self.value >= self.bar

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "reached": self.reached}


def percentile(values: list[float], share: float) -> float:
    """The smallest value that `share` of all are not above."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
