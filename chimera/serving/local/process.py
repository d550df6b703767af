"""Processes by identity: a pid with its start time, so that a recycled pid is never signalled.

Children are started with the kernel's parent-death signal: whoever started them may die by
SIGKILL, and they still end. Signals go through pidfds, which name one process for ever.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


class ProcessId(BaseModel):
    """One process, for ever.

    Attributes:
        pid: its number, which the kernel may give to another process later.
        started: its start time in clock ticks since boot, which tells the two apart.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> ProcessId | None:
        """The live process with this number, or None (a zombie counts as gone)."""
        stat = _stat(pid)
        if stat is None or stat[0] in "ZX":
            return None
        return cls(pid=pid, started=int(stat[19]))

    def is_alive(self) -> bool:
        """Whether this very process still runs."""
        return ProcessId.of(self.pid) == self

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process; False when it is gone."""
        with self._opened() as fd:
            if fd is None:
                return False
            try:
                signal.pidfd_send_signal(fd, number)
            except ProcessLookupError:
                return False
            return True

    def wait(self, timeout_s: float) -> bool:
        """Whether it is gone after at most `timeout_s` seconds; works for other people's children."""
        with self._opened() as fd:
            if fd is None:
                return True
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            return bool(poll.poll(max(0.0, timeout_s) * 1_000))

    def memory_bytes(self) -> int:
        """Its share of memory: pages that n processes use count as an n-th for each; 0 when it is gone."""
        try:
            lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            return 0
        return sum(int(line.split()[1]) * 1_024 for line in lines if line.startswith("Pss:"))

    def command_line(self) -> list[str]:
        """Its arguments; empty when it is gone."""
        try:
            text = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return []
        return [part.decode(errors="replace") for part in text.split(b"\0")]

    def reap(self) -> None:
        """Free its entry in the process table, should it be a dead child of ours."""
        with suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)

    def _opened(self) -> _PidFd:
        return _PidFd(self)


class _PidFd:
    """A pidfd that is known to name the given process, or None."""

    def __init__(self, process: ProcessId) -> None:
        self._process, self._fd = process, -1

    def __enter__(self) -> int | None:
        try:
            self._fd = os.pidfd_open(self._process.pid)
        except ProcessLookupError:
            return None
        # Opened first, compared second: from here on the descriptor cannot change its meaning.
        return self._fd if self._process.is_alive() else None

    def __exit__(self, *_: object) -> None:
        if self._fd >= 0:
            os.close(self._fd)


def spawn(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    log: Path,
    cwd: Path | None = None,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    outlive: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a child whose output is appended to `log`.

    Unless `outlive` is set, the child gets SIGKILL when the *thread* that started it ends: start
    long-lived children from the main thread. With `outlive` it gets a session of its own, out of
    reach of the terminal's Ctrl-C.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in argv],
            env=dict(env) if env is not None else None,
            cwd=cwd,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=pass_fds,
            start_new_session=outlive,
            preexec_fn=None if outlive else die_with(os.getpid()),  # noqa: PLW1509 (runs two system calls)
        )


def die_with(parent: int) -> Callable[[], None]:
    def in_child() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the line above took effect
            os._exit(1)

    return in_child


def end(processes: Iterable[ProcessId], *, grace_s: float) -> list[ProcessId]:
    """SIGTERM, then SIGKILL for those that are still there after `grace_s` seconds.

    Returns:
        Those that had to be killed.
    """
    asked = [process for process in processes if process.send(signal.SIGTERM)]
    deadline = time.monotonic() + grace_s
    stubborn = [process for process in asked if not process.wait(deadline - time.monotonic())]
    killed = [process for process in stubborn if process.send(signal.SIGKILL)]
    for process in killed:
        process.wait(5)
    return killed


def own() -> Iterator[ProcessId]:
    """Every live process of this user."""
    uid = os.getuid()
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            if entry.stat().st_uid == uid and (process := ProcessId.of(int(entry.name))):
                yield process


def ancestry(pid: int) -> set[int]:
    """The pids from `pid` up to init, itself included."""
    line = {pid}
    while (stat := _stat(pid)) is not None and (pid := int(stat[1])) > 0:
        line.add(pid)
    return line


def _stat(pid: int) -> list[str] | None:
    """Fields 3 and on of /proc/PID/stat (state, ppid, …), or None."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()  # the name in field 2 may hold anything
