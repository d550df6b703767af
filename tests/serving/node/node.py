"""A node as a container runs it: a real process that is told everything by its environment alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from chimera.serving.local import remains
from chimera.serving.local.state import StateDir

CHIMERA = Path(sys.executable).with_name("chimera")
END_S = 90.0


class Node:
    """`chimera node ROLE`, with a home and a directory of its own.

    Args:
        directory: made; what it writes is in `out` and `err` there.
        variables: all of its environment, beside PATH and HOME.
    """

    def __init__(self, role: str, directory: Path, variables: Mapping[str, str]) -> None:
        directory.mkdir(parents=True)
        self.state = StateDir(directory / "state")
        self.out, self.err = directory / "out", directory / "err"
        with self.out.open("wb") as out, self.err.open("wb") as err:
            self.process = subprocess.Popen(
                [CHIMERA, "node", role],
                cwd=directory,
                env={
                    "PATH": os.defpath,
                    "HOME": str(directory),
                    "CHIMERA_STATE_DIR": str(self.state.path),
                    **variables,
                },
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    def lines(self) -> list[str]:
        """All that it has written so far."""
        return [line for file in (self.out, self.err) for line in file.read_text("utf-8").splitlines()]

    def processes(self) -> list[psutil.Process]:
        """It, and all that belongs to it."""
        found = {self.process.pid, *(process.pid for process in remains.find(self.state))}
        for pid in list(found):
            try:
                found |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
            except psutil.NoSuchProcess:
                found.discard(pid)
        return [psutil.Process(pid) for pid in sorted(found) if psutil.pid_exists(pid)]

    def runs(self, title: str) -> bool:
        """Whether a process of that title runs on it."""
        return bool(self.titled(title))

    def titled(self, title: str) -> list[psutil.Process]:
        """Its processes that call themselves so."""
        return [one for one in self.processes() if title in _title(one)]

    def end(self) -> int:
        """SIGTERM, as `docker stop` sends it; the exit code."""
        self.process.terminate()
        return self.process.wait(END_S)

    def crash(self) -> None:
        """All of it at once, as when a container's machine is gone: nobody of it may do anything more."""
        doomed = self.processes()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for one in doomed:
                try:
                    one.send_signal(number)
                except psutil.NoSuchProcess:
                    continue
        self.process.wait(END_S)
        psutil.wait_procs(doomed, timeout=END_S)

    def clean(self) -> None:
        """End whatever is there still, and remove what is outside of its directory."""
        if self.process.poll() is None:
            self.crash()
        remains.sweep(self.state)
        self.state.forget()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
