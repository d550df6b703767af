"""Quantities of Kubernetes as integers: processor in thousandths, memory in bytes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from chimera.errors import ConfigurationError

MI, GI = 1 << 20, 1 << 30
UNITS = {
    "": Decimal(1),
    "m": Decimal("0.001"),
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGT", 1)},
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGT", 1)},
}
WRITTEN = re.compile(r"(?P<number>\d{1,15}(?:\.\d{1,9})?)(?P<unit>m|[KMGT]i|[kMGT])?")


@dataclass(frozen=True, slots=True)
class Size:
    """What something may have.

    Attributes:
        cpu: thousandths of a processor.
        memory: bytes.
    """

    cpu: int
    memory: int

    def __add__(self, other: Size) -> Size:
        return Size(self.cpu + other.cpu, self.memory + other.memory)

    def __mul__(self, times: int) -> Size:
        return Size(self.cpu * times, self.memory * times)

    def within(self, other: Size) -> bool:
        """Whether it fits into the other, in both."""
        return self.cpu <= other.cpu and self.memory <= other.memory

    @classmethod
    def parse(cls, cpu: str, memory: str, *, flags: tuple[str, str]) -> Self:
        """``"1500m", "2Gi"`` → a size.

        Args:
            flags: where the two were given, for the refusal.

        Raises:
            ConfigurationError: one is no quantity, is nothing, or is finer than a thousandth or a byte.
        """
        thousandths, whole = _number(cpu, flags[0]) * 1000, _number(memory, flags[1])
        for number, flag, unit in ((thousandths, flags[0], "a thousandth"), (whole, flags[1], "a byte")):
            if number != int(number) or number < 1:
                raise ConfigurationError(f"{flag} must be a whole number of {unit} and more than nothing")
        return cls(int(thousandths), int(whole))

    def quantities(self) -> dict[str, str]:
        """As Kubernetes writes it."""
        return {"cpu": self.written_cpu, "memory": self.written_memory}

    @property
    def written_cpu(self) -> str:
        return f"{self.cpu}m" if self.cpu % 1000 else str(self.cpu // 1000)

    @property
    def written_memory(self) -> str:
        for unit in ("Ti", "Gi", "Mi", "Ki"):
            if self.memory and self.memory % int(UNITS[unit]) == 0:
                return f"{self.memory // int(UNITS[unit])}{unit}"
        return str(self.memory)

    def __str__(self) -> str:
        return f"{self.cpu / 1000:g} CPU and {self.memory / GI:.4g} GiB"


def _number(text: str, flag: str) -> Decimal:
    matched = WRITTEN.fullmatch(text.strip())
    if matched is None:
        raise ConfigurationError(f"{flag} {text!r} is no quantity of Kubernetes: write 500m, 4, 512Mi or 8Gi")
    return Decimal(matched["number"]) * UNITS[matched["unit"] or ""]
