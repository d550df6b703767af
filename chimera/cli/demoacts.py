"""The demo's acts, in their order, and the figures it gives at the end."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from chimera.cli import output
from chimera.cli.demo import MISSIONS, on_terminal
from chimera.cli.exits import Exit
from chimera.cli.fleet import package
from chimera.cli.output import Format
from chimera.cli.progress import choose
from chimera.cli.watching import Watch
from chimera.client import Client
from chimera.core.mission import MissionStatus
from chimera.missionfile import read_mission
from chimera.serving.local import remains
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import StateDir

if TYPE_CHECKING:
    from chimera.core.views import FleetView, MissionView, WorkerView
    from chimera.serving.local.stages import StageEvent
    from chimera.serving.local.state import Fleet
    from chimera.settings import Settings

EMBEDDED = "SmolLM2-135M-Instruct (embedded, Apache-2.0, on this machine's CPU)"


@dataclass
class Figures:
    """What the demo measured; seconds are counted from the beginning of the fleet's start."""

    seconds_to_ready: float = 0.0
    seconds_to_first_result: float | None = None
    seconds_total: float = 0.0
    memory_at_rest_bytes: int = 0
    killed: list[int] = field(default_factory=list)


class Acts:
    """One performance.

    Args:
        root: where `examples/` is.
    """

    def __init__(self, settings: Settings, root: Path, output_format: Format) -> None:
        self._settings, self._root, self._format = settings, root, output_format
        self._began = time.monotonic()
        self.figures = Figures()
        self._unexpected: list[str] = []

    def perform(self, agents: list[Path]) -> Exit:
        """All acts. The fleet is up until the caller ends it."""
        self._say("Act 1: a local fleet (real Ray, Ray Serve, Redis and model; nothing leaves this machine)")
        fleet = package().up(self._settings, progress=self._stage, agents=agents)
        self.figures.seconds_to_ready = self._elapsed()
        self.figures.memory_at_rest_bytes = package().status(self._settings).memory_bytes
        self._say(
            f"  the fleet is ready after {self.figures.seconds_to_ready:.1f} s and takes "
            f"{self.figures.memory_at_rest_bytes / 2**20:,.0f} MiB at rest"
        )
        self._say(f"  the model is {self._model()}")
        asyncio.run(self._missions(fleet))
        self.figures.seconds_total = self._elapsed()
        self._tell_figures()
        if on_terminal() and self._format is Format.TEXT:
            self._stay(fleet)
        for sentence in self._unexpected:
            output.note(f"not as it should be: {sentence}")
        return Exit.FAILED if self._unexpected else Exit.COMPLETED

    async def _missions(self, fleet: Fleet) -> None:
        async with Client(fleet.url, fleet.api_key()) as client:
            self._say("\nAct 2: digest.yaml, real documents, every result judged and costed")
            digest = await self._mission(client, "digest.yaml")
            self._expect(digest.status is MissionStatus.COMPLETED, f"digest.yaml ended {digest.status}")
            self._say("\nAct 3: poor.yaml, the same on a budget that cannot pay for it")
            poor = await self._mission(client, "poor.yaml")
            refused = poor.status is MissionStatus.FAILED and poor.reason.startswith("budget_exceeded")
            self._expect(refused, f"poor.yaml ended {poor.status} ({poor.reason})")
            self._expect(poor.spent_microusd <= poor.budget_microusd, "poor.yaml spent more than its budget")
            self._say("\nAct 4: survive.yaml, whose worker is killed with SIGKILL while it works")
            await self._survival(client)

    async def _mission(self, client: Client, name: str) -> MissionView:
        spec = read_mission(
            self._root / MISSIONS / name,
            max_input_bytes=self._settings.max_input_bytes,
            max_inputs=self._settings.max_inputs,
        )
        submitted = await client.submit(spec, idempotency_key=uuid.uuid4().hex)
        self._say(f"  mission {submitted.mission_id}: {submitted.total_tasks} tasks")
        watch = Watch(client, submitted.mission_id, choose(self._format))
        ended = await watch.run()
        if self.figures.seconds_to_first_result is None and watch.first_result_at is not None:
            self.figures.seconds_to_first_result = watch.first_result_at - self._began
        return ended

    async def _survival(self, client: Client) -> None:
        nemesis = Nemesis(client, StateDir(self._settings.state_dir), self._say)
        striking = asyncio.create_task(nemesis.strike(), name="nemesis")
        try:
            mission = await self._mission(client, "survive.yaml")
        finally:
            striking.cancel()
            await asyncio.gather(striking, return_exceptions=True)
        self.figures.killed = nemesis.killed
        self._expect(bool(nemesis.killed), "no worker was found to kill")
        complete = mission.status is MissionStatus.COMPLETED and mission.accepted == mission.total_tasks
        self._expect(complete, f"survive.yaml ended {mission.status} with {mission.accepted} accepted")
        if complete and nemesis.killed:
            self._say(
                f"  the worker died, the work did not: {mission.accepted} of {mission.total_tasks} accepted"
            )

    def _expect(self, true: bool, sentence: str) -> None:
        if not true:
            self._unexpected.append(sentence)

    def _elapsed(self) -> float:
        return time.monotonic() - self._began

    def _say(self, text: str) -> None:
        """Words for people: beside the answer where programs read it."""
        (output.note if self._format is Format.JSON else output.say)(text)

    def _stage(self, event: StageEvent) -> None:
        seconds = f"{event.seconds:6.1f} s" if event.seconds else " " * 8
        self._say(f"  {event.stage:<6} {event.status:<8} {seconds}  {event.detail}".rstrip())

    def _model(self) -> str:
        chosen, url = self._settings.model, self._settings.model_url
        if chosen or url:
            return f"{chosen or 'the default one'}{f' at {url}' if url else ''}"
        return f"{EMBEDDED}; for a real one set CHIMERA_MODEL and CHIMERA_MODEL_URL"

    def _tell_figures(self) -> None:
        figures = self.figures
        if self._format is Format.JSON:
            return output.line({"type": "figures", **vars(figures)})
        first = figures.seconds_to_first_result
        return self._say(
            f"\nfleet ready {figures.seconds_to_ready:.1f} s · "
            f"first accepted result {'never' if first is None else f'{first:.1f} s'} · "
            f"all {figures.seconds_total:.1f} s · {figures.memory_at_rest_bytes / 2**20:,.0f} MiB at rest"
        )

    def _stay(self, fleet: Fleet) -> None:
        self._say("\nThe fleet stays up:")
        self._say(f"  API         {fleet.url}")
        self._say(f"  OpenAPI     {fleet.url}/docs   (Authorize with the key in {fleet.api_key_file})")
        self._say(f"  dashboard   {fleet.url}/dashboard   (log in with the key in {fleet.admin_key_file})")
        self._say(f"  Ray         {fleet.dashboard_url}   (asks for the token in {fleet.ray_token_file})")
        self._say(f"  commands    CHIMERA_STATE_DIR={self._settings.state_dir} chimera mission list")
        output.say("Press Enter to stop it.")
        sys.stdin.readline()


class Nemesis:
    """Kills a worker while it works, once.

    Args:
        state: the fleet it belongs to: no other process is ever touched.
    """

    def __init__(self, client: Client, state: StateDir, say: Callable[[str], None]) -> None:
        self._client, self._state, self._say = client, state, say
        self.killed: list[int] = []

    async def strike(self) -> None:
        """Wait for a busy worker, then kill it."""
        while not self.killed:
            fleet: FleetView = await self._client.fleet()
            for worker in fleet.workers:
                if worker.busy and self._kill(worker):
                    break
            else:
                await asyncio.sleep(0.25)  # the API has no event for a worker that became busy

    def _kill(self, worker: WorkerView) -> bool:
        process = ProcessId.of(worker.pid)
        if process is None or process not in remains.find(self._state) or not process.send(signal.SIGKILL):
            return False
        self.killed.append(worker.pid)
        self._say(
            f"  ✗ SIGKILL to worker {worker.worker} (pid {worker.pid}), with {worker.busy} tasks in hand"
        )
        return True
