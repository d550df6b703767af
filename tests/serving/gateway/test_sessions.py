"""Logging in to the dashboard, what a session may do, and when it ends."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from chimera.core.scope import ALL, FLEET, Scope
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub
from chimera.serving.gateway.dashboard.headers import HEADERS
from chimera.serving.gateway.throttle import LOGINS_AT_ONCE
from chimera.store import keys
from chimera.store.apikeys import digest
from chimera.store.sessions import LIVES_S, TOUCHED_S, Sessions
from tests.keys import key_of
from tests.serving.gateway.test_scopes import filled, routes
from tests.store.test_apikeys import end_key

OURS = {"Origin": "http://hub", "Sec-Fetch-Site": "same-origin"}


@pytest.fixture
async def browser(app: FastAPI, base: Base, tenant: str) -> AsyncIterator[httpx.AsyncClient]:
    """Without a key of its own, from an address that no other test logs in from."""
    transport = httpx.ASGITransport(app, client=(f"client of {tenant}", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        yield client


async def log_in(browser: httpx.AsyncClient, key: str, **fields: str) -> httpx.Response:
    return await browser.post("/dashboard/login", data={"key": key, **fields}, headers=OURS)


async def token(browser: httpx.AsyncClient) -> str:
    found = re.search(r'name="csrf" content="(\w+)"', (await browser.get("/dashboard/fleet")).text)
    assert found
    return found[1]


async def test_a_key_opens_a_session_in_a_cookie_that_no_script_and_no_other_site_gets(
    browser: httpx.AsyncClient, key: str
) -> None:
    answer = await log_in(browser, key)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    said = answer.headers["set-cookie"]
    session_id = said.partition(";")[0].removeprefix("chimera=")
    assert len(session_id) >= 43
    assert said.lower() == (
        f"chimera={session_id}; httponly; max-age={LIVES_S}; path=/dashboard; samesite=strict".lower()
    )
    assert key not in said
    assert (await browser.get("/dashboard/fleet")).status_code == 200


async def test_over_https_the_cookie_is_for_https_alone(app: FastAPI, key: str, tenant: str) -> None:
    transport = httpx.ASGITransport(app, client=(f"client of {tenant}", 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://hub") as browser:
        answer = await browser.post("/dashboard/login", data={"key": key}, headers={"Origin": "https://hub"})
        assert re.search(
            r"^__Host-chimera=\S+; HttpOnly; Max-Age=\d+; Path=/; SameSite=strict; Secure$",
            answer.headers["set-cookie"],
        )
        assert (await browser.get("/dashboard/fleet")).status_code == 200


async def test_the_store_holds_neither_the_sessions_id_nor_the_key(
    browser: httpx.AsyncClient, base: Base, key: str, tenant: str
) -> None:
    await log_in(browser, key)
    session_id = browser.cookies["chimera"]
    name = keys.session(digest(session_id))
    text = await base.redis.get(name)
    assert digest(key) in text
    assert tenant in text
    assert key not in text + name
    assert session_id not in text + name
    assert LIVES_S - 5 <= await base.redis.ttl(name) <= LIVES_S


async def test_a_session_that_is_used_lives_on(browser: httpx.AsyncClient, base: Base, key: str) -> None:
    await log_in(browser, key)
    name = keys.session(digest(browser.cookies["chimera"]))
    await base.redis.expire(name, LIVES_S - TOUCHED_S - 1)
    await browser.get("/dashboard/fleet")
    assert await base.redis.ttl(name) > LIVES_S - 5


@pytest.mark.parametrize("given", ["chi_wrong", " ", "x" * 4_000])
async def test_a_wrong_key_opens_nothing_and_says_so_in_the_form(
    browser: httpx.AsyncClient, base: Base, given: str
) -> None:
    answer = await log_in(browser, given, next="/dashboard/fleet")
    assert answer.status_code in {401, 422}
    assert "set-cookie" not in answer.headers
    assert "www-authenticate" not in answer.headers
    assert 'role="alert"' in answer.text
    assert 'value="/dashboard/fleet"' in answer.text
    assert given not in answer.text or given == " "


async def test_a_revoked_key_is_told_as_one_that_never_was(
    browser: httpx.AsyncClient, base: Base, hub: Hub, tenant: str
) -> None:
    made = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL)
    await hub.base.api_keys.revoke(tenant, made.record.key_id, uuid.uuid4().hex, by="o")
    said = {re.sub(r"request \w+", "", (await log_in(browser, key)).text) for key in (made.key, "chi_never")}
    assert len(said) == 1


async def test_a_key_that_has_ended_is_told_so(browser: httpx.AsyncClient, base: Base, tenant: str) -> None:
    made = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL)
    await end_key(base, made.key)
    answer = await log_in(browser, made.key)
    assert answer.status_code == 401
    assert f"key {made.record.key_id} has ended" in answer.text


async def test_a_key_that_may_not_read_opens_nothing(
    browser: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    answer = await log_in(browser, await key_of(base, tenant, Scope.SUBMIT))
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert "needs a key with the scope `read`" in answer.text


async def test_a_suspended_tenant_looks_and_does_nothing(
    browser: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await base.tenants.suspend(tenant, "a", by="o", reason="unpaid")
    assert (await log_in(browser, await key_of(base, tenant, *ALL))).status_code == 303
    assert (await browser.get("/dashboard/panels/health.json")).status_code == 200


async def test_a_session_ends_with_its_key(
    browser: httpx.AsyncClient, base: Base, hub: Hub, tenant: str
) -> None:
    made = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL)
    await log_in(browser, made.key)
    name = keys.session(digest(browser.cookies["chimera"]))
    assert (await browser.get("/dashboard/panels/health")).status_code == 200
    await hub.base.api_keys.revoke(tenant, made.record.key_id, uuid.uuid4().hex, by="o")
    answer = await browser.get("/dashboard/panels/health")
    assert answer.status_code == 401
    assert 'chimera=""' in answer.headers["set-cookie"]
    assert await base.redis.exists(name) == 0


async def test_a_session_ends_when_its_key_does(
    browser: httpx.AsyncClient, base: Base, hub: Hub, tenant: str
) -> None:
    made = await base.api_keys.create(tenant, uuid.uuid4().hex, by="o", scopes=ALL)
    await log_in(browser, made.key)
    await end_key(base, made.key)
    hub.base.api_keys._recognised.clear()  # as it is a second later
    assert (await browser.get("/dashboard/fleet")).status_code == 303


async def test_logging_out_ends_the_session_in_the_store(
    browser: httpx.AsyncClient, base: Base, key: str
) -> None:
    await log_in(browser, key)
    session_id, csrf = browser.cookies["chimera"], await token(browser)
    answer = await browser.post("/dashboard/logout", data={"csrf": csrf}, headers=OURS)
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard/login")
    assert await Sessions(base.redis).find(session_id) is None
    again = {"Cookie": f"chimera={session_id}"}
    assert (await browser.get("/dashboard/fleet", headers=again)).status_code == 303


async def test_logging_in_again_ends_the_session_before(
    browser: httpx.AsyncClient, base: Base, key: str
) -> None:
    await log_in(browser, key)
    before = browser.cookies["chimera"]
    await log_in(browser, key)
    assert browser.cookies["chimera"] != before
    assert await Sessions(base.redis).find(before) is None


async def test_a_session_of_somebodys_choice_is_none(browser: httpx.AsyncClient, key: str) -> None:
    chosen = {**OURS, "Cookie": "chimera=chosen"}
    assert (await browser.get("/dashboard/fleet", headers=chosen)).status_code == 303
    answer = await browser.post("/dashboard/login", data={"key": key}, headers=chosen)
    assert (answer.status_code, "chosen" in answer.headers["set-cookie"]) == (303, False)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://evil"},
        {"Origin": "null"},
        {"Origin": "http://hub:81"},
        {"Origin": "http://hub", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_what_no_page_of_ours_sent_changes_nothing(
    browser: httpx.AsyncClient, key: str, headers: dict[str, str]
) -> None:
    assert (await browser.post("/dashboard/login", data={"key": key}, headers=headers)).status_code == 403
    await log_in(browser, key)
    csrf = await token(browser)
    answer = await browser.post("/dashboard/logout", data={"csrf": csrf}, headers=headers)
    assert answer.status_code == 403
    assert (await browser.get("/dashboard/fleet")).status_code == 200


@pytest.mark.parametrize("sent", [{}, {"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "ü"}])
async def test_a_change_without_the_sessions_token_is_refused(
    browser: httpx.AsyncClient, key: str, sent: dict[str, str]
) -> None:
    await log_in(browser, key)
    assert (await browser.post("/dashboard/logout", data=sent, headers=OURS)).status_code == 403
    assert (await browser.get("/dashboard/fleet")).status_code == 200


async def test_the_token_of_another_session_is_none(browser: httpx.AsyncClient, key: str) -> None:
    await log_in(browser, key)
    other = await token(browser)
    await log_in(browser, key)
    answer = await browser.post("/dashboard/logout", headers={**OURS, "X-CSRF-Token": other})
    assert answer.status_code == 403
    mine = await token(browser)
    answer = await browser.post("/dashboard/logout", headers={**OURS, "X-CSRF-Token": mine})
    assert answer.status_code == 303


async def test_the_api_takes_no_session_in_place_of_a_key(
    app: FastAPI, browser: httpx.AsyncClient, key: str
) -> None:
    await log_in(browser, key)
    headers = {"Cookie": f"chimera={browser.cookies['chimera']}"}
    for method, path, _ in routes(app):
        answer = await browser.request(method, filled(path), headers=headers)
        assert answer.status_code == 401, f"{method} {path}"


@pytest.mark.parametrize(
    ("asked", "to"),
    [
        ("/dashboard/fleet?tenant=a", "/dashboard/fleet?tenant=a"),
        ("//evil", "/dashboard"),
        ("https://evil/dashboard", "/dashboard"),
        ("/dashboard\\@evil", "/dashboard"),
        ("/dashboard/%0d%0aX:y", "/dashboard"),
        ("/dashboard//evil", "/dashboard"),
        ("/v1/spend", "/dashboard"),
    ],
)
async def test_a_login_leads_to_pages_of_ours_alone(
    browser: httpx.AsyncClient, key: str, asked: str, to: str
) -> None:
    assert (await log_in(browser, key, next=asked)).headers["location"] == to


async def test_who_has_no_session_is_led_to_the_login_and_back(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/dashboard/fleet?tenant=a")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/dashboard/login?next=%2Fdashboard%2Ffleet%3Ftenant%3Da"
    form = await browser.get(answer.headers["location"])
    assert 'value="/dashboard/fleet?tenant=a"' in form.text


async def test_who_follows_a_link_from_elsewhere_is_asked_once_more_by_our_own_page(
    browser: httpx.AsyncClient,
) -> None:
    answer = await browser.get("/dashboard/fleet", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "http-equiv" in answer.text) == (200, True)


async def test_attempts_to_log_in_are_bounded_by_address(
    app: FastAPI, browser: httpx.AsyncClient, key: str, tenant: str
) -> None:
    statuses = [(await log_in(browser, "chi_wrong")).status_code for _ in range(LOGINS_AT_ONCE + 1)]
    assert statuses[:-1] == [401] * LOGINS_AT_ONCE
    assert statuses[-1] == 429
    answer = await log_in(browser, key)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) >= 1
    transport = httpx.ASGITransport(app, client=(f"another of {tenant}", 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as elsewhere:
        assert (await log_in(elsewhere, key)).status_code == 303


async def test_the_policy_is_on_whatever_the_dashboard_answers(browser: httpx.AsyncClient, key: str) -> None:
    paths = (
        "/dashboard",
        "/dashboard/login",
        "/dashboard/fleet",
        "/dashboard/nothing",
        "/dashboard/panels/health",
    )
    answers = [await browser.get(path) for path in (*paths, "/dashboard/static/none/chimera.css")]
    answers += [
        await browser.put("/dashboard/fleet"),
        await log_in(browser, "chi_wrong"),
        await log_in(browser, key),
    ]
    answers += [
        await browser.get(path) for path in (*paths, "/dashboard/panels/health.json", "/dashboard/panels/x")
    ]
    assert {answer.status_code for answer in answers} >= {200, 303, 401, 404, 405}
    for answer in answers:
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, answer.url
        assert answer.headers["cache-control"] == "no-store", answer.url
    policy = HEADERS["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "content-security-policy" not in (await browser.get("/version")).headers


async def test_a_fleets_key_looks_at_all_tenants_or_one(
    browser: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    await log_in(browser, await key_of(base, FLEET, *ALL))
    page = (await browser.get("/dashboard/fleet")).text
    assert f'<option value="{tenant}" >' in page
    page = (await browser.get(f"/dashboard/fleet?tenant={tenant}")).text
    assert f'<option value="{tenant}" selected>' in page
    assert (await browser.get("/dashboard/fleet?tenant=nobody")).status_code == 404


async def test_whether_there_is_another_tenant_shows_nowhere(
    browser: httpx.AsyncClient, base: Base, key: str, tenant: str
) -> None:
    other = f"{tenant}-other"
    await base.tenants.add(other)
    await log_in(browser, key)
    try:
        for path in ("/dashboard/fleet", "/dashboard/panels/health", "/dashboard/panels/health.json"):
            said = set()
            for name in (other, "nobody", FLEET):
                answer = await browser.get(path, params={"tenant": name}, headers={"X-Request-Id": "r"})
                assert answer.status_code == 404
                said.add(answer.text.replace(f"'{name}'", "NAME").replace(f"&#39;{name}&#39;", "NAME"))
            assert len(said) == 1, path
        assert other not in (await browser.get("/dashboard/fleet")).text
    finally:
        await base.tenants.remove(other)


async def test_a_page_that_is_not_is_told_so_in_words(browser: httpx.AsyncClient, key: str) -> None:
    await log_in(browser, key)
    answer = await browser.get("/dashboard/nothing")
    assert (answer.status_code, answer.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "there is no page /dashboard/nothing" in answer.text
