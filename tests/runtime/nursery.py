"""A process that has imported everything once and forks parts of a fleet: each is there in milliseconds.

``python -m tests.runtime.nursery`` reads orders from stdin, one JSON line each, and answers with a pid. It
runs no thread and no event loop, so what it forks is what `tests.runtime.process` would be by itself. A part
dies with it.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from chimera.serving.local.process import ProcessId, die_with, spawn
from tests.runtime import process

ROOT = Path(__file__).parents[2]


class Nursery:
    """The other end: starts parts."""

    def __init__(self, directory: Path) -> None:
        self._log = directory / "nursery.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        orders, self._orders = os.pipe()
        self._answers, answers = os.pipe()
        arguments = [sys.executable, "-m", __name__, str(orders), str(answers)]
        self._process = spawn(arguments, log=self._log, cwd=ROOT, pass_fds=(orders, answers))
        os.close(orders)
        os.close(answers)
        self._told = os.fdopen(self._answers, encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        os.close(self._orders)  # it ends by itself, and what it measured is kept
        self._process.wait(10)
        self._told.close()

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> ProcessId:
        """Fork one part, with this environment and no other, its output in a log."""
        order = {"arguments": list(arguments), "environment": dict(environment), "log": str(log)}
        log.touch()
        os.write(self._orders, f"{json.dumps(order)}\n".encode())
        pid = self._told.readline()
        assert pid, self._log.read_text()
        started = ProcessId.of(int(pid))
        assert started is not None, log.read_text()
        return started


def main() -> None:
    """Fork until nobody gives orders any more."""
    orders, answers = map(int, sys.argv[1:3])
    importlib.import_module("chimera.agents.models.providers")  # what models need, and takes longest
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead leave nothing behind
    here = os.getpid()
    with os.fdopen(orders, encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)
            pid = os.fork()
            if pid == 0:
                os.close(orders)
                os.close(answers)
                become(order, here)
            os.write(answers, f"{pid}\n".encode())


def become(order: dict[str, object], parent: int) -> None:
    """In the fork: be the part that was ordered, and never return."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    die_with(parent)()
    log = os.open(str(order["log"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    environment, arguments = order["environment"], order["arguments"]
    assert isinstance(environment, dict)
    assert isinstance(arguments, list)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["process", *arguments]
    try:
        process.main()
    finally:
        os._exit(1)  # parts live until they are killed, or end themselves


if __name__ == "__main__":
    main()
