"""What a mission of ten thousand tasks costs the dashboard: time and bytes of panels, first paint, memory.

    .venv/bin/python -m tests.dashboard.measure [TASKS]

It drives a real mission through a real Redis, serves it by a real gateway, and looks with a real Chromium.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
from playwright.async_api import async_playwright

from chimera.core.scope import Scope
from chimera.runtime.base import open_base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests.dashboard import crowd
from tests.e2e.conftest import CHROMIUM, FLAGS
from tests.keys import key_of
from tests.serving.gateway.conftest import AGENTS, serve, tcp_socket
from tests.store import drive

TIMES = 20
PANELS = (
    "missions?",
    "mission?mission=m1",
    "mission-scene?mission=m1",
    "mission-scene?mission=m1&at={at}",
    "mission-course?mission=m1",
    "mission-steps?mission=m1",
    "mission-tasks?mission=m1&page={page}",
    "mission-tasks?mission=m1&status=FAILED",
    "mission-results?mission=m1",
)


async def measure(tasks: int, folder: Path) -> None:
    """Print the table."""
    with RedisServer(folder / "redis", fsync="no", maxmemory_bytes=1 << 30) as server:
        base = await open_base(load(redis_url=server.url, state_dir=folder))
        await base.tenants.add("t")
        await base.catalogue.publish(AGENTS)
        key = await key_of(base, "t", Scope.READ, Scope.SUBMIT)
        spec = drive.spec(inputs=list(range(tasks)), plan={"strategy": "map_reduce"}, max_attempts=2)
        stores = await crowd.make(base, "t", spec)
        await crowd.run(stores, error_every=40, reject_every=50)
        hub = Hub(base)
        before = _rss()
        with tcp_socket() as listener:
            listener.bind(("127.0.0.1", 0))
            async with serve(create_app(hub), listener) as url:
                film = await _film(hub)
                say(f"{film} and {_rss() - before:.0f} MiB more resident")
                await _panels(url, key, len(hub.films._reels["t", "m1"].film))
                await _look(url, key)
        await hub.films.close()
        await base.close()


async def _film(hub: Hub) -> str:
    base = hub.base
    record = await base.of("t").readings.mission("m1")
    began, busy, whole = time.perf_counter(), time.process_time(), False
    while not whole:
        film, whole = await hub.films.film(base, "t", record)
    took, busy = time.perf_counter() - began, time.process_time() - busy
    size = f"{film.weight / 2**20:.0f} MiB"
    return f"{len(film):,} events read in {took:.2f} s, {busy:.2f} s of CPU; the film tells {size}"


async def _panels(url: str, key: str, events: int) -> None:
    say("| panel | median ms | slowest ms | CPU ms | KiB |\n|---|---|---|---|---|")
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}) as client:
        for path in PANELS:
            took, spent, size = [], [], 0
            for turn in range(TIMES):
                asked = path.format(at=turn * events // TIMES, page=turn)
                await asyncio.sleep(0 if "{" in path else 1.0)  # a panel is computed once a second
                began, busy = time.perf_counter(), time.process_time()
                answer = await client.get(f"/v1/panels/{asked}", timeout=30)
                took.append(1000 * (time.perf_counter() - began))
                spent.append(1000 * (time.process_time() - busy))
                assert answer.status_code == 200, answer.text
                size = max(size, len(answer.content))
            told = (f"{statistics.median(took):.0f}", f"{max(took):.0f}", f"{statistics.median(spent):.0f}")
            say(f"| `{path}` | {' | '.join(told)} | {size / 1024:.0f} |")


async def _look(url: str, key: str) -> None:
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = await chromium.new_page()
        await page.goto(f"{url}/dashboard/missions")
        await page.get_by_label("API key").fill(key)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("button", name="Log out").wait_for()
        for _ in range(3):
            answer = await page.goto(f"{url}/dashboard/missions/m1")
            assert answer is not None
            body = len(await answer.body())
            await page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
            paint = await page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            elements = await page.evaluate("document.querySelectorAll('*').length")
            say(f"first contentful paint {paint:.0f} ms, page {body / 1024:.0f} KiB, {elements:,} elements")
        await chromium.close()


def say(line: str) -> None:
    """A line of the answer."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _rss() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as where:
        asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000, Path(where)))
