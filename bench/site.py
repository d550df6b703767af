"""The fleet that is measured: a local one, started through the command that people use, and ended."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import psutil

from bench.usage import EVERY_S, Meter
from chimera.client import Client
from chimera.core.event import BEGINNING, Event, Position
from chimera.core.task import TaskStatus
from chimera.core.views import MissionView
from chimera.serving.local.ports import free_port
from chimera.serving.local.state import Fleet, StateDir
from chimera.settings import Settings, load
from chimera.store.apikeys import ApiKeys, new_key
from chimera.store.archive import Archive
from chimera.store.blobs import Blobs
from chimera.store.connection import Redis, connect
from chimera.store.missions import MissionStore
from chimera.store.recorder import Recorder
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore

UP_S = 240.0
ACCEPTED_S = 60.0
SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "number"}}}
JUDGE = [{"policy": "schema", "schema": SCHEMA}]


@dataclass
class Site:
    """A fleet under measurement."""

    fleet: Fleet
    settings: Settings
    client: Client
    redis: Redis
    name: str = "local"
    """The tenant whose client it is."""

    def meter(self, every_s: float = EVERY_S) -> Meter:
        """Begin to count what its processes use."""
        return Meter(lambda: [one.pid for one in tree(self.fleet.supervisor.pid)], every_s)

    async def submit(self, agent: str, inputs: list[Any], **more: Any) -> str:
        """Submit a mission whose results must fit a schema."""
        spec = {"goal": "bench", "agent": agent, "inputs": inputs, "judge": JUDGE, "budget_usd": "10", **more}
        return (await self.client.submit(spec)).mission_id

    async def done(self, mission_id: str) -> MissionView:
        """Wait for a mission; all of its tasks must be accepted."""
        mission = await self.client.wait(mission_id)
        if mission.accepted != mission.total_tasks:
            raise RuntimeError(f"{mission_id}: {mission.accepted} of {mission.total_tasks} are accepted")
        return mission

    async def spent(self, mission_id: str) -> int:
        """What a mission was charged, µ$: its last settlements may still be on their way when it ends."""
        while (mission := await self.client.mission(mission_id)).held_microusd:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)
        return mission.spent_microusd

    async def warm(self, agent: str = "bench-noop", tasks: int = 200) -> None:
        """Have workers there, with their imports done: as many as so many tasks at once need."""
        await self.done(await self.submit(agent, [0.5] * tasks))

    async def fill(self, workers: int, slots: int) -> None:
        """Have so many workers there: the first must not do all of the work before the last have started."""
        while len(await self.workers()) < workers:
            await self.warm("bench-wait", workers * slots)

    async def under_way(self, mission_id: str) -> None:
        """Wait until some of its tasks are under lease."""
        async for mission in self.client.watch(mission_id):
            if mission.counts.get(TaskStatus.PENDING):
                return

    async def held(self, tasks: int) -> None:
        """Wait until so many are under lease at once."""
        while await self.leases() < tasks:  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.05)

    async def accepted_at(self, missions: set[str], *, after: Position = BEGINNING) -> dict[str, float]:
        """When the first result of each was accepted: UNIX time, by the recorder, read once from `after` on.

        A mission at a time would read the whole recorder for each: thousands of missions share it.
        """
        found: dict[str, float] = {}
        reached, until = after, time.monotonic() + ACCEPTED_S
        while missing := missions - found.keys():
            if time.monotonic() > until:
                raise RuntimeError(f"nothing of {len(missing)} missions was accepted within {ACCEPTED_S:g} s")
            async for at, event in self.recorder.read(after=reached):
                reached = at
                if event.kind == "task.accepted" and event.mission_id in missing:
                    found.setdefault(event.mission_id, event.at.timestamp())
            await asyncio.sleep(0.2)
        return found

    @property
    def recorder(self) -> Recorder:
        """The tenant's flight recorder."""
        return Recorder(self.redis, self.name, Archive(Blobs(self.settings.blob_location), self.name))

    async def workers(self) -> dict[str, dict[str, str]]:
        """The tenant's workers that beat."""
        return await self._tasks.workers()

    async def busiest_worker(self) -> int:
        """The process of the worker with the most in hand."""
        workers = (await self.workers()).values()
        return int(max(workers, key=lambda said: int(said.get("busy", 0)))["pid"])

    def nodes(self) -> int:
        """Ray nodes beside the head."""
        raylets = 0
        for process in tree(self.fleet.supervisor.pid):
            with suppress(psutil.NoSuchProcess):
                raylets += process.name() == "raylet"
        return max(0, raylets - 1)

    async def leases(self) -> int:
        """The tenant's live leases, counted in Redis."""
        return int(await self.redis.zcard(self._tasks.keys.leases))

    async def shelved(self, mission_id: str) -> int:
        """Accepted tasks of a large mission that have left Redis."""
        return (await MissionStore(self.redis, self.name).get(mission_id)).shelved

    @asynccontextmanager
    async def tenant(self, name: str) -> AsyncIterator[Site]:
        """The same fleet, seen by another tenant, which is made."""
        await TenantStore(self.redis).add(name)
        key = new_key()
        await ApiKeys(self.redis).let_in(name, key)
        async with Client(self.fleet.url, key, timeout_s=120) as client:
            yield replace(self, client=client, name=name)

    @property
    def _tasks(self) -> TaskStore:
        return TaskStore(self.redis, self.name)

    async def events(self, mission_id: str) -> list[Event]:
        """All that the recorder has of a mission."""
        return [event async for _, event in self.client.events(mission_id, follow=False)]


