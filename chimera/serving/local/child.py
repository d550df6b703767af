"""A child of the supervisor, awaited without a thread."""

from __future__ import annotations

import asyncio
import os
import subprocess
from pathlib import Path

from chimera.serving.local.process import ProcessId

TAIL_LINES = 12


async def exited(process: subprocess.Popen[bytes]) -> int:
    """Wait for a child's end; its exit code (negative: the signal). The kernel wakes us."""
    if (code := process.poll()) is not None:
        return code
    descriptor, ended = os.pidfd_open(process.pid), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


async def end(process: subprocess.Popen[bytes] | None, *, grace_s: float) -> None:
    """SIGTERM, and SIGKILL after `grace_s`; None and the dead are fine."""
    if process is None or process.poll() is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(exited(process), grace_s)
    except TimeoutError:
        process.kill()
        await exited(process)


def identity(process: subprocess.Popen[bytes]) -> ProcessId:
    """Who it is, for the record; a child that is gone already gets a start time that none has."""
    return ProcessId.of(process.pid) or ProcessId(pid=process.pid, started=-1)


def last_lines(log: Path) -> str:
    """The end of a log with its path, for an error."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return f"{log} was not written"
    return "\n  ".join((f"the end of {log}:", *lines[-TAIL_LINES:]))
