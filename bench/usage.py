"""What processes use: CPU seconds and resident memory, by kind of process."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import psutil

from chimera.serving.titles import CELL

EVERY_S = 0.25
KINDS = (
    ("ray::WorkerActor", "worker"),
    ("ray::ServeReplica:chimera:Judge", "judge"),
    ("ray::ServeReplica:chimera:Orchestrator", "orchestrator"),
    ("ray::ServeReplica:chimera:Gateway", "gateway"),
    ("ray::GovernorActor", "governor"),
    ("valkey-server", "redis"),
    ("redis-server", "redis"),
    ("chimera supervisor", "supervisor"),
)
"""How the command line of a process begins, and what it is; anything else of a fleet is Ray's."""
OURS = ("worker", "judge", "orchestrator", "gateway", "governor", "redis")
"""What counts as Chimera: Ray's daemons, the supervisor and the client stand apart."""


def kind_of(command_line: list[str]) -> str:
    """What a process of a fleet is."""
    text = " ".join(command_line)
    if CELL in command_line:
        return "worker"
    for begins, kind in KINDS:
        if text.startswith(begins) or os.path.basename(text.split(" ", 1)[0]).startswith(begins):
            return kind
    return "ray"


@dataclass
class Usage:
    """Of one kind.

    Attributes:
        cpu_s: user and system time within the interval.
        peak_bytes: the most that all of them had resident at once.
    """

    cpu_s: float = 0.0
    peak_bytes: int = 0


@dataclass
class _Seen:
    kind: str
    before_s: float
    now_s: float
    resident: int = 0


@dataclass
class Meter:
    """Samples processes until it is stopped.

    Args:
        processes: finds those of the fleet, each time anew: workers come and go.
        every_s: how often they are looked at.
    Attributes:
        resident: bytes by kind, as last seen.
    """

    processes: Callable[[], list[int]]
    every_s: float = EVERY_S
    resident: dict[str, int] = field(default_factory=dict)
    _seen: dict[tuple[int, float], _Seen] = field(default_factory=dict)
    _peaks: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    peak_bytes: int = 0

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._look(first=True)
        self._thread = threading.Thread(target=self._run, name="meter", daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Usage]:
        """What each kind used since it was made."""
        self._over.set()
        self._thread.join()
        self._look()
        used: dict[str, Usage] = defaultdict(Usage)
        for one in self._seen.values():
            used[one.kind].cpu_s += one.now_s - one.before_s
        for kind, peak in self._peaks.items():
            used[kind].peak_bytes = peak
        return dict(used)

    def _run(self) -> None:
        while not self._over.wait(self.every_s):
            self._look()

    def _look(self, *, first: bool = False) -> None:
        resident: dict[str, int] = defaultdict(int)
        for pid in [*self.processes(), os.getpid()]:
            try:
                process = psutil.Process(pid)
                with process.oneshot():
                    times = process.cpu_times()
                    key, spent = (pid, process.create_time()), times.user + times.system
                    kind = "client" if pid == os.getpid() else kind_of(process.cmdline())
                    resident[kind] += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
            # A process that begins later spends all of its time within the interval.
            one = self._seen.setdefault(key, _Seen(kind, spent if first else 0.0, spent))
            # Ray renames a process once it becomes a worker.
            one.kind, one.now_s = kind, spent
        for kind, amount in resident.items():
            self._peaks[kind] = max(self._peaks[kind], amount)
        self.peak_bytes = max(self.peak_bytes, sum(resident.values()))
        self.resident = dict(resident)
