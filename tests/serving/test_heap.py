"""What a process's start leaves is not looked through for garbage while it serves."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys

import pytest

from chimera.settings import Settings
from tests.redis_fixtures import redis_server, settings, tenant

__all__ = ["redis_server", "settings", "tenant"]

STARTS = {
    "gateway": """
from chimera.serving.replicas.gateway import Gateway
async def start():
    await Gateway.__new__(Gateway).__init__()
""",
    "judge": """
from chimera.serving.replicas.judge import Judge
async def start():
    await Judge.__new__(Judge).__init__()
""",
    "worker": """
from types import SimpleNamespace
from chimera.runtime.worker import Worker
from chimera.serving.cell import Cell
from chimera.settings import load
async def start():
    running = asyncio.Event()
    async def run(self):
        running.set()
        await asyncio.Event().wait()
    async def show(worker):
        await asyncio.Event().wait()
    Worker.run = run
    global work
    cell = SimpleNamespace(tenant="acme", worker_id="w1", node="", worker=None, settings=load(), secrets=None)
    cell._show = show
    work = asyncio.create_task(Cell._work(cell))
    await running.wait()
""",
    "governor": """
from chimera.serving.actors import GovernorActor
from chimera.runtime.governor import Governor
from chimera.settings import load
async def start():
    started, before = asyncio.Event(), Governor.start
    def start(self):
        before(self)
        asyncio.get_running_loop().call_soon(started.set)
    Governor.start = start
    global work
    work = asyncio.create_task(GovernorActor._main(GovernorActor.__new__(GovernorActor), load()))
    await started.wait()
""",
}

SCRIPT = """
import asyncio, gc, json, os, sys, weakref
{start}
class Thing: pass
async def main():
    await start()
    left = len(gc.get_objects())
    one = Thing()
    one.itself = one
    seen = weakref.ref(one)
    del one
    gc.collect()
    told = {{"frozen": gc.get_freeze_count(), "left": left, "collected": seen() is None}}
    os.write(1, json.dumps(told).encode() + b"\\n")  # what is printed becomes a log line
    os._exit(0)
asyncio.run(main())
"""


@pytest.mark.parametrize("kind", STARTS)
async def test_the_collector_passes_over_what_a_start_has_left(kind: str, settings: Settings) -> None:
    redis_url = settings.redis_url
    assert redis_url is not None
    environment = {
        **os.environ,
        "CHIMERA_REDIS_URL": redis_url.get_secret_value(),
        "CHIMERA_STATE_DIR": str(settings.state_dir),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", SCRIPT.format(start=STARTS[kind])],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["collected"], "what comes after it is"
    assert told["frozen"] > 50_000
    assert told["left"] < told["frozen"] / 10
