"""Workers an hour ahead and an hour behind: nothing that is decided rests on a worker's clock."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from chimera.agents.registry import Registry
from chimera.core.mission import MissionStatus
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import Settings, load
from tests.agents.endpoint import MeteredEndpoint
from tests.runtime.fleet import Workers, running
from tests.store import drive

pytestmark = pytest.mark.chaos

HOURS = itertools.cycle((1, -1))
TIMEOUT_S = 60


class Skewed(Workers):
    """A backend whose workers are processes, every other one an hour ahead, the rest an hour behind."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        super().__init__(settings, Registry())
        self.environment = environment
        self.processes: dict[str, asyncio.subprocess.Process] = {}
        self.hours: dict[str, int] = {}

    async def _run(self, tenant: str, worker_id: str) -> str:
        self.hours[worker_id] = next(HOURS)
        words = [str(self.hours[worker_id]), tenant, worker_id]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.runtime.skewed_worker", *words, env=self.environment
        )
        self.processes[worker_id] = process
        try:
            return str(await process.wait())
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def endpoint() -> AsyncIterator[MeteredEndpoint]:
    async with MeteredEndpoint() as metered:
        yield metered


@pytest.fixture
def settings(redis_server: RedisServer, tmp_path: Path, endpoint: MeteredEndpoint) -> Settings:
    return load(
        redis_url=redis_server.url,
        state_dir=tmp_path,
        lease_s=2,
        heartbeat_s=0.4,
        slots=4,
        express_slots=0,
        max_workers=2,
        idle_s=60,
        model="m",
        model_url=endpoint.url,
        model_api_key="a-key",
    )


@pytest.fixture
async def workers(settings: Settings, base: Base) -> Skewed:
    assert settings.redis_url is not None
    own = {
        f"CHIMERA_{name.upper()}": str(getattr(settings, name))
        for name in settings.model_fields_set - {"redis_url", "model_api_key"}
    }
    secrets = {"CHIMERA_REDIS_URL": settings.redis_url.get_secret_value(), "CHIMERA_MODEL_API_KEY": "a-key"}
    root = str(Path(__file__).parents[2])
    return Skewed(settings, {**os.environ, **own, **secrets, "PYTHONPATH": root})


@pytest.fixture
async def base(settings: Settings, tenant: str) -> AsyncIterator[Base]:
    opened = await open_base(settings)
    await opened.tenants.add(tenant)
    yield opened
    await opened.tenants.remove(tenant)
    await opened.close()


def mission(*inputs: str, **fields: Any) -> Any:
    return drive.spec(
        agent="tells_time", inputs=list(inputs), budget_usd="5", **{"task_timeout_s": TIMEOUT_S, **fields}
    )


async def test_leases_time_limits_money_and_rescue_work_with_workers_an_hour_off(
    base: Base, tenant: str, workers: Skewed
) -> None:
    async with running(base, tenant, Registry(), workers) as fleet:
        await fleet.submit(mission("a", "b", "c", "errs", "d", "e", "f", "g", deadline_s=120))
        done = await fleet.rest(timeout_s=60)
        assert (done.status, done.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 8)
        assert done.tallies == {"errors": 1}, "no lease lapsed; the one that raised was tried again"
        said = list((await fleet.stores.tasks.results(await fleet.stores.missions.task_ids("m1"))).values())
        for one in said:
            off_h = (one["time"] - time.time()) / 3_600
            assert off_h == pytest.approx(workers.hours[one["worker"]], abs=0.05), "its clock is wrong indeed"
            assert 0 < one["left_s"] < TIMEOUT_S
            assert one["said"] == "ok"
        assert {workers.hours[one["worker"]] for one in said} == {1, -1}

        # Money lands in the window of the store's clock.
        balance = await fleet.stores.ledger.balance()
        hours = {name for name in balance.settled if name.startswith("hour:")}
        seconds, _ = await base.redis.time()
        now = {time.strftime("hour:%Y-%m-%dT%H", time.gmtime(seconds - ago)) for ago in (0, 60)}
        assert hours <= now
        assert balance.held == 0
        assert balance.settled["lifetime"] == done.settled_microusd > 0

        # An attempt's time is up when it is, whatever the calendar says.
        await fleet.submit(mission("never", "never", task_timeout_s=3, max_attempts=1), "m2")
        failed = await fleet.rest("m2", timeout_s=30)
        assert failed.tallies == {"timeouts": 2}
        events = [event async for _, event in fleet.stores.recorder.read(mission_id="m2")]
        claimed = {event.task_id: event.at for event in events if event.kind == "task.claimed"}
        for event in events:
            if event.kind == "task.timed_out":
                assert 2.5 < (event.at - claimed[event.task_id]).total_seconds() < 30

        # One of them is killed with work in its hands.
        await fleet.submit(mission("h", "i", "j", "k", "l", "m", "n", "o"), "m3")
        await fleet.until(lambda one: one.counts["PENDING"] >= 4, "m3")
        held = await fleet.stores.tasks.get_many(await fleet.stores.missions.task_ids("m3"))
        victim = next(task.worker for task in held if task.status == "PENDING")
        workers.processes[victim].send_signal(signal.SIGKILL)
        rescued = await fleet.rest("m3", timeout_s=60)
        assert (rescued.status, rescued.counts["ACCEPTED"]) == (MissionStatus.COMPLETED, 8)
        assert set(rescued.tallies) == {"crashes"}
        assert 1 <= rescued.tallies["crashes"] <= 4
