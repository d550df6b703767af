"""A fleet of real processes over a real Redis, to be killed, stopped and woken; the test reads the store."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from chimera.core.event import Event
from chimera.core.mission import MISSION_FINAL, MissionSpec
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.controller import FleetController
from chimera.runtime.elector import Elector
from chimera.runtime.users import UserKeeper
from chimera.serving.local.child import last_lines
from chimera.serving.local.process import ProcessId
from chimera.settings import PREFIX, Settings, is_secret
from chimera.store import keys
from chimera.store.missionrecord import MissionRecord
from chimera.store.signals import Wakeups
from chimera.store.spares import SpareStore
from chimera.store.users import without_login
from chimera.telemetry.logs import parse
from chimera.telemetry.record import LogRecord
from tests.runtime.nursery import Nursery
from tests.store import drive

AGENTS = Path(__file__).with_name("agents.py")
TENANT = "acme"
PATIENCE_S = 40.0
"""How long a test waits for what must come: a busy machine is no failure."""


async def until(
    holds: Callable[[], Awaitable[object]], what: str | Callable[[], str], timeout_s: float = PATIENCE_S
) -> None:
    """Ask until it holds; `what` is awaited, in words."""
    deadline = time.monotonic() + timeout_s
    while not await holds():
        if time.monotonic() > deadline:
            raise AssertionError(
                f"after {timeout_s:g} s still not: {what if isinstance(what, str) else what()}"
            )
        await asyncio.sleep(0.02)  # another process' doing


class Part:
    """One process of the fleet."""

    def __init__(self, name: str, process: ProcessId, log: Path) -> None:
        self.name, self.process, self._log = name, process, log

    def kill(self) -> float:
        """SIGKILL, as a crash. Returns when."""
        self.process.send(signal.SIGKILL)
        at = time.time()
        assert self.process.wait(PATIENCE_S)
        return at

    def stop(self) -> None:
        """SIGSTOP: it stands still, and its connections stay open."""
        self.process.send(signal.SIGSTOP)

    def wake(self) -> None:
        """SIGCONT."""
        self.process.send(signal.SIGCONT)

    async def ended(self, timeout_s: float = PATIENCE_S) -> None:
        """Wait until it has ended by itself."""
        assert await asyncio.to_thread(self.process.wait, timeout_s), f"{self.name} lives on"

    def said(self, event: str) -> list[LogRecord]:
        """Its log lines of one event."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return parse(line for line in lines if f'"event":"{event}"' in line)

    async def says(self, event: str, timeout_s: float = PATIENCE_S) -> LogRecord:
        """The first line of that event, once it is there."""

        async def there() -> bool:
            alive = self.process.is_alive()
            if not self.said(event):
                assert alive, last_lines(self._log)
                return False
            return True

        await until(there, lambda: f"{self.name} says {event}; {last_lines(self._log)}", timeout_s)
        return self.said(event)[0]


class World:
    """The processes of one test, each logged in as its role, and the operator's view of the store.

    Attributes:
        users: keeps their users.
    """

    def __init__(
        self, settings: Settings, base: Base, directory: Path, nursery: Nursery, users: UserKeeper
    ) -> None:
        self.settings, self.base, self.directory, self.users = settings, base, directory, users
        self._nursery = nursery
        self.stores: TenantStores = base.of(TENANT)
        self.parts: dict[str, Part] = {}

    def begin(self, kind: str, name: str = "", *, tenant: str = TENANT, **changes: Any) -> Part:
        """Start a process; `changes` are settings of its own. A worker without a tenant is a spare."""
        name = name or kind
        log = self.directory / f"{name}.log"
        chosen = self.settings.model_copy(update=changes)
        assert chosen.redis_url is not None
        address = SecretStr(without_login(chosen.redis_url.get_secret_value()))
        environment = environment_of(chosen.model_copy(update={"redis_url": address}))
        process = self._nursery.start([kind, "--name", name, "--tenant", tenant], environment, log)
        part = self.parts[name] = Part(name, process, log)
        return part

    async def up(self, kind: str, name: str = "", **changes: Any) -> Part:
        """The same; returns once it is there."""
        part = self.begin(kind, name, **changes)
        await part.says(READY.get(kind, "part.ready"))
        return part

    @asynccontextmanager
    async def controlled(self, **changes: Any) -> AsyncIterator[Workers]:
        """Workers are started as there is work, and replaced as they die, by the fleet's own controller."""
        workers = Workers(self, changes)
        base = replace(self.base, settings=self.settings.model_copy(update=changes))
        elector = Elector(self.base.election("the test's controller"), "test")
        async with Wakeups(self.base.blocking, keys.LOAD) as wakeups:
            services = (elector, FleetController(base, elector, workers, wakeups))
            for service in services:
                service.start()
            try:
                yield workers
            finally:
                for service in reversed(services):
                    await service.stop()

    def close(self) -> None:
        """End what is left, stopped or not."""
        for part in self.parts.values():
            part.kill()

    def gate(self, name: str = "gate") -> Path:
        """A gate; `touch` it to open it."""
        return self.directory / name

    async def submit(self, mission: MissionSpec, mission_id: str = "m1", tenant: str = TENANT) -> str:
        """A mission of the world's tenant, or of another."""
        return await drive.submit(self.base, tenant, mission, mission_id)

    async def mission(
        self,
        holds: Callable[[MissionRecord], bool],
        what: str,
        mission_id: str = "m1",
        timeout_s: float = PATIENCE_S,
    ) -> MissionRecord:
        """The mission, once it holds of it."""
        found: MissionRecord | None = None

        async def look() -> bool:
            nonlocal found
            found = await self.stores.missions.get(mission_id)
            return holds(found)

        await until(look, f"{mission_id}: {what}", timeout_s)
        assert found is not None
        return found

    async def final(self, mission_id: str = "m1", timeout_s: float = PATIENCE_S) -> MissionRecord:
        """The mission, once it is over and swept."""
        await self.mission(lambda one: one.status in MISSION_FINAL, "is final", mission_id, timeout_s)

        async def swept() -> bool:
            return not await self.base.redis.sismember(self.stores.missions.keys.sweep, mission_id)

        await until(swept, "swept")
        return await self.stores.missions.get(mission_id)

    async def held_by(self, worker: str) -> list[str]:
        """Tasks under its lease."""
        ids = await self.base.redis.zrange(self.stores.tasks.keys.leases, 0, -1)
        return [task.task_id for task in await self.stores.tasks.get_many(ids) if task.worker == worker]

    async def events(self, *kinds: str) -> list[Event]:
        """The recorder's entries, of some kinds."""
        found = [event async for _, event in self.stores.recorder.read()]
        assert [event.seq for event in found] == list(range(1, len(found) + 1)), "the recorder has a gap"
        return [event for event in found if not kinds or event.kind in kinds]

    async def committed_once(self, tasks: int) -> None:
        """So many tasks are accepted, each exactly once."""
        accepted = [event.task_id for event in await self.events("task.accepted")]
        assert len(accepted) == len(set(accepted)) == tasks


