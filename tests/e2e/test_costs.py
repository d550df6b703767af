"""The costs page: what is spent and left, what money went to, and a person's word on the brake."""

from __future__ import annotations

from datetime import timedelta

import pytest
from playwright.async_api import Page, expect

from chimera.core.calendar import window_id, window_ids
from chimera.core.money import Window
from chimera.core.scope import FLEET, Scope
from chimera.runtime.base import Base
from chimera.store.brakes import BrakeStore, Order
from tests.e2e.conftest import Open, Scheme, Site, fits, shot
from tests.keys import key_of
from tests.store import paid

GOAL = "Read the night's <b>notes</b>"


@pytest.fixture
async def spent(base: Base, tenant: str) -> None:
    """A day and more of spending, limits, a call under way, and refusals."""
    stores, claims = await paid.leased(base, tenant, inputs=6, goal=GOAL, budget_usd=5)
    limits = {
        "day": 40_000_000,
        "hour": 2_000_000,
        "agent/writer/day": 11_000_000,
        "model/gpt/month": 900_000_000,
    }
    await stores.ledger.set_limits(limits, by="test")
    await history(base, tenant, hours=30)
    await paid.call(stores, claims[0], 200_000, agent="writer", model="gpt", input_tokens=9_000)
    await paid.call(stores, claims[1], 90_000, agent="reader", model="gpt-mini", output_tokens=700)
    assert isinstance(await paid.hold(stores, claims[2], 300_000), str)
    for one in claims[3:]:
        assert not isinstance(await paid.hold(stores, one, 3_000_000), str)


async def history(base: Base, tenant: str, *, hours: int) -> None:
    """What was settled in the hours before now, as the ledger keeps it."""
    stores = base.of(tenant)
    now = (await stores.spending.standing()).at
    async with base.redis.pipeline(transaction=False) as pipe:
        for ago in range(60, 0, -1):  # the last hour by the minute, too
            minute = window_id(Window.MINUTE, now - timedelta(minutes=ago))
            pipe.hincrby(stores.spending.keys.ledger, f"settled:{minute}", 20_000)
        for ago in range(hours, 0, -1):
            amount = 1_100_000 + 60_000 * (ago % 5)
            for identity in window_ids(now - timedelta(hours=ago)):
                if not identity.startswith(Window.MINUTE):
                    pipe.hincrby(stores.spending.keys.ledger, f"settled:{identity}", amount)
        await pipe.execute()


async def give(page: Page, verb: str, reason: str) -> None:
    """Give a word on the brake by its page, by keys alone."""
    await page.get_by_role("link", name=f"{verb}…").press("Enter")
    await expect(page.get_by_label("Why")).to_be_focused()
    await page.keyboard.type(reason)
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.locator(".done")).to_be_visible()


async def audited(base: Base, tenant: str) -> list[tuple[str, str, str]]:
    """Changes of the brake in the audit."""
    events, _ = await base.audit.of_tenant(base.of(tenant).recorder)
    return [
        (event.details["to"], event.details["reason"], event.by)
        for event in events
        if event.kind == "brake.changed"
    ]


@pytest.mark.usefixtures("spent")
async def test_limits_pace_and_what_money_went_to_are_shown(page: Page, site: Site) -> None:
    await site.log_in(page, "costs", who=site.tenant)
    spend = page.locator("#panel-spend")
    day = spend.get_by_role("row", name="tenant/day")
    await expect(day).to_contain_text("$40.00")
    await expect(day.locator("svg")).to_be_visible()
    await expect(spend.get_by_role("row", name="mission m1")).to_contain_text("$5.00")
    await expect(spend).to_contain_text("A year, if it goes on so")
    await expect(spend).to_contain_text("full hours, the cheapest")
    rows = page.locator("#panel-breakdown tbody tr")
    await expect(rows.first).to_contain_text("gpt")
    await expect(rows.first).to_contain_text("$0.20")
    await page.get_by_role("link", name="agent", exact=True).click()
    await expect(rows.first).to_contain_text("writer")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="CSV").click()
    text = (await (await download.value).path()).read_text()
    assert text.splitlines()[0].startswith("agent,cost_microusd")
    assert "writer,200000," in text


@pytest.mark.usefixtures("spent")
async def test_a_brake_is_frozen_and_thawed_with_a_reason_on_the_page_and_in_the_audit(
    page: Page, site: Site, base: Base
) -> None:
    await site.log_in(page, "costs", who=site.tenant)
    brake = page.locator("#panel-brake")
    await expect(brake.locator(".large")).to_have_text("●open")
    await page.get_by_role("link", name="Freeze…").click()
    effects = page.locator(".effects")
    await expect(effects).to_contain_text(f"1 open mission: “{GOAL}”")
    await expect(effects).to_contain_text("6 attempts under way")
    await expect(effects).to_contain_text("1 paid call under way: these end, and are charged")
    await shot(page, "costs-freeze")
    await page.get_by_role("link", name="Leave it").click()
    await give(page, "Freeze", "a runaway <script>alert(1)</script>")
    await expect(brake.locator(".large")).to_have_text("■frozen")
    await expect(brake).to_contain_text("“a runaway <script>alert(1)</script>”")
    await expect(page.get_by_role("link", name="Freeze…")).to_have_count(0)
    await give(page, "Thaw", "all is well")
    await expect(brake.locator(".large")).to_have_text("●open")
    changes = brake.locator("tbody tr")
    await expect(changes).to_have_count(2)
    await expect(changes.first).to_contain_text("all is well")
    said = await audited(base, site.tenant)
    assert [one[:2] for one in said] == [
        ("frozen", "a runaway <script>alert(1)</script>"),
        ("open", "all is well"),
    ]
    assert all(by.startswith("key:") for _, _, by in said)


