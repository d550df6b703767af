"""Charts draw what a panel's JSON has, under the policy, in both themes."""

from __future__ import annotations

import json

from playwright.async_api import Page, Route, expect

from chimera.dashboard.rendering import environment
from chimera.serving.gateway.dashboard.headers import HEADERS
from tests.e2e.conftest import Site, shot

COUNT = 60
DATA = {
    "series": {
        "at": [1_800_000_000 + 5 * n for n in range(COUNT)],
        "done": list(range(COUNT)),
        "failed": [3] * COUNT,
    }
}
PAGE = environment().from_string(
    """{% extends "frame.html" %}
    {% block head %}{% include "charts.html" %}{% endblock %}
    {% block body %}<main><div class="chart" data-chart="/dashboard/panels/drawn.json" data-path="series"
    data-lines="done failed" data-titles="Done|Failed" data-unit="seconds" data-label="What was done">
    </div></main>
    {% endblock %}"""
)


async def test_a_chart_draws_its_lines_and_draws_them_anew_in_another_theme(page: Page, site: Site) -> None:
    async def whole(route: Route) -> None:
        await route.fulfill(body=PAGE.render(), headers={**HEADERS, "Content-Type": "text/html"})

    async def data(route: Route) -> None:
        await route.fulfill(body=json.dumps(DATA), headers={"Content-Type": "application/json"})

    await page.route("**/dashboard/drawn", whole)
    await page.route("**/dashboard/panels/drawn.json", data)
    await page.goto(f"{site.url}/dashboard/drawn")
    chart = page.get_by_role("img", name="What was done")
    await expect(chart.locator("canvas")).to_have_count(1)
    await expect(chart.locator(".u-legend")).to_contain_text("Failed")
    await expect(chart.locator(".u-legend")).to_contain_text("Time (UTC)")
    await page.mouse.move(640, 80)
    await expect(chart.locator(".u-legend")).to_contain_text("3 s")
    light = await chart.screenshot()
    await shot(page, "chart-light")
    await page.evaluate("window.chimeraTheme.toggle()")
    await expect(chart.locator("canvas")).to_have_count(1)
    await shot(page, "chart-dark")
    assert await chart.screenshot() != light
    await page.set_viewport_size({"width": 390, "height": 800})
    await expect(chart.locator(".uplot")).to_have_css("width", "366px")
