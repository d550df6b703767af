"""The embedded model's process, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chimera.errors import BackendError, ConfigurationError
from chimera.serving.local import child
from chimera.serving.local.ports import LOOPBACK
from chimera.serving.local.process import spawn

MODULE = "chimera.agents.models.embedded"
START_S = 60.0


class ModelServer:
    """One model server for the whole fleet, on a private loopback port that a restart keeps.

    Args:
        port: where it listens.
        log: takes its output.
        env: its environment; it reads CHIMERA_MODEL_API_KEY and the CHIMERA_EMBEDDED_* settings there.
    """

    def __init__(self, port: int, log: Path, env: Mapping[str, str]) -> None:
        self.port, self.log, self._env = port, log, env
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The endpoint, as CHIMERA_MODEL_URL wants it."""
        return f"http://{LOOPBACK}:{self.port}/v1"

    async def start(self) -> subprocess.Popen[bytes]:
        """Start it and wait until it answers.

        Raises:
            ConfigurationError: it is not installed.
            BackendError: it ended or did not answer in time.
        """
        self.process = spawn(
            [sys.executable, "-m", MODULE, "--port", str(self.port)], env=self._env, log=self.log
        )
        waiting = asyncio.ensure_future(self._answers())
        ending = asyncio.ensure_future(child.exited(self.process))
        try:
            await asyncio.wait({waiting, ending}, timeout=START_S, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return self.process
            explained = child.last_lines(self.log)
            if not ending.done():
                raise BackendError(f"the model did not answer within {START_S:g} s; {explained}")
            kind = ConfigurationError if ending.result() == 2 else BackendError
            raise kind(f"the model server ended with code {ending.result()}; {explained}")
        finally:
            waiting.cancel()
            ending.cancel()

    async def _answers(self) -> None:
        """It binds its port when its weights are loaded, so a connection is an answer."""
        while True:
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self.port)
            except OSError:
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return
