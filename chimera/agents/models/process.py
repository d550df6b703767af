"""The embedded model as a child process: started, waited for, ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import IO

from chimera.errors import ModelUnavailable

MODULE = "chimera.agents.models.embedded"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """A running embedded model. `url` and `model` are what CHIMERA_MODEL_URL and CHIMERA_MODEL want."""

    process: subprocess.Popen[str]
    url: str
    model: str

    def stop(self) -> None:
        """End it; again is no error."""
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    def __enter__(self) -> EmbeddedModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start(
    port: int = 0, *, environ: Mapping[str, str] | None = None, log: Path | None = None
) -> EmbeddedModel:
    """Start the embedded model and wait until it answers.

    It ends with the *thread* that called this, as the kernel counts parents: call from the main one.

    Args:
        port: on 127.0.0.1; 0 chooses a free one.
        environ: added to this process's environment: CHIMERA_MODEL_API_KEY, threads, slots.
        log: where its log goes; unset, nowhere.
    Raises:
        ModelUnavailable: it ended, or was not ready in a minute; with the end of its log.
    """
    sink: IO[str] | int = subprocess.DEVNULL if log is None else log.open("a", encoding="utf-8")
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", MODULE, "--port", str(port)],
            stdout=subprocess.PIPE,
            stderr=sink,
            text=True,
            env={**os.environ, **(environ or {})},
        )
    finally:
        if not isinstance(sink, int):
            sink.close()
    line = first_line(process, START_TIMEOUT_S)
    if not line:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        said = log.read_text(encoding="utf-8", errors="replace")[-500:] if log else "give it a log to see why"
        raise ModelUnavailable(f"the embedded model did not start: {said.strip()}")
    ready = json.loads(line)["fields"]
    return EmbeddedModel(process, ready["url"], ready["model"])


def first_line(process: subprocess.Popen[str], timeout_s: float) -> str:
    """The first line a child prints; "" when it ends or stays silent."""
    if process.stdout is None:
        return ""
    with DefaultSelector() as selector:
        selector.register(process.stdout, EVENT_READ)
        return process.stdout.readline() if selector.select(timeout_s) else ""
