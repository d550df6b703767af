"""A whole fleet in one event loop: real services over a real Redis, without Ray."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from types import ModuleType

from pydantic import SecretStr

from chimera.agents.registry import Registry, agent
from chimera.core.mission import MISSION_FINAL, MissionSpec, MissionStatus
from chimera.errors import StoreError
from chimera.judging.boundaries import load_boundaries
from chimera.runtime.archivist import Archivist
from chimera.runtime.base import Base
from chimera.runtime.controller import FleetController
from chimera.runtime.courier import Courier
from chimera.runtime.elector import Elector
from chimera.runtime.governor import Governor
from chimera.runtime.judge import Judge
from chimera.runtime.orchestrator import Orchestrator, Rescuer
from chimera.runtime.retention import Retention
from chimera.runtime.shelver import Shelver
from chimera.runtime.users import UserKeeper
from chimera.runtime.worker import Worker
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.connection import connect, connect_sync, end
from chimera.store.missionrecord import MissionRecord
from chimera.store.recorder import Recorder
from chimera.store.signals import Wakeups
from chimera.store.users import as_role, keeps_users
from tests.redis_fixtures import logged_in
from tests.store import drive

RESTING = MISSION_FINAL | {MissionStatus.WAITING_REVIEW}


def registry(**agents: Callable[..., object]) -> Registry:
    """A registry of functions by name."""
    module = ModuleType("test_agents")
    for name, function in agents.items():
        function.__module__ = module.__name__
        setattr(module, name, agent(name)(function))
    made = Registry()
    made.add(module, "the test")
    return made


class Workers:
    """A backend whose workers are tasks of this event loop."""

    def __init__(self, settings: Settings, agents: Registry) -> None:
        self.settings, self.agents = settings, agents
        self.running: dict[str, tuple[str, asyncio.Task[str]]] = {}
        self.started: list[str] = []
        self.workers: dict[str, Worker] = {}

    async def start(self, tenant: str, worker_id: str) -> None:
        self.started.append(worker_id)
        self.running[worker_id] = (tenant, asyncio.create_task(self._run(tenant, worker_id)))

    async def _run(self, tenant: str, worker_id: str) -> str:
        settings = as_role(self.settings, "worker", tenant)
        redis, blocking = connect(settings), connect(settings, blocking=True)
        sync = connect_sync(settings)
        try:
            worker = Worker(
                settings, tenant, worker_id, self.agents, redis=redis, blocking=blocking, sync=sync
            )
            self.workers[worker_id] = worker
            return await worker.run()
        finally:
            sync.close()
            await redis.aclose()
            await blocking.aclose()

    async def equip(self, workers: Mapping[str, str]) -> None:
        pass  # they have what the test has

    async def leaving(self) -> set[str]:
        return set()

    async def places(self) -> int:
        return 0

    async def spare_places(self) -> int:
        return 0

    async def list(self) -> dict[str, str]:
        return {worker: tenant for worker, (tenant, task) in self.running.items() if not task.done()}

    async def end(self, tenant: str, worker_id: str, process: str = "") -> None:
        await end(self.running[worker_id][1])

    async def fall_silent(self, worker_id: str) -> None:
        """Stop its heartbeat, as stopping its process would."""
        await self.workers[worker_id].renewer.stop()

    async def close(self) -> None:
        for worker, (tenant, _) in list(self.running.items()):
            await self.end(tenant, worker)


def _environment(settings: Settings) -> dict[str, str]:
    return os.environ | {
        f"CHIMERA_{name.upper()}": str(value.get_secret_value() if isinstance(value, SecretStr) else value)
        for name, value in settings.model_dump(exclude_unset=True).items()
        if value is not None
    }


class Processes:
    """A backend whose workers are processes, to be killed: each runs the agents of `tests.runtime.paying`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.running: dict[str, tuple[str, asyncio.subprocess.Process]] = {}
        self.said: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        """What workers print: (worker, line)."""
        self._readers: set[asyncio.Task[None]] = set()

    async def start(self, tenant: str, worker_id: str) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.runtime.paying", tenant, worker_id),
            env=_environment(as_role(self.settings, "worker", tenant)),
            stdout=subprocess.PIPE,
        )
        self.running[worker_id] = tenant, process
        self._readers.add(asyncio.create_task(self._read(worker_id, process)))

    async def _read(self, worker_id: str, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.said.put_nowait((worker_id, line.decode().strip()))

    async def heard(self, line: str) -> str:
        """Wait until a worker prints a line; the worker."""
        async with asyncio.timeout(30):
            while True:
                worker, said = await self.said.get()
                if said == line:
                    return worker

    async def equip(self, workers: Mapping[str, str]) -> None:
        pass  # they have what the test has

    async def leaving(self) -> set[str]:
        return set()

    async def places(self) -> int:
        return 0

    async def spare_places(self) -> int:
        return 0

    async def list(self) -> dict[str, str]:
        return {
            worker: tenant for worker, (tenant, process) in self.running.items() if process.returncode is None
        }

    async def end(self, tenant: str, worker_id: str, process: str = "") -> None:
        """SIGKILL: nothing of it runs on."""
        running = self.running[worker_id][1]
        if running.returncode is None:
            running.kill()
        await running.wait()

    async def close(self) -> None:
        for worker, (tenant, _) in list(self.running.items()):
            await self.end(tenant, worker)
        await asyncio.gather(*self._readers)


class Fleet:
    """Handles on the parts."""

    def __init__(self, base: Base, workers: Workers, tenant: str) -> None:
        self.base, self.workers, self.tenant = base, workers, tenant
        self.stores = base.of(tenant)
        self.judge: Judge
        self.archivist: Archivist
        self.retention: Retention

    async def submit(self, mission: MissionSpec, mission_id: str = "m1") -> str:
        return await drive.submit(self.base, self.tenant, mission, mission_id)

    async def rest(self, mission_id: str = "m1", timeout_s: float = 20) -> MissionRecord:
        """Wait until the mission is over or waits for a human."""
        return await self.until(lambda mission: mission.status in RESTING, mission_id, timeout_s)

    async def until(
        self, holds: Callable[[MissionRecord], bool], mission_id: str = "m1", timeout_s: float = 20
    ) -> MissionRecord:
        """Wait until it holds of the mission: told by the recorder, not by a clock."""
        recorder = Recorder(self.base.blocking, self.tenant, self.stores.archive)
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    seen = await self.stores.recorder.last()
                    mission = await self.stores.missions.get(mission_id)
                    if holds(mission):
                        return mission
                    await recorder.wait(after=seen, timeout_s=1)
                except StoreError:
                    await asyncio.sleep(0.05)  # the test took the store away


@asynccontextmanager
async def governing(base: Base, tenant: str, replica: str = "governor") -> AsyncIterator[Governor]:
    """A governor that leads, until the block ends; another may take over then, under a term of its own."""
    async with logged_in(base.settings, "governor") as own, Wakeups(own.blocking, keys.MONEY) as wakeups:
        elector = Elector(own.election(f"governor of {tenant}"), replica)
        governor = Governor(own, elector, wakeups)
        elector.start()
        governor.start()
        try:
            await elector.led()
            yield governor
        finally:
            await governor.stop()
            await elector.stop()


@asynccontextmanager
async def running(
    base: Base,
    tenant: str,
    agents: Registry,
    backend: Workers | Processes | None = None,
    *,
    governed: bool = True,
) -> AsyncIterator[Fleet]:
    """The fleet of one tenant, until the block ends. Each of its parts logs in as its own role.

    Args:
        base: the operator's.
        backend: where workers run; tasks of this loop unless given.
        governed: with a governor; else the test brings its own.
    """
    async with AsyncExitStack() as stack:
        hub = await stack.enter_async_context(logged_in(base.settings, "orchestrator"))
        judges = await stack.enter_async_context(logged_in(base.settings, "judge"))
        elector = Elector(hub.election(f"orchestrator of {tenant}"), "replica")
        wake = await stack.enter_async_context(Wakeups(hub.blocking, keys.MISSIONS))
        for_judge = await stack.enter_async_context(Wakeups(judges.blocking, keys.REVIEWS))
        for_fleet = await stack.enter_async_context(Wakeups(hub.blocking, keys.LOAD))
        for_courier = await stack.enter_async_context(Wakeups(hub.blocking, keys.ERRANDS))
        for_users = await stack.enter_async_context(Wakeups(base.blocking, keys.USERS))
        workers = Workers(base.settings, agents)
        fleet = Fleet(base, workers, tenant)
        if governed:
            await stack.enter_async_context(governing(base, tenant))
        fleet.archivist = Archivist(hub, elector)
        fleet.retention = Retention(hub, elector)
        fleet.judge = Judge(judges, "judge", for_judge, load_boundaries(None))
        services = (
            *([UserKeeper(base, for_users)] if keeps_users(base.settings) else []),
            elector,
            Orchestrator(hub, elector, wake),
            Rescuer(hub, "replica"),
            fleet.judge,
            Courier(hub, "courier", for_courier),
            FleetController(hub, elector, backend or workers, for_fleet),
            fleet.archivist,
            fleet.retention,
            Shelver(hub, elector),
        )
        for service in services:
            service.start()
            stack.push_async_callback(service.stop)
        stack.push_async_callback((backend or workers).close)
        yield fleet
