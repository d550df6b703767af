"""What the fleet page costs with a hundred tenants and 10,000 agents busy: `python -m bench.dashboard`.

A Redis, a gateway and a Chromium of its own; nothing else runs. Prints one line a figure.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import uvicorn
from playwright.async_api import Page, async_playwright

from bench import busy
from chimera.core.scope import ALL, FLEET
from chimera.core.views import Health
from chimera.dashboard.fleet import fleet_panel, leases_panel, scaling_panel
from chimera.dashboard.promise import promise_panel
from chimera.runtime.base import Base, open_base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store.apikeys import new_key

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
TRIALS = 15
PAINTED = """() => new Promise((done) => new PerformanceObserver((list) => {
  const paint = list.getEntriesByName("first-contentful-paint")[0];
  if (paint) done(paint.startTime);
}).observe({type: "paint", buffered: true}))"""


def say(name: str, value: float, unit: str) -> None:
    """One figure."""
    sys.stdout.write(f"{name:<58} {value:>10,.1f} {unit}\n")


async def medians_ms(work: Callable[[], Awaitable[object]]) -> tuple[float, float]:
    """The medians of some trials: the time they took, and that of this process alone, whoever else runs."""
    taken, own = [], []
    for _ in range(TRIALS):
        began, used = time.perf_counter(), time.process_time()
        await work()
        taken.append((time.perf_counter() - began) * 1000)
        own.append((time.process_time() - used) * 1000)
    return statistics.median(taken), statistics.median(own)


async def well() -> Health:
    """A part that is."""
    return Health(ok=True)


async def measure(tenants: int, agents: int) -> None:
    """Stage, measure, tell."""
    with (
        tempfile.TemporaryDirectory() as directory,
        RedisServer(Path(directory) / "redis", fsync="no") as server,
    ):
        base = await open_base(load(redis_url=server.url, state_dir=Path(directory)))
        try:
            names = [f"tenant-{number:03}" for number in range(tenants)]
            await busy.stage(base, names, agents=agents // tenants)
            say("agents busy", agents, "")
            say("load of the machine, 1 minute", os.getloadavg()[0], "")
            await queries(base, names)
            await pages(base, names[0])
        finally:
            await base.close()


async def queries(base: Base, names: list[str]) -> None:
    """What each panel takes to be computed, once for all who watch."""
    for title, panel in (
        ("workers and queues", fleet_panel),
        ("leases by age", leases_panel),
        ("scale events", scaling_panel),
        ("high priority", promise_panel),
    ):
        taken, own = await medians_ms(partial(panel, base, names))
        say(f"panel `{title}`, computed, median", taken, "ms")
        say("  of it time of this process", own, "ms")


async def pages(base: Base, tenant: str) -> None:
    """What a browser gets, and when people see it."""
    key = new_key()
    await base.api_keys.let_in(FLEET, key, ALL)
    app = create_app(Hub(base, dict.fromkeys(("orchestrator", "judge", "governor", "canary"), well)))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none", lifespan="off"))
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with async_playwright() as playwright:
                browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
                page = await (await browser.new_context(viewport={"width": 1440, "height": 900})).new_page()
                await page.goto(f"{url}/dashboard/fleet")
                await page.get_by_label("API key").fill(key)
                await page.get_by_role("button", name="Log in").click()
                await page.locator("#tenants").wait_for()
                await sizes(page, url)
                await paints(page, url)
                await updates(page, base, tenant)
                await browser.close()
        finally:
            server.should_exit = True
            await serving


async def sizes(page: Page, url: str) -> None:
    """Bytes of the largest part, as it goes over the wire each time that it changed."""
    answer = await page.request.get(f"{url}/dashboard/panels/fleet")
    body = await answer.body()
    say("fragment `workers and queues`", len(body) / 1024, "KiB")
    say("the same, gzipped", len(gzip.compress(body, 1)) / 1024, "KiB")


async def paints(page: Page, url: str) -> None:
    """First contentful paint of the whole page."""
    taken = []
    for _ in range(TRIALS):
        await page.goto(f"{url}/dashboard/fleet")
        taken.append(float(await page.evaluate(PAINTED)))
    say("first paint, median", statistics.median(taken), "ms")
    say("first paint, most", max(taken), "ms")


async def updates(page: Page, base: Base, tenant: str) -> None:
    """From a change in Redis to the page that shows it."""
    taken = []
    for trial in range(TRIALS):
        began = time.perf_counter()
        workers = 1_000 + trial
        why = {"backlog": 0, "running": 0, "scarce": False}
        await base.of(tenant).tasks.scaled(workers, why=why, term=busy.TERM, by="bench")
        await page.wait_for_function(
            "said => document.querySelector('#panel-scaling li').textContent.includes(said)",
            arg=f"{workers:,} workers",
        )
        taken.append(time.perf_counter() - began)
    say("from a change in Redis to the page, median", statistics.median(taken) * 1000, "ms")
    say("from a change in Redis to the page, most", max(taken) * 1000, "ms")


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(prog="python -m bench.dashboard", description=__doc__)
    parser.add_argument("--tenants", type=int, default=100)
    parser.add_argument("--agents", type=int, default=10_000)
    told = parser.parse_args()
    asyncio.run(measure(told.tenants, told.agents))


if __name__ == "__main__":
    main()
