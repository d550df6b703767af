"""The dashboard in a real browser: a gateway on a real socket over a real Redis, without Ray.

    async def test_…(page: Page, site: Site) -> None:
        await site.log_in(page, "fleet")
        await page.get_by_role("heading", name="Fleet").wait_for()
        await shot(page, "fleet")

`page` fails its test on whatever the browser complains of. Nothing sleeps: Playwright waits for what it
is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from fastapi import FastAPI
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from chimera.core.scope import ALL, FLEET
from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from chimera.serving.gateway.hub import Probe
from tests.keys import key_of
from tests.redis_fixtures import base, logged_in, redis_server, settings, tenant
from tests.serving.gateway.conftest import AGENTS, Fleet, serve, tcp_socket

__all__ = ["base", "redis_server", "settings", "tenant"]

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
Scheme = Literal["light", "dark"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is here drives a browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("e2e")


@dataclass(frozen=True)
class Site:
    """A dashboard.

    Attributes:
        url: of its gateway.
        keys: by whose they are: the test's tenant's, or `FLEET`'s.
    """

    url: str
    base: Base
    tenant: str
    keys: dict[str, str]

    @property
    def fleet(self) -> Fleet:
        """Planner, worker and judge of the tenant, called by hand."""
        return Fleet(self.base, self.tenant)

    async def log_in(self, page: Page, to: str = "", *, who: str = FLEET) -> None:
        """Log in by the form, as a person does, and land on ``/dashboard/<to>``."""
        await page.goto(f"{self.url}/dashboard/{to}")
        await page.get_by_label("API key").fill(self.keys[who])
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("button", name="Log out").wait_for()
        await page.wait_for_load_state()  # before that no script hears a key


class Parts(dict[str, Health]):
    """How the hub's parts are, for a test to say."""

    def probe(self, name: str) -> Probe:
        async def ask() -> Health:
            return self[name]

        return ask


@pytest.fixture
def parts() -> Parts:
    """All are well."""
    return Parts({name: Health(ok=True) for name in ("orchestrator", "judge", "governor", "canary")})


@pytest.fixture
async def hub(base: Base, parts: Parts) -> AsyncIterator[Hub]:
    """The gateway's, logged in to Redis as its role."""
    async with logged_in(base.settings, "gateway") as gateway:
        yield Hub(gateway, {name: parts.probe(name) for name in parts})


@pytest.fixture
def app(hub: Hub) -> FastAPI:
    return create_app(hub)


@pytest.fixture
async def site(app: FastAPI, base: Base, tenant: str) -> AsyncIterator[Site]:
    """A dashboard on a port of its own."""
    await base.catalogue.publish(AGENTS)
    keys = {owner: await key_of(base, owner, *ALL) for owner in (FLEET, tenant)}
    with tcp_socket() as listener:
        listener.bind(("127.0.0.1", 0))
        async with serve(app, listener) as url:
            yield Site(url, base, tenant, keys)


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A Chromium of the test's own."""
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield chromium
        finally:
            await chromium.close()


class Open(Protocol):
    """Opens a page as somebody with such a screen and taste would have it."""

    def __call__(
        self, *, scheme: Scheme = "light", width: int = 1280, height: int = 900
    ) -> AbstractAsyncContextManager[Page]: ...


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What browsers complained of, which fails the test. One that expects something takes it out."""
    found: list[str] = []
    yield found
    assert found == [], "the browser complained"


@pytest.fixture
def opened(browser: Browser, complaints: list[str]) -> Open:
    """Pages in contexts of their own: no cookie of another."""

    @asynccontextmanager
    async def opening(
        *, scheme: Scheme = "light", width: int = 1280, height: int = 900
    ) -> AsyncIterator[Page]:
        context = await browser.new_context(
            color_scheme=scheme, viewport={"width": width, "height": height}, reduced_motion="reduce"
        )
        try:
            page = await context.new_page()
            _listen(page, context, complaints)
            yield page
        finally:
            await context.close()

    return opening


@pytest.fixture
async def page(opened: Open, site: Site) -> AsyncIterator[Page]:
    """A page of a usual screen. It goes before the site does, which it asks every second."""
    async with opened() as found:
        yield found


def _listen(page: Page, context: BrowserContext, complaints: list[str]) -> None:
    page.on(
        "console",
        lambda said: (
            complaints.append(f"{said.type}: {said.text}") if said.type in {"error", "warning"} else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(f"page: {error}"))
    # Violations of the policy are errors of the console, too: Chromium says them there.
    context.on("weberror", lambda error: complaints.append(f"web: {error.error}"))


async def shot(page: Page, name: str, **options: Any) -> Path:
    """A picture of the whole page, kept in ``build/screenshots``: people look at these."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    await page.screenshot(path=path, full_page=True, **options)
    return path


async def fits(page: Page) -> bool:
    """Whether nothing of the page is wider than the screen."""
    return bool(
        await page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    )
