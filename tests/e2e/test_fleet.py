"""The fleet page with a hundred tenants and ten thousand agents at work, as people see it."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from bench import busy
from chimera.core.task import Priority
from tests.e2e.conftest import Open, Parts, Scheme, Site, fits, shot


@pytest.mark.timeout(300)
async def test_try(opened: Open, site: Site) -> None:
    names = [f"{site.tenant}-{word}" for word in (f"n{n:02}" for n in range(30))]
    await busy.stage(site.base, names, agents=100)
    for scheme in ("light", "dark"):
        for width in (1440, 390):
            async with opened(scheme=scheme, width=width) as page:
                await site.log_in(page, "fleet")
                await page.locator("#tenants tbody tr").nth(5).wait_for()
                await shot(page, f"fleet-{scheme}-{width}")
                print(await fits(page))
    for name in names:
        await site.base.tenants.remove(name)
