"""The fleet page: many tenants and agents at work, live, by keyboard, in light and dark, on any screen."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, expect

from bench import busy
from chimera.core.task import Priority
from chimera.core.views import Health
from tests.e2e.conftest import Open, Parts, Scheme, Site, fits, shot

WORDS = (
    "acme",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "heron",
    "inlet",
    "juniper",
    "kelp",
    "lark",
)


@pytest.fixture
async def tenants(site: Site) -> AsyncIterator[list[str]]:
    """A dozen tenants of the test's own, each with thirty agents under way and some more work."""
    names = [f"{site.tenant}-{word}" for word in WORDS]
    await busy.stage(site.base, names, agents=30)
    yield names
    for name in names:
        await site.base.tenants.remove(name)


async def column(page: Page, index: int) -> list[str]:
    """What the rows that are shown have there, less the prefix of the test's tenants."""
    rows = page.locator("#tenants tbody tr:visible")
    return [text.strip() for text in await rows.locator(f":nth-child({index})").all_inner_texts()]


async def test_what_changes_in_the_fleet_shows_by_itself(page: Page, site: Site, tenants: list[str]) -> None:
    await site.log_in(page, "fleet")
    row = page.locator(f"#row-{tenants[1]}")
    await expect(row.locator("td").first).to_have_text("30/32")
    await expect(row).to_contain_text("open")
    before = page.get_by_label("Scale events").locator("li").first
    await expect(before).not_to_contain_text("90 workers")
    await site.base.of(tenants[1]).tasks.scaled(
        90, why={"backlog": 1_440, "running": 30, "scarce": False}, term=busy.TERM, by="test"
    )
    await expect(before).to_contain_text(f"{tenants[1]} 2 → 90 workers")
    await expect(row.locator("td").nth(3)).to_have_text("88")
    await site.base.tenants.suspend(tenants[1], "s", by="o", reason="unpaid")
    await expect(row).to_contain_text("suspended")


async def test_the_table_is_sorted_and_filtered_by_keys_alone_and_stays_so_while_it_lives(
    page: Page, site: Site, tenants: list[str]
) -> None:
    await site.log_in(page, "fleet")
    await page.keyboard.press("/")
    await page.keyboard.type(f"{site.tenant}-")
    await expect(page.locator("[data-count]")).to_contain_text(f"{len(tenants)} of")
    low = page.get_by_role("button", name="Low")
    await low.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("columnheader", name="Low")).to_have_attribute("aria-sort", "descending")
    first = page.locator("#tenants tbody tr:visible").first
    await expect(first).to_have_id(f"row-{tenants[10]}")
    await busy.submit(site.base, tenants[0], Priority.LOW, 90)
    await expect(first).to_have_id(f"row-{tenants[0]}")
    await expect(low).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("columnheader", name="Low")).to_have_attribute("aria-sort", "ascending")
    await expect(first).not_to_have_id(f"row-{tenants[0]}")
    await page.reload()
    await expect(page.locator("[data-count]")).to_contain_text(f"{len(tenants)} of")
    await page.get_by_label("Filter tenants").focus()
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-count]")).not_to_contain_text("of")


async def test_a_tenants_key_sees_nothing_of_another(page: Page, site: Site, tenants: list[str]) -> None:
    await site.log_in(page, "fleet", who=site.tenant)
    await expect(page.locator("#panel-fleet")).to_be_visible()
    text = await page.content()
    assert not [name for name in tenants if name in text]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_page_is_fit_to_be_looked_at(
    opened: Open, site: Site, tenants: list[str], parts: Parts, scheme: Scheme
) -> None:
    parts["canary"] = Health(ok=True, detail="refused 3 s ago, as it must be")
    parts["judge"] = Health(ok=False, detail="nobody leads as judge: a replica takes it in seconds")
    await site.base.redis.zadd(site.base.of(tenants[4]).tasks.keys.workers, {f"{tenants[4]}-0": 1})
    for width in (1440, 390, 360):
        async with opened(scheme=scheme, width=width) as page:
            await site.log_in(page, "fleet")
            await expect(page.locator('[data-figure="lost"]')).to_have_text("1")
            assert await fits(page), f"nothing is wider than {width} pixels"
            await shot(page, f"fleet-{scheme}-{width}")
