"""What all pages share: login, navigation, themes, keys, the narrow screen, a hub that is away."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, Route, expect

from chimera.core.scope import FLEET
from chimera.core.views import Health
from tests.e2e.conftest import Open, Parts, Scheme, Site, fits, shot


def taken(complaints: list[str], *, of: str) -> int:
    """How many complaints were of that, and no other."""
    assert all(of in one for one in complaints), complaints
    count = len(complaints)
    complaints.clear()
    return count


async def test_a_person_logs_in_looks_and_logs_out(page: Page, site: Site, complaints: list[str]) -> None:
    await page.goto(f"{site.url}/dashboard/fleet?tenant={site.tenant}")
    await page.get_by_label("API key").fill("chi_wrong")
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("alert")).to_contain_text("this key is not known here")
    await shot(page, "login-refused")
    assert taken(complaints, of="401") == 1
    await page.get_by_label("API key").fill(site.keys[FLEET])
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(f"{site.url}/dashboard/fleet?tenant={site.tenant}")
    await expect(page.get_by_label("Tenant", exact=True)).to_have_value(site.tenant)
    await page.get_by_role("button", name="Log out").click()
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    await page.goto(f"{site.url}/dashboard/fleet")
    await expect(page.get_by_role("heading", name="Log in")).to_be_visible()


async def test_a_tenants_key_shows_its_tenant_and_no_choice(page: Page, site: Site) -> None:
    await site.log_in(page, "fleet", who=site.tenant)
    await expect(page.locator(".whose")).to_have_text(site.tenant)
    await expect(page.get_by_label("Tenant", exact=True)).to_have_count(0)


async def test_choosing_a_tenant_leads_to_it(page: Page, site: Site) -> None:
    await site.log_in(page, "fleet")
    await page.get_by_label("Tenant", exact=True).select_option(site.tenant)
    await page.wait_for_url(f"{site.url}/dashboard/fleet?tenant={site.tenant}")


async def test_a_panel_shows_a_change_by_itself(page: Page, site: Site, parts: Parts) -> None:
    await site.log_in(page, "fleet")
    judge = page.locator("#panel-health li", has_text="Judge")
    await expect(judge).to_contain_text("well")
    async with page.expect_response(lambda answer: answer.url.endswith("/panels/health")) as unchanged:
        pass
    assert (await unchanged.value).status == 304, "what did not change is not sent again"
    parts["judge"] = Health(ok=False, detail="nobody leads as judge: a replica takes it in seconds")
    await expect(judge).to_contain_text("nobody leads as judge")
    await expect(judge).to_contain_text("ill")


async def test_what_the_policy_forbids_fails_a_test_here(
    page: Page, site: Site, complaints: list[str]
) -> None:
    await site.log_in(page, "fleet")
    await page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: '1'}))")
    await page.evaluate("document.body.setAttribute('style', 'color: red')")
    await expect(page.locator("body")).to_be_visible()
    assert taken(complaints, of="Content Security Policy") == 2


async def test_light_and_dark_follow_the_system_and_then_the_readers_choice(opened: Open, site: Site) -> None:
    grounds = {"light": "rgb(244, 246, 248)", "dark": "rgb(15, 19, 24)"}
    async with opened(scheme="dark") as page:
        await site.log_in(page, "fleet")
        await expect(page.locator("body")).to_have_css("background-color", grounds["dark"])
        await page.keyboard.press("t")
        await expect(page.locator("body")).to_have_css("background-color", grounds["light"])
        await page.reload()
        await expect(page.locator("body")).to_have_css("background-color", grounds["light"])
        await page.get_by_role("button", name="Light or dark").click()
        await expect(page.locator("body")).to_have_css("background-color", grounds["dark"])


async def test_keys_alone_lead_everywhere(page: Page, site: Site) -> None:
    await site.log_in(page, "fleet")
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("main")).to_be_focused()
    await page.keyboard.press("?")
    help_ = page.get_by_role("dialog", name="Keyboard")
    await expect(help_).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(help_).to_be_hidden()
    async with page.expect_navigation(url="**/dashboard/fleet"):
        await page.keyboard.press("g")
        await page.keyboard.press("f")


async def test_a_hub_that_is_away_is_said_and_its_return_too(
    page: Page, site: Site, complaints: list[str]
) -> None:
    await site.log_in(page, "fleet")

    async def away(route: Route, *_: Any) -> None:
        await route.abort("connectionrefused")

    await page.route("**/panels/*", away)
    await expect(page.locator("#live")).to_contain_text("The hub does not answer since")
    await expect(page.locator("#panel-health [data-stale]")).to_contain_text("not updated since")
    await shot(page, "hub-away")
    await page.unroute("**/panels/*")
    await expect(page.locator("#live")).to_have_text("Live: every second")
    await expect(page.locator("#panel-health [data-stale]")).to_be_hidden()
    complaints.clear()


async def test_a_session_that_has_ended_leads_to_the_login_by_itself(
    page: Page, site: Site, complaints: list[str]
) -> None:
    await site.log_in(page, "fleet")
    await page.context.clear_cookies()
    await page.wait_for_url(f"{site.url}/dashboard/login?next=%2Fdashboard%2Ffleet")
    taken(complaints, of="401")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_login_is_fit_to_be_looked_at(opened: Open, site: Site, scheme: Scheme) -> None:
    for width in (1280, 390, 360):
        async with opened(scheme=scheme, width=width, height=800) as page:
            await page.goto(f"{site.url}/dashboard/login")
            await expect(page.get_by_label("API key")).to_be_focused()
            assert await fits(page)
            await shot(page, f"login-{scheme}-{width}")


async def test_without_scripts_a_person_still_sees_how_things_stand(site: Site, browser: Any) -> None:
    context = await browser.new_context(java_script_enabled=False)
    try:
        page = await context.new_page()
        await site.log_in(page, "fleet")
        await expect(page.locator("#panel-health")).to_contain_text("Judge")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("button", name="Log out").click()
        await expect(page.get_by_role("heading", name="Log in")).to_be_visible()
    finally:
        await context.close()
