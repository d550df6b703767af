"""Reviews: the inbox and one task, answered by keys alone; payloads of agents are hostile."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect

from chimera.core.action import HttpAction
from chimera.core.scope import FLEET, Scope
from chimera.core.verdict import Decision, Opinion, Verdict
from chimera.runtime.base import Base, TenantStores
from tests.e2e.conftest import Open, Scheme, Site, fits, shot
from tests.keys import key_of
from tests.store import drive

ARTICLE = {
    "title": "Sleep and the heart",
    "sources": ["https://example.test/a", "https://example.test/b"],
    "text": "Adults who sleep less than six hours a night are said to be at a greater risk. " * 3,
}
RESULT = {
    "headline": "Short nights strain the heart, a study of 4,000 adults suggests",
    "claims": [{"text": "risk rises by a fifth", "source": 1}, {"text": "naps do not help", "source": None}],
}
HOOK = HttpAction(url="https://desk.example.test/publish", headers={"x-desk": "night"}, body=RESULT)
SAYS = "The second claim names no source: see whether it may stand."
UNSURE = Verdict(
    decision=Decision.ESCALATE,
    confidence=0.8,
    feedback=SAYS,
    judge="judge-1",
    topics=("health",),
    opinions=(
        Opinion(policy="schema", confidence=1.0),
        Opinion(policy="llm", confidence=0.8, feedback=SAYS, details={"sourced": 1, "claims": 2}),
    ),
    at_ms=1_764_374_400_000,
)
HOSTILE = {
    "markup": "</pre></script><script>document.title='owned'</script>"
    "<img src=x onerror=\"document.title='owned'\">",
    "huge": "long " * 209_716,
    "deep": "[" * 90 + "]" * 90,
    "marks": "safe\u202egnp.exe \u0000 \u2066x\u2069 שלום עולם",
}


async def waits(
    base: Base,
    tenant: str,
    mission_id: str = "m1",
    value: Any = "in",
    result: Any = "out",
    inputs: int = 1,
    verdict: Verdict = UNSURE,
    **more: Any,
) -> TenantStores:
    """A mission, all of whose tasks wait for a human."""
    spec = drive.spec(inputs=[value] * inputs, goal="A headline for each article, true to its sources")
    stores = await drive.begin(base, tenant, spec, mission_id)
    for one in await drive.claim(stores, inputs, lease_s=60):
        assert await drive.hand_in(stores, one, result, **more) is None
    for held in await drive.review(stores, inputs, lease_s=60):
        assert await drive.judge(stores, held, verdict) is None
    return stores


async def stands(stores: TenantStores, task_id: str = "m1.0") -> tuple[str, str, str]:
    """How a task stands in Redis, and who judged it last and what they said."""
    task = await stores.tasks.get(task_id)
    return task.status, task.verdicts[-1].judge, task.verdicts[-1].feedback


async def test_a_review_is_approved_by_keys_alone(page: Page, site: Site, base: Base) -> None:
    stores = await waits(base, site.tenant, value=ARTICLE, result=RESULT, inputs=2, actions=[HOOK])
    await site.log_in(page, "fleet", who=site.tenant)
    await page.keyboard.type("gr")
    await page.wait_for_url("**/dashboard/reviews")
    for key in ("j", "j", "k"):
        await page.keyboard.press(key)
    first, second = [await row.inner_text() for row in await page.locator("[data-row]").all()]
    await expect(page.locator("[data-row]").first).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("heading", name=first)).to_be_visible()
    await page.keyboard.press("j")
    await expect(page.get_by_role("heading", name=second)).to_be_visible()
    await page.keyboard.press("k")
    await expect(page.get_by_role("heading", name=first)).to_be_visible()
    await expect(page.locator(".sets-off")).to_have_text("An approval sets off 1 action")
    await page.keyboard.press("a")
    await expect(page.locator("[data-choice=approve]")).to_be_focused()
    assert (await stands(stores, first))[0] == "ESCALATED", "a key alone decides nothing"
    await page.keyboard.press("Enter")
    await expect(page.locator(".done")).to_contain_text(f"Approved: {first}")
    await expect(page.get_by_role("heading", name=second)).to_be_visible()
    status, judge, _ = await stands(stores, first)
    assert status == "ACCEPTED"
    assert judge.startswith("human:key:")
    assert (await stores.actions.of_task(first, 1))[0].status == "QUEUED"
    await page.keyboard.press("u")
    await expect(page.locator("[data-row]")).to_have_count(1)


async def test_a_review_is_rejected_with_a_comment_which_the_next_attempt_is_told(
    page: Page, site: Site, base: Base
) -> None:
    stores = await waits(base, site.tenant)
    await site.log_in(page, "reviews/m1.0", who=site.tenant)
    await page.keyboard.press("r")
    await expect(page.get_by_label("Comment")).to_be_focused()
    await page.keyboard.type("name the author")
    await page.keyboard.press("Shift+Enter")
    await page.keyboard.type("<b>and a source</b>")
    await page.keyboard.press("Enter")
    await expect(page.locator(".done")).to_contain_text("Rejected: m1.0")
    await expect(page.locator("#panel-inbox")).to_contain_text("Nothing waits for a human")
    comment = "name the author\n<b>and a source</b>"
    task = await stores.tasks.get("m1.0")
    assert (task.status, task.feedback, task.verdicts[-1].feedback) == ("READY", (comment,), comment)
    events = [event async for _, event in stores.recorder.read() if event.kind == "task.declined"]
    assert [event.details["comment"] for event in events] == [comment]


async def test_escape_leaves_a_choice_and_a_letter_in_the_comment_is_a_letter(
    page: Page, site: Site, base: Base
) -> None:
    stores = await waits(base, site.tenant)
    await site.log_in(page, "reviews/m1.0", who=site.tenant)
    await page.keyboard.press("r")
    await page.keyboard.type("a j u")
    await expect(page.get_by_label("Comment")).to_have_value("a j u")
    await page.keyboard.press("Escape")
    await expect(page.locator("[data-chosen]")).to_have_count(0)
    assert (await stands(stores))[0] == "ESCALATED"
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog")).to_contain_text("Reject: write why")


async def test_the_second_of_two_people_is_told_who_decided(
    opened: Open, site: Site, base: Base, complaints: list[str]
) -> None:
    stores = await waits(base, site.tenant)
    site.keys["second"] = await key_of(base, site.tenant, Scope.READ, Scope.OPERATE)
    async with opened() as one, opened() as other:
        # Without its script the second page learns nothing by itself: it sends what it has.
        await other.route("**/live.js", lambda route: route.abort())
        await site.log_in(one, "reviews/m1.0", who=site.tenant)
        await other.goto(f"{site.url}/dashboard/reviews/m1.0")
        await other.get_by_label("API key").fill(site.keys["second"])
        await other.get_by_role("button", name="Log in").click()
        await other.get_by_label("Comment").fill("too short")
        await one.get_by_role("button", name="Approve").click()
        await expect(one.locator(".done")).to_be_visible()
        await other.get_by_role("button", name="Reject").click()
        _, judge, _ = await stands(stores)
        who = judge.removeprefix("human:")
        await expect(other.locator("main .problem")).to_contain_text(f"{who} approved it at")
        await expect(other.locator("[data-decided]")).to_contain_text(f"{who} approved it")
        await expect(other.get_by_role("button", name="Reject")).to_have_count(0)
        await shot(other, "review-second")
    complaints.clear()  # the script that was kept away, and the refusal
    assert (await stands(stores))[0] == "ACCEPTED"


async def test_who_has_it_open_is_told_when_another_decides(page: Page, site: Site, base: Base) -> None:
    stores = await waits(base, site.tenant)
    await site.log_in(page, "reviews/m1.0", who=site.tenant)
    await expect(page.get_by_role("button", name="Approve")).to_be_visible()
    verdict = Verdict(
        decision=Decision.ACCEPT, confidence=1, judge="human:key:other", at_ms=1_764_374_400_000
    )
    await stores.reviews.answer("m1.0", "o", verdict=verdict, by="key:other", max_stale=5)
    await expect(page.locator("[data-decided]")).to_contain_text("key:other approved it")
    await expect(page.get_by_role("button", name="Approve")).to_be_hidden()


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_payloads_are_shown_and_neither_run_nor_break_the_page(
    page: Page, site: Site, base: Base, name: str
) -> None:
    import json

    value: Any = json.loads(HOSTILE[name]) if name == "deep" else HOSTILE[name]
    said = UNSURE.model_copy(
        update={"feedback": HOSTILE[name][:500], "topics": (HOSTILE["markup"],), "judge": HOSTILE["markup"]}
    )
    await waits(base, site.tenant, value=value, result={"it": value}, verdict=said)
    await site.log_in(page, "reviews", who=site.tenant)
    await expect(page.locator("[data-row]")).to_have_count(1)
    await page.goto(f"{site.url}/dashboard/reviews/m1.0")
    await expect(page.get_by_role("button", name="Approve")).to_be_visible()
    await expect(page).to_have_title("Review m1.0 · Chimera")
    assert await page.evaluate("document.querySelectorAll('main script, main img').length") == 0
    shown = await page.locator("#panel-review").inner_text()
    if name == "markup":
        assert HOSTILE["markup"] in shown
    if name == "marks":
        assert "safe⟦U+202E⟧gnp.exe ⟦U+0000⟧ ⟦U+2066⟧x⟦U+2069⟧ שלום עולם" in shown
    if name == "huge":
        assert "cut: not all of it is shown here" in shown
        assert await page.evaluate("document.documentElement.outerHTML.length") < 1_000_000
    assert await fits(page)
    await shot(page, f"review-hostile-{name}")
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download the whole").first.click()
    saved = (await (await download.value).path()).read_bytes().decode()
    assert (json.loads(saved) if name == "deep" else saved) == value


async def test_a_key_that_only_reads_is_shown_no_answer_and_refused_one(
    page: Page, site: Site, base: Base, complaints: list[str]
) -> None:
    stores = await waits(base, site.tenant)
    site.keys["reader"] = await key_of(base, site.tenant, Scope.READ)
    await site.log_in(page, "reviews/m1.0", who="reader")
    await expect(page.locator("#panel-review")).to_be_visible()
    await expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    answered = await page.evaluate(
        """async () => {
            const csrf = document.querySelector('meta[name=csrf]').content;
            const sent = (decision) => fetch('/dashboard/act/review/m1.0/' + decision,
                {method: 'POST', body: new URLSearchParams({csrf})});
            return Promise.all(['approve', 'reject'].map(async (one) => (await sent(one)).status));
        }"""
    )
    assert answered == [403, 403]
    assert (await stands(stores))[0] == "ESCALATED"
    complaints.clear()  # Chromium says each refusal in its console


async def test_another_tenants_review_is_not_found(
    page: Page, site: Site, base: Base, complaints: list[str]
) -> None:
    other = f"{site.tenant}-b"
    await base.tenants.add(other)
    try:
        stores = await waits(base, other, "m9")
        await site.log_in(page, "reviews", who=site.tenant)
        await expect(page.locator("#panel-inbox")).to_contain_text("Nothing waits")
        statuses = []
        for path in ("m9.0", f"m9.0?tenant={other}", f"m9.0/result?tenant={other}"):
            answer = await page.goto(f"{site.url}/dashboard/reviews/{path}")
            assert answer is not None
            statuses.append(answer.status)
        assert statuses == [404, 404, 404]
        assert (await stands(stores, "m9.0"))[0] == "ESCALATED"
    finally:
        await base.tenants.remove(other)
    complaints.clear()


async def test_the_fleets_operator_sees_all_inboxes_and_answers_for_any_tenant(
    page: Page, site: Site, base: Base
) -> None:
    other = f"{site.tenant}-b"
    await base.tenants.add(other)
    try:
        await waits(base, site.tenant)
        stores = await waits(base, other, "m9")
        await site.log_in(page, "reviews", who=FLEET)
        await expect(page.locator("[data-row]")).to_have_count(2)
        await page.locator("[data-row]").nth(1).click()
        await page.get_by_role("button", name="Approve").click()
        await expect(page.locator(".done")).to_contain_text("Approved: m9.0")
        assert (await stands(stores, "m9.0"))[0] == "ACCEPTED"
    finally:
        await base.tenants.remove(other)


async def test_the_inbox_is_filtered_and_goes_by_the_page(page: Page, site: Site, base: Base) -> None:
    await waits(base, site.tenant, inputs=28)
    await waits(base, site.tenant, "m2", verdict=UNSURE.model_copy(update={"topics": ("legal",)}))
    await site.log_in(page, "reviews", who=site.tenant)
    await expect(page.locator("[data-row]")).to_have_count(25)
    await page.get_by_role("link", name="After").click()
    await expect(page.locator("[data-row]")).to_have_count(4)
    await page.get_by_label("Topic").fill("legal")
    await page.get_by_role("button", name="Filter").click()
    await expect(page.locator("[data-row]")).to_have_text(["m2.0"])
    await page.get_by_label("Topic").fill("")
    await page.get_by_label("Mission").fill("m2")
    await page.keyboard.press("Enter")
    await expect(page.locator("#panel-inbox")).to_contain_text("1 task waits of mission m2")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
async def test_it_fits_and_is_looked_at(
    opened: Open, site: Site, base: Base, scheme: Scheme, width: int
) -> None:
    await waits(base, site.tenant, value=ARTICLE, result=RESULT, actions=[HOOK])
    await waits(base, site.tenant, "m2", inputs=3, verdict=UNSURE.model_copy(update={"topics": ()}))
    async with opened(scheme=scheme, width=width) as page:
        await site.log_in(page, "reviews", who=site.tenant)
        await page.keyboard.press("j")
        await shot(page, f"reviews-{scheme}-{width}")
        assert await fits(page)
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("heading", name="m1.0")).to_be_visible()
        await shot(page, f"review-{scheme}-{width}")
        assert await fits(page)
