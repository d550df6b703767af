"""The throughput page: a curve that is drawn, the same figures in tables, a window to choose."""

from __future__ import annotations

import math

import pytest
from playwright.async_api import expect

from chimera.core.gauges import Gauges
from chimera.core.histogram import BOUNDS_MS
from chimera.core.series import Sample
from chimera.core.tally import TIMES, Tally
from chimera.runtime.base import Base
from chimera.store.series import add, now_ms
from tests.e2e.conftest import Open, Scheme, Site, fits, shot


@pytest.fixture
async def worked(base: Base, tenant: str) -> None:
    """An hour of work, sampled every five seconds."""
    now, totals, samples = await now_ms(base.redis), dict.fromkeys(("task.claimed",), 0), []
    for place in range(720):
        wave = 1.5 + math.sin(place / 40) + 0.3 * math.sin(place / 3)
        more = {
            "mission.submitted": place % 60 == 0,
            "task.claimed": round(9 * wave),
            "task.submitted": round(8 * wave),
            "task.accepted": round(6 * wave),
            "task.rejected": round(1.5 * wave),
            "task.escalated": place % 9 == 0,
            "task.approved": place % 18 == 0,
            "task.rescued": place % 200 == 0,
            "refused:window": place % 50 == 0,
        }
        for number, name in enumerate(TIMES):
            bucket = 2 + (place + number) % (len(BOUNDS_MS) - 4)
            more |= {f"{name}:{bucket}": 5, f"{name}:ms": 5 * BOUNDS_MS[bucket - 1]}
        totals = {name: totals.get(name, 0) + int(step) for name, step in more.items()} | {
            name: total for name, total in totals.items() if name not in more
        }
        samples.append(Sample(now - (720 - place) * 5_000, Tally(dict(totals)), Gauges()))
    await add(base.redis, {tenant: samples}, term=1)


@pytest.mark.usefixtures("worked")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
async def test_the_curve_is_drawn_and_its_figures_stand_in_a_table(
    opened: Open, site: Site, scheme: Scheme, width: int
) -> None:
    async with opened(scheme=scheme, width=width) as page:
        await site.log_in(page, "throughput", who=site.tenant)
        await expect(page.locator(".chart canvas")).to_be_visible()
        await expect(page.get_by_role("img", name="Results handed in, accepted")).to_be_visible()
        figures = page.locator("#panel-throughput")
        await expect(figures.get_by_role("row", name="Model call")).to_contain_text("ms")
        await expect(page.locator("#panel-rates tbody tr")).to_have_count(60)
        await shot(page, f"throughput-{scheme}-{width}")
        assert await fits(page)
        await page.get_by_role("link", name="1 h", exact=True).click()
        await expect(page.get_by_role("link", name="1 h", exact=True)).to_have_attribute(
            "aria-current", "true"
        )
        claimed = figures.locator(".figure", has_text="Attempts begun")
        await expect(claimed).to_contain_text("9,")  # some 9,800 in the hour


async def test_without_samples_it_says_so(opened: Open, site: Site) -> None:
    async with opened() as page:
        await site.log_in(page, "throughput", who=site.tenant)
        await expect(page.locator("#panel-throughput")).to_contain_text("Nothing was sampled yet")