async def test_a_brake_is_overridden_for_a_time_by_the_fleets_operator(
    page: Page, site: Site, base: Base
) -> None:
    await site.log_in(page, f"costs?tenant={site.tenant}")
    await page.get_by_role("link", name="Override…").click()
    await page.get_by_label("For how many minutes").fill("5")
    await page.get_by_label("Why").fill("a big day")
    await page.get_by_role("button", name="Override").click()
    await expect(page.locator("#panel-brake")).to_contain_text("Overridden until")
    assert await audited(base, site.tenant) != []


async def test_a_change_of_the_brake_comes_by_itself(page: Page, site: Site, base: Base) -> None:
    await site.log_in(page, "costs", who=site.tenant)
    store = BrakeStore(base.redis)
    await store.order(site.tenant, Order.FREEZE, "elsewhere", by="key:other", reason="from elsewhere")
    await expect(page.locator("#panel-brake .large")).to_have_text("■frozen")
    await expect(page.locator("#panel-brake")).to_contain_text("by key:other")


@pytest.mark.usefixtures("spent")
async def test_refusals_are_acknowledged_one_by_one_and_all(page: Page, site: Site, base: Base) -> None:
    await site.log_in(page, "costs", who=site.tenant)
    flags = page.locator("#panel-flags tbody tr")
    await expect(flags).to_have_count(1)
    await expect(flags.first).to_contain_text("tenant/hour")
    await page.get_by_label("Comment on what is acknowledged").fill("seen to")
    await flags.first.get_by_role("button", name="Acknowledge").click()
    await expect(page.locator("#panel-flags")).to_contain_text("No limit refused anything")
    await expect(page.get_by_role("button", name="Acknowledge all")).to_be_hidden()
    events = [event async for _, event in base.of(site.tenant).recorder.read()]
    (event,) = [one for one in events if one.kind == "flag.acknowledged"]
    assert event.details["comment"] == "seen to"


@pytest.mark.usefixtures("spent")
async def test_a_key_that_only_reads_sees_no_acts_and_is_refused_when_it_sends_them(
    page: Page, site: Site, base: Base, complaints: list[str]
) -> None:
    site.keys["reader"] = await key_of(base, site.tenant, Scope.READ)
    await site.log_in(page, "costs", who="reader")
    await expect(page.locator("#panel-brake .large")).to_have_text("●open")
    for name in ("Freeze…", "Override…"):
        await expect(page.get_by_role("link", name=name)).to_have_count(0)
    await expect(page.get_by_role("button", name="Acknowledge")).to_have_count(0)
    answered = await page.evaluate(
        """async () => {
            const csrf = document.querySelector('meta[name=csrf]').content;
            const body = new URLSearchParams({csrf, reason: 'mine'});
            const paths = ['brake/freeze', 'brake/thaw', 'flags'];
            return Promise.all(paths.map(async (path) =>
                (await fetch('/dashboard/act/' + path, {method: 'POST', body})).status));
        }"""
    )
    assert answered == [403, 403, 403]
    assert await audited(base, site.tenant) == []
    assert len(await base.of(site.tenant).flags.all()) == 1
    complaints.clear()  # Chromium says each refusal in its console


async def test_another_tenants_costs_are_not_found(
    page: Page, site: Site, base: Base, complaints: list[str]
) -> None:
    await site.log_in(page, "costs", who=site.tenant)
    answer = await page.goto(f"{site.url}/dashboard/costs?tenant=another")
    assert answer is not None
    assert answer.status == 404
    complaints.clear()


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
async def test_it_fits_and_is_looked_at(opened: Open, site: Site, scheme: Scheme, width: int) -> None:
    name = f"costs-{scheme}-{width}"
    async with opened(scheme=scheme, width=width) as page:
        await site.log_in(page, "costs", who=site.tenant)
        await give(page, "Freeze", "the nightly run is far over its plan")
        await expect(page.locator("#panel-breakdown tbody tr").first).to_be_visible()
        await shot(page, name)
        assert await fits(page)


@pytest.mark.usefixtures("spent")
@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
async def test_all_tenants_have_a_line_each(
    opened: Open, site: Site, base: Base, scheme: Scheme, width: int
) -> None:
    others = [f"{site.tenant}-{name}" for name in ("lab", "press")]
    for name in others:
        await base.tenants.add(name)
    try:
        async with opened(scheme=scheme, width=width) as page:
            await site.log_in(page, "costs", who=FLEET)
            await expect(page.locator(f"#spend-{others[0]}")).to_be_visible()
            await shot(page, f"costs-fleet-{scheme}-{width}")
            assert await fits(page)
            await page.locator(f"#spend-{site.tenant}").get_by_role("link").click()
            await expect(page.locator("#panel-breakdown")).to_be_visible()
    finally:
        for name in others:
            await base.tenants.remove(name)