def tree(pid: int) -> list[psutil.Process]:
    """A process and all that descend from it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def seconds(later: datetime, earlier: datetime | float) -> float:
    """Between two moments."""
    since = earlier if isinstance(earlier, float) else earlier.timestamp()
    return later.timestamp() - since


@asynccontextmanager
async def site(**chosen: str) -> AsyncIterator[Site]:
    """A fleet of its own, with settings as `CHIMERA_<NAME>`, until the block ends."""
    with tempfile.TemporaryDirectory(prefix="bench-") as temporary:
        directory = Path(temporary)
        environment = {
            "CHIMERA_STATE_DIR": str(directory / "fleet"),
            "CHIMERA_HTTP_PORT": str(free_port()),
            "CHIMERA_AGENTS": "bench.agents",
            "CHIMERA_FSYNC": "everysec",
            # A spare that starts amid a measurement is none of its cost.
            "CHIMERA_SPARES": "0",
            # No embedded model is started: an address stands for one that nobody asks.
            "CHIMERA_MODEL": "metered",
            "CHIMERA_MODEL_URL": "http://127.0.0.1:9/v1",
            "CHIMERA_MODEL_PRICE_INPUT_USD": "1",
            "CHIMERA_MODEL_PRICE_OUTPUT_USD": "2",
            **{f"CHIMERA_{name.upper()}": value for name, value in chosen.items()},
        }
        environment = {**others(), **environment}
        try:
            await asyncio.to_thread(_chimera, "up", environment)
            fleet = StateDir(directory / "fleet").read()
            if fleet is None:
                raise RuntimeError("the fleet is gone")
            settings = load(redis_url=fleet.redis_url, state_dir=fleet.directory)
            async with Client(fleet.url, fleet.api_key(), timeout_s=120) as client:
                redis = connect(settings)
                try:
                    yield Site(fleet, settings, client, redis)
                finally:
                    await redis.aclose()
        finally:
            await asyncio.to_thread(_chimera, "down", environment)


def others() -> dict[str, str]:
    """The environment, without any setting of another fleet; the repository is importable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[1])}


def _chimera(command: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chimera", command],
        env=environment,
        capture_output=True,
        text=True,
        timeout=UP_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"chimera {command} ended with {done.returncode}: {done.stderr.strip()}")


@asynccontextmanager
async def paid(takes_s: float) -> AsyncIterator[dict[str, str]]:
    """A model whose calls take so long, until the block ends; the settings that name it."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.endpoint", "--port", str(port), "--takes-s", str(takes_s)),
        env=others(),
    )
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(retries=8), trust_env=False
        ) as client:
            await client.get(f"{url}/calls")
        yield {"model": "metered", "model_url": f"{url}/v1"}
    finally:
        process.kill()
        await process.wait()
