"""Missions in the browser: found, watched live, replayed, paused, cancelled, redriven; by keys, on phones."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from playwright.async_api import Page, expect

from chimera.dashboard.film import Film
from chimera.dashboard.films import Films
from chimera.dashboard.scene import named
from chimera.dashboard.words import usd
from tests.dashboard import crowd
from tests.e2e.conftest import Open, Scheme, Site, fits, shot
from tests.store import drive

DAG = {
    "strategy": "dag",
    "nodes": [
        {"name": "read", "input": {"text": "Bread is baked twice."}},
        {"name": "left", "depends_on": ["read"]},
        {"name": "right", "depends_on": ["read"]},
        {"name": "join", "depends_on": ["left", "right"]},
        {"name": "print", "depends_on": ["join"]},
    ],
}
HOSTILE = '</code><script>window.hit=1</script><img src=x onerror="window.hit=2"> \u202egnp.exe'


def address(site: Site, mission_id: str = "m1", **query: Any) -> str:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return f"missions/{mission_id}?tenant={site.tenant}{more}"


async def whole_film(site: Site, mission_id: str = "m1") -> Film:
    films, whole = Films(), False
    record = await site.base.of(site.tenant).readings.mission(mission_id)
    while not whole:
        film, whole = await films.film(site.base, site.tenant, record)
    await films.close()
    return film


async def shown_counts(page: Page) -> dict[str, int]:
    """Tasks by status as the scene says them."""
    found = {}
    for item in await page.locator("#panel-mission-scene .legend li").all():
        name = await item.get_attribute("data-count")
        assert name is not None
        found[name] = int((await item.locator("strong").inner_text()).replace(",", ""))
    return found


def counts_at(film: Film, index: int) -> dict[str, int]:
    return {name: count for name, count in named(film.counts(index)).items() if count}


def scene_at(page: Page, index: int) -> Any:
    return page.locator(f"#panel-mission-scene .scene[data-index='{index}']")


async def test_a_live_mission_is_watched_until_it_is_completed_and_then_left_alone(
    site: Site, page: Page
) -> None:
    spec = drive.spec(inputs=[], plan=DAG, goal="Bake the bread twice")
    stores = await crowd.make(site.base, site.tenant, spec)
    await site.log_in(page, "missions", who=site.tenant)
    await page.get_by_role("link", name="m1").click()
    scene = page.locator("#panel-mission-scene")
    await expect(scene.get_by_role("link", name="task read: ready")).to_be_visible()
    await crowd.turn(stores)
    await expect(scene.get_by_role("link", name="task read: accepted")).to_be_visible()
    await expect(scene.get_by_role("link", name="task left: ready")).to_be_visible()
    await crowd.run(stores)
    await expect(page.locator("#panel-mission .now")).to_contain_text("completed")
    await expect(scene.get_by_role("link", name="task print: accepted")).to_be_visible()
    await expect(page.locator("[data-panel]:not([data-still])")).to_have_count(0)
    await expect(page.locator("#panel-mission-course .lane")).to_have_count(5)
    await shot(page, "mission-completed")


async def test_scrubbing_back_shows_the_counts_and_the_money_of_that_moment(site: Site, page: Page) -> None:
    spec = drive.spec(inputs=list(range(30)), plan={"strategy": "map_reduce"}, max_attempts=2)
    stores = await crowd.make(site.base, site.tenant, spec)
    await crowd.run(stores, most=7, error_every=5, reject_every=6)
    film = await whole_film(site)
    await site.log_in(page, address(site), who=site.tenant)
    await expect(scene_at(page, len(film))).to_be_visible()
    scrub = page.get_by_role("slider", name="Event")
    middle = len(film) // 2
    await scrub.evaluate("(one, at) => { one.value = at; one.dispatchEvent(new Event('input')) }", middle)
    await expect(scene_at(page, middle)).to_be_visible()
    assert await shown_counts(page) == counts_at(film, middle)
    await expect(page.locator("[data-figure=settled]")).to_have_text(usd(film.aside(middle).settled_microusd))
    assert f"at={middle}" in page.url
    await expect(page.locator(".lanes .playhead.unseen")).to_have_count(0)
    await scrub.focus()
    await page.keyboard.press("ArrowRight")
    await expect(scene_at(page, middle + 1)).to_be_visible()
    await page.get_by_role("button", name="Previous event").click()
    await expect(scene_at(page, middle)).to_be_visible()
    await page.keyboard.press("]")
    await expect(scene_at(page, middle + 1)).to_be_visible()
    await shot(page, "mission-replay")
    await scrub.focus()
    await page.keyboard.press("Home")
    await expect(scene_at(page, 0)).to_be_visible()
    assert await shown_counts(page) == {"UNPLANNED": 33}
    await page.get_by_role("button", name="Newest").click()
    await expect(scene_at(page, len(film))).to_be_visible()
    assert "at=" not in page.url


async def test_a_link_leads_to_a_moment_and_play_goes_on_from_there_to_the_end(
    site: Site, page: Page
) -> None:
    stores = await crowd.make(site.base, site.tenant, drive.spec(inputs=[], plan=DAG))
    await crowd.run(stores)
    film = await whole_film(site)
    await site.log_in(page, address(site, at=4), who=site.tenant)
    await expect(scene_at(page, 4)).to_be_visible()
    await expect(page.locator("#panel-mission-scene .tag")).to_have_text("replay")
    await page.keyboard.press("p")
    await expect(page.get_by_role("button", name="Pause", exact=True)).to_be_visible()
    await expect(scene_at(page, len(film))).to_be_visible(timeout=30_000)
    await expect(page.get_by_role("button", name="Play", exact=True)).to_be_visible()
    assert await shown_counts(page) == {"ACCEPTED": 5}


async def test_a_mission_is_paused_resumed_and_cancelled_with_a_reason(site: Site, page: Page) -> None:
    stores = await drive.begin(site.base, site.tenant, drive.spec())
    await site.log_in(page, address(site), who=site.tenant)
    now = page.locator("#panel-mission .now")
    await page.get_by_role("button", name="Pause…").click()
    dialog = page.get_by_role("dialog", name="Pause this mission?")
    await dialog.get_by_label("Reason").fill("the oven is cold")
    await page.keyboard.press("Enter")
    await expect(now).to_contain_text("paused")
    await expect(now).to_contain_text("the oven is cold")
    await expect(dialog).to_be_hidden()
    await page.get_by_role("button", name="Resume…").click()
    await page.get_by_role("dialog").get_by_label("New budget").fill("2.50")
    await page.get_by_role("button", name="Resume", exact=True).click()
    await expect(now).to_contain_text("running")
    assert (await stores.missions.get("m1")).budget_microusd == 2_500_000
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_role("button", name="Leave it").click()
    assert (await stores.missions.get("m1")).status == "RUNNING"
    await page.get_by_role("button", name="Cancel…").click()
    await page.get_by_role("textbox", name="Reason").fill("no more flour")
    await page.get_by_role("button", name="Cancel the mission").click()
    await expect(now).to_contain_text("cancelled")
    record = await stores.missions.get("m1")
    assert (record.status, record.reason) == ("CANCELLED", "no more flour")
    events = [event async for _, event in stores.recorder.read(mission_id="m1")]
    assert {event.by for event in events if event.kind == "mission.cancelled"} != {"test"}


async def test_what_the_api_refuses_is_said_and_changes_nothing(
    site: Site, page: Page, complaints: list[str]
) -> None:
    await drive.begin(site.base, site.tenant, drive.spec())
    await site.log_in(page, address(site), who=site.tenant)
    await page.get_by_role("button", name="Pause…").click()
    await page.get_by_role("button", name="Pause", exact=True).click()
    await page.get_by_role("button", name="Resume…").click()
    await page.get_by_role("dialog").get_by_label("New budget").fill("a lot")
    await page.get_by_role("button", name="Resume", exact=True).click()
    await expect(page.locator("[data-notes]")).to_contain_text("is no amount of USD")
    await expect(page.locator("#panel-mission .now")).to_contain_text("paused")
    assert all("422" in one or "400" in one for one in complaints)
    complaints.clear()


async def test_failed_tasks_are_redriven(site: Site, page: Page) -> None:
    stores = await drive.begin(site.base, site.tenant, drive.spec(max_attempts=1))
    await crowd.turn(stores, error_every=1)
    await drive.end(stores)
    await site.log_in(page, address(site, status="FAILED"), who=site.tenant)
    rows = page.locator("#panel-mission-tasks tbody tr")
    await expect(rows).to_have_count(3)
    await expect(rows.first).to_contain_text("the agent raised <b>boom</b>")
    await page.get_by_role("button", name="Redrive 3 failed…").click()
    await page.get_by_role("button", name="Redrive", exact=True).click()
    await expect(page.locator("#panel-mission .now")).to_contain_text("running")
    assert (await stores.missions.get("m1")).counts["READY"] == 3


async def test_keys_alone_reach_a_task_and_everything_of_it(site: Site, page: Page) -> None:
    stores = await crowd.make(site.base, site.tenant, drive.spec(inputs=[], plan=DAG))
    await crowd.run(stores, reject_every=2)
    await site.log_in(page, "missions", who=site.tenant)
    await page.get_by_role("link", name="m1").focus()
    await page.keyboard.press("Enter")
    first = page.locator("#panel-mission-scene .graph a").first
    await first.focus()
    await expect(first).to_have_attribute("aria-label", "task read: accepted")
    await page.keyboard.press("Enter")
    task = page.locator("#panel-mission-task")
    await expect(task).to_contain_text("Bread is baked twice.")
    await expect(task).to_contain_text("of m1.read")
    await expect(task.get_by_text("accept 0.97")).to_be_visible()
    for kind in ("task.claimed", "spend.settled", "task.submitted", "task.accepted"):
        await expect(task.get_by_text(kind, exact=True).first).to_be_visible()
    await shot(page, "task")
    await page.keyboard.press("g")
    await page.keyboard.press("m")
    await expect(page.get_by_role("heading", level=1)).to_contain_text("Missions")
    await page.wait_for_url("**/dashboard/missions")


async def test_an_open_task_says_why_it_waits(site: Site, page: Page) -> None:
    await crowd.make(site.base, site.tenant, drive.spec(inputs=[], plan=DAG))
    await site.log_in(page, address(site), who=site.tenant)
    rows = page.locator("#panel-mission-tasks tbody tr")
    await expect(rows.nth(0)).to_contain_text("capacity")
    await expect(rows.nth(1)).to_contain_text("it takes results that are not accepted yet: m1.read (READY)")
    await rows.nth(1).get_by_role("link").first.click()
    await expect(page.locator("#panel-mission-task .next")).to_contain_text("chimera task why m1.read")


async def test_payloads_of_strangers_are_shown_as_text(site: Site, page: Page) -> None:
    spec = drive.spec(goal=HOSTILE, inputs=[HOSTILE, {HOSTILE: HOSTILE}], max_attempts=3)
    stores = await drive.begin(site.base, site.tenant, spec)
    first, second = await drive.claim(stores, 2)
    await drive.hand_in(stores, first, HOSTILE)
    await drive.hand_in(stores, second, HOSTILE)
    held, other = await drive.review(stores)
    await drive.judge(stores, held)
    await drive.judge(stores, other, drive.verdict("reject", 0.1, HOSTILE))
    await site.log_in(page, "missions", who=site.tenant)
    for where in (
        address(site),
        f"missions/m1/results?tenant={site.tenant}",
        f"missions/m1/tasks/m1.0?tenant={site.tenant}",
        f"missions/m1/tasks/m1.1?tenant={site.tenant}",
        "missions",
    ):
        await page.goto(f"{site.url}/dashboard/{where}")
        await expect(page.locator("main")).to_contain_text("<script>window.hit=1</script>")
        await expect(page.locator("main")).to_contain_text("⟦U+202E⟧gnp.exe")
        assert await page.evaluate("window.hit") is None
        assert await page.locator("main script, main img").count() == 0


async def test_a_mission_of_many_tasks_is_drawn_by_its_stages_and_filtered_by_what_is_clicked(
    site: Site, page: Page
) -> None:
    spec = drive.spec(inputs=list(range(1_500)), plan={"strategy": "map_reduce"}, max_attempts=1)
    stores = await crowd.make(site.base, site.tenant, spec)
    await crowd.turn(stores, most=300, error_every=25)
    await site.log_in(page, address(site), who=site.tenant)
    nodes = page.locator("#panel-mission-scene .graph a")
    await expect(nodes).to_have_count(4)
    await expect(nodes.first).to_have_attribute(
        "aria-label", re.compile("^map: 288 accepted, 12 failed, 1,200 ready")
    )
    table = page.locator("#panel-mission-tasks")
    await nodes.first.click()
    await expect(table.locator("[aria-current=true]")).to_contain_text(["all", "map"])
    await table.get_by_role("link", name="failed").click()
    await expect(table.locator("tbody tr")).to_have_count(12)
    await table.get_by_role("link", name="ready").click()
    await expect(table.locator(".pager")).to_contain_text("page 1 of 48")
    await table.get_by_role("link", name="Next").click()
    await expect(table.locator(".pager")).to_contain_text("page 2 of 48")
    await expect(page.locator("#panel-mission-course .density")).to_have_count(8)
    await shot(page, "mission-large")


async def test_a_tenant_sees_no_mission_of_another_and_the_fleets_key_is_led_to_its_tenant(
    opened: Open, site: Site, complaints: list[str]
) -> None:
    await site.base.tenants.add(f"{site.tenant}x")
    await drive.submit(site.base, f"{site.tenant}x", drive.spec(goal="Not yours"), "m9", at_once=True)
    try:
        async with opened() as page:
            await site.log_in(page, "missions", who=site.tenant)
            await expect(page.locator("#panel-missions")).to_contain_text("There is no mission yet")
            for where in (
                "missions/m9",
                f"missions/m9?tenant={site.tenant}x",
                f"missions?tenant={site.tenant}x",
            ):
                answer = await page.goto(f"{site.url}/dashboard/{where}")
                assert answer is not None
                assert answer.status == 404
            assert all("404" in one for one in complaints)
            complaints.clear()
        async with opened() as page:
            await site.log_in(page, "missions")
            await page.get_by_role("link", name="m9").click()
            await expect(page.locator("#panel-mission")).to_contain_text("Not yours")
            await page.goto(f"{site.url}/dashboard/missions/m9")
            await page.wait_for_url(f"**/missions/m9?tenant={site.tenant}x")
            await expect(page.get_by_role("button", name="Cancel…")).to_have_count(0)
            # Another tenant has no such mission: its list is shown.
            await page.get_by_label("Tenant", exact=True).select_option(site.tenant)
            await page.wait_for_url(f"**/missions?tenant={site.tenant}")
    finally:
        await site.base.tenants.remove(f"{site.tenant}x")


async def test_the_list_is_filtered_and_has_the_archived_ones_too(site: Site, page: Page) -> None:
    stores = await drive.over(site.base, site.tenant, "a1", goal="Rye")
    await drive.archive(stores, "a1")
    for number in range(27):
        await drive.submit(
            site.base, site.tenant, drive.spec(goal=f"Loaf {number}"), f"m{number:02}", at_once=True
        )
    await site.log_in(page, "missions", who=site.tenant)
    rows = page.locator("#panel-missions tbody tr")
    await expect(rows).to_have_count(25)
    await expect(rows.first).to_contain_text("Loaf 26")
    await page.get_by_role("link", name="Older").click()
    await expect(rows).to_have_count(2)
    await page.get_by_label("Goal or id").fill("loaf 13")
    await page.keyboard.press("Enter")
    await expect(rows).to_have_count(1)
    await page.goto(f"{site.url}/dashboard/missions")
    await page.get_by_label("archived").check()
    await page.get_by_role("button", name="Show").last.click()
    await expect(rows).to_have_count(1)
    await rows.get_by_role("link").click()
    await expect(page.locator("#panel-mission")).to_contain_text("archived")
    await expect(page.locator("#panel-mission-scene .graph a")).to_have_count(3)
    await expect(page.locator("#panel-mission-tasks tbody tr")).to_have_count(3)


async def test_results_are_viewed_and_downloaded_as_the_api_streams_them(site: Site, page: Page) -> None:
    stores = await crowd.make(site.base, site.tenant, drive.spec(inputs=list(range(25))))
    await crowd.run(stores)
    await site.log_in(page, f"missions/m1/results?tenant={site.tenant}", who=site.tenant)
    rows = page.locator("#panel-mission-results tbody tr")
    await expect(rows).to_have_count(20)
    await page.get_by_role("link", name="Next").click()
    await expect(rows).to_have_count(5)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="NDJSON").click()
    path = await (await download.value).path()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["task_id"] for line in lines] == [f"m1.{number}" for number in range(25)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_pages_are_fit_to_be_looked_at_at_any_width(
    opened: Open, site: Site, scheme: Scheme
) -> None:
    spec = drive.spec(
        inputs=list(range(60)),
        plan={"strategy": "map_reduce"},
        max_attempts=2,
        goal="A headline for each text",
    )
    stores = await crowd.make(site.base, site.tenant, spec)
    for _ in range(4):
        await crowd.turn(stores, most=11, error_every=5, reject_every=4)
    await drive.claim(stores, 6, lease_s=600)
    for width in (1280, 390, 360):
        async with opened(scheme=scheme, width=width) as page:
            await site.log_in(page, "missions", who=site.tenant)
            assert await fits(page)
            await shot(page, f"missions-{scheme}-{width}")
            await page.goto(f"{site.url}/dashboard/{address(site)}")
            await expect(page.locator("#panel-mission-scene .graph a")).to_have_count(64)
            assert await fits(page)
            await shot(page, f"mission-{scheme}-{width}")
            await page.goto(f"{site.url}/dashboard/missions/m1/tasks/m1.0?tenant={site.tenant}")
            assert await fits(page)
            await shot(page, f"task-{scheme}-{width}")
