"""The drill: a fleet of its own, load, faults, quiet, and the history of it all.

fleet up → tenants → load + nemesis → quiet → history → fleet down
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess  # nosec B404 (our own command and endpoint)
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from chimera.chaos.calls import PRICES_USD
from chimera.chaos.faults import Fault, schedule
from chimera.chaos.history import History, MissionEnd, TenantEnd
from chimera.chaos.journal import Journal, read
from chimera.chaos.load import Lane
from chimera.chaos.nemesis import Nemesis
from chimera.client import Client
from chimera.errors import BackendError, StoreError
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.local.process import spawn
from chimera.serving.local.state import Fleet, StateDir
from chimera.settings import Settings, load
from chimera.store.connection import Redis, connect, translated
from chimera.store.ledger import Ledger
from chimera.store.missions import MissionStore
from chimera.store.recorder import Recorder
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore

UP_S, QUIET_S = 240.0, 240.0
"""A fleet is up, and everything at rest after the last fault, within these."""
LANES = 3
"""Clients of each tenant."""
HOLD_TTL_S, MODEL_TIMEOUT_S = 8, 4
PAGE = 500


@dataclass(frozen=True, slots=True)
class Plan:
    """What a drill does.

    Attributes:
        minutes: of load and faults; the fleet's start and the quiet at the end come on top.
        tasks: in each mission.
    """

    seed: int
    minutes: float
    faults: tuple[Fault, ...]
    tenants: int = 2
    tasks: int = 24


async def drill(plan: Plan, directory: Path, told: Callable[[str], None]) -> History:
    """Do it in a directory, which keeps journals, logs and the history.

    Raises:
        BackendError: the fleet does not come up, or is not at rest in time.
    """
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    with ExitStack() as stack:
        stack.enter_context(_endpoint(port, directory))
        told("the fleet is starting")
        fleet = stack.enter_context(_fleet(directory / "fleet", f"{url}/v1"))
        settings = load(redis_url=fleet.redis_url, state_dir=directory / "fleet")
        await _answers(url)
        async with AsyncExitStack() as opened:
            redis = connect(settings)
            opened.push_async_callback(redis.aclose)
            keys = await _tenants(redis, plan.tenants)
            acks = Journal(directory / "acknowledged.ndjson")
            lanes = []
            for number, (tenant, key) in enumerate(
                (tenant, key) for tenant, key in keys.items() for _ in range(LANES)
            ):
                client = await opened.enter_async_context(Client(fleet.url, key, timeout_s=10, retries=0))
                chance = random.Random(f"{plan.seed} {number}")  # nosec B311
                lanes.append(Lane(client, tenant, acks, chance, plan.tasks))
            await _harmed(plan, settings, directory, url, lanes, told)
            told("no more faults: waiting until everything is at rest")
            await _quiet(settings, tuple(keys))
            history = await _history(settings, tuple(keys), directory)
    history.keep(directory / "history.json")
    return history


async def _harmed(
    plan: Plan,
    settings: Settings,
    directory: Path,
    endpoint_url: str,
    lanes: list[Lane],
    told: Callable[[str], None],
) -> None:
    seconds = plan.minutes * 60
    nemesis = Nemesis(
        settings, StateDir(directory / "fleet"), endpoint_url, Journal(directory / "faults.ndjson"), told
    )
    until = time.monotonic() + seconds
    try:
        async with asyncio.timeout(seconds + QUIET_S), asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane.run(until))
            await nemesis.run(schedule(plan.seed, seconds, plan.faults))
    except TimeoutError:
        told("some missions are not final in time")


@contextmanager
def _endpoint(port: int, directory: Path) -> Iterator[None]:
    journal = directory / "calls.ndjson"
    arguments = ["-m", "chimera.chaos.endpoint", "--port", str(port), "--journal", str(journal)]
    process = spawn([sys.executable, *arguments], log=directory / "endpoint.log")
    try:
        yield
    finally:
        process.kill()
        process.wait()


@contextmanager
def _fleet(state: Path, model_url: str) -> Iterator[Fleet]:
    """A local fleet of the drill's own, through the command that people use."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")},
        "CHIMERA_STATE_DIR": str(state),
        "CHIMERA_HTTP_PORT": str(free_port()),
        "CHIMERA_AGENTS": "chimera.chaos.agents",
        "CHIMERA_MODEL": "metered",
        "CHIMERA_MODEL_URL": model_url,
        "CHIMERA_MODEL_TIMEOUT_S": str(MODEL_TIMEOUT_S),
        "CHIMERA_HOLD_TTL_S": str(HOLD_TTL_S),
        "CHIMERA_FSYNC": "always",
        "CHIMERA_MAX_WORKERS": "4",
        # Two workers for each tenant's load, each with slots to spare for what the other one drops.
        "CHIMERA_SLOTS": "48",
        **PRICES_USD,
    }

    def chimera(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # nosec B603
            [sys.executable, "-c", "from chimera.cli.main import main; main()", command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=UP_S,
            check=False,
        )

    try:
        done = chimera("up")
        fleet = StateDir(state).read()
        if done.returncode or fleet is None:
            raise BackendError(f"the drill's fleet did not start: {done.stderr.strip()}")
        yield fleet
    finally:
        chimera("down")


async def _answers(url: str) -> None:
    async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
        for _ in range(200):
            with contextlib.suppress(httpx.HTTPError):
                await client.get(f"{url}/docs")
                return
            await asyncio.sleep(0.1)  # another process' start
    raise BackendError("the metered endpoint does not answer: see endpoint.log")


async def _tenants(redis: Redis, count: int) -> dict[str, str]:
    store = TenantStore(redis)
    keys = {}
    for number in range(1, count + 1):
        name = f"drill-{number}"
        await store.add(name)
        keys[name] = await store.new_key(name)
    return keys


async def _quiet(settings: Settings, tenants: tuple[str, ...]) -> None:
    """Wait until nothing is active, held or owed, and say what is when that takes too long."""
    deadline = time.monotonic() + QUIET_S
    left = "nothing was asked"
    while time.monotonic() < deadline:
        redis = connect(settings)
        try:
            left = ""
            for tenant in tenants:
                missions, ledger = MissionStore(redis, tenant), Ledger(redis, tenant)
                with translated():
                    holds = await redis.zcard(ledger.keys.holds)
                    owed = await redis.llen(ledger.keys.requests)
                    sweeps = await redis.scard(missions.keys.sweep)
                if (active := await missions.active()) or holds or owed or sweeps:
                    left = (
                        f"{tenant}: {len(active)} missions, {holds} holds, {owed} requests, {sweeps} sweeps"
                    )
            if not left:
                return
        except StoreError as exc:
            left = str(exc)
        finally:
            await redis.aclose()
        await asyncio.sleep(0.5)
    # Not an error: the checker shows what is still open.
    sys.stderr.write(f"not at rest after {QUIET_S:g} s: {left}\n")


async def _history(settings: Settings, tenants: tuple[str, ...], directory: Path) -> History:
    redis = connect(settings)
    try:
        return History(
            tenants={tenant: await _end_of(redis, tenant) for tenant in tenants},
            acknowledged=tuple(read(directory / "acknowledged.ndjson")),
            calls=tuple(read(directory / "calls.ndjson")),
            faults=tuple(
                {**fault, "at": fault.get("began", fault["at"])}
                for fault in read(directory / "faults.ndjson")
            ),
        )
    finally:
        await redis.aclose()


async def _end_of(redis: Redis, tenant: str) -> TenantEnd:
    missions, tasks, ledger = MissionStore(redis, tenant), TaskStore(redis, tenant), Ledger(redis, tenant)
    records = await missions.get_many(await missions.list_ids(most=100_000))
    results: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    for record in records:
        async for ids in _pages(missions, record.mission_id):
            for task in await tasks.get_many(ids):
                if task.status == "ACCEPTED" and task.has_result:
                    results[task.task_id] += 1
                verdicts[task.task_id] += sum(one.decision == "accept" for one in task.verdicts)
    with translated():
        open_holds = int(await redis.zcard(ledger.keys.holds))
    return TenantEnd(
        events=tuple([event async for _, event in Recorder(redis, tenant).read()]),
        missions=tuple(
            MissionEnd(
                mission_id=one.mission_id,
                status=one.status,
                total_tasks=one.total_tasks,
                counts={str(status): n for status, n in one.counts.items() if n},
                budget_microusd=one.budget_microusd,
                settled_microusd=one.settled_microusd,
                held_microusd=one.held_microusd,
            )
            for one in records
        ),
        results=dict(results),
        verdicts=dict(verdicts),
        held_microusd=(await ledger.balance()).held,
        open_holds=open_holds,
    )


async def _pages(missions: MissionStore, mission_id: str) -> AsyncIterator[list[str]]:
    at = 0
    while ids := await missions.task_ids(mission_id, offset=at, most=PAGE):
        yield ids
        at += len(ids)
