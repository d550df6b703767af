"""How steadily one process hears the store: tells a store that was away from a tenant nobody looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Reach:
    """Instants of the store's own clock (µs).

    Args:
        steady_us: since then there was no pause of half a lease between two answers.
        heard_us: the last answer; 0 before the first.
    """

    steady_us: int = 0
    heard_us: int = 0

    def hear(self, now_us: int, *, lease_s: float) -> None:
        """An answer came that the store gave at `now_us`. Answers may come out of order."""
        if now_us - self.heard_us > lease_s * 1e6 / 2:
            self.steady_us = now_us
        self.heard_us = max(self.heard_us, now_us)