class Workers:
    """Where the controller's workers live (see `chimera.runtime.backend.Backend`)."""

    def __init__(self, world: World, changes: dict[str, Any]) -> None:
        self._world, self._changes = world, changes
        self.started: list[Part] = []
        self._tenants: dict[str, str] = {}
        self.evacuated: set[str] = set()
        self.most = 0
        """Workers that lived at once, spares aside."""
        self.closed = False
        """There is no place for a worker that is not a spare: it is asked for, and does not come."""
        self.refused: Counter[str] = Counter()

    async def start(self, tenant: str, worker_id: str) -> None:
        """Begin one."""
        if self.closed and tenant:
            self.refused[tenant] += 1
            return
        self._tenants[worker_id] = tenant
        self.started.append(self._world.begin("worker", worker_id, tenant=tenant, **self._changes))
        self.most = max(self.most, sum(map(bool, (await self.list()).values())))

    async def ready_spares(self, count: int) -> list[Part]:
        """So many spares that wait for a tenant."""
        store, found = SpareStore(self._world.base.redis), list[Part]()

        async def there() -> bool:
            waiting = [name for name, tenant in (await store.all()).items() if not tenant]
            found[:] = [self._world.parts[name] for name in waiting]
            return len(found) == count

        await until(there, f"{count} spares wait")
        return found

    async def list(self) -> dict[str, str]:
        """Those that live."""
        return {part.name: self._tenants[part.name] for part in self.started if part.process.is_alive()}

    async def equip(self, workers: Mapping[str, str]) -> None:
        """Their processes have the whole environment."""

    async def leaving(self) -> set[str]:
        """Those that a test says are on a node that goes."""
        return self.evacuated

    async def places(self) -> int:
        """As many as anybody wants."""
        return 100

    async def spare_places(self) -> int:
        """As many as anybody wants."""
        return 100

    async def end(self, tenant: str, worker_id: str, process: str) -> None:
        """Kill one."""
        self._world.parts[worker_id].kill()


READY = {"worker": "worker.ready", "governor": "leader.elected"}


def environment_of(settings: Settings) -> dict[str, str]:
    """What makes `load` of another process give these settings."""
    named = {name: getattr(settings, name) for name in settings.model_fields_set}
    secret = {name for name, field in Settings.model_fields.items() if is_secret(field)}
    values = {
        name: value.get_secret_value() if name in secret else value
        for name, value in named.items()
        if value is not None
    }
    own = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return own | {f"{PREFIX}{name.upper()}": str(value) for name, value in values.items()}


def through(url: SecretStr | None, port: int) -> SecretStr:
    """A Redis URL with another port: that of a relay.

    With patience: whoever is stopped for seconds amid a call must not wake to find that its driver gave up.
    """
    assert url is not None
    head, _, rest = url.get_secret_value().rpartition(":")
    return SecretStr(f"{head}:{port}/{rest.partition('/')[2]}?socket_timeout=60")
