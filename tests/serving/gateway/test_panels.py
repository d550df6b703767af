"""Panels: computed once for all who watch, told as unchanged where they are, the same to programs."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlencode

import httpx
import pytest
from fastapi import FastAPI

from chimera.core.scope import ALL, FLEET
from chimera.core.views import View
from chimera.dashboard.assets import assets
from chimera.errors import StoreTimeout
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub
from chimera.serving.gateway.dashboard.panels import Asked, Panel, Panels, Sight
from tests.keys import key_of
from tests.serving.gateway.conftest import Fleet, submitted
from tests.serving.gateway.test_sessions import browser, log_in

__all__ = ["browser"]


class Figure(View):
    number: int


class Counted:
    """A panel that counts how often it was computed."""

    def __init__(self) -> None:
        self.sights: list[Sight] = []
        self.error: Exception | None = None
        self.panel = Panel("counted", "Counted", Figure, self.compute, "Counts.")

    async def compute(self, sight: Sight, asked: Asked) -> View:
        self.sights.append(sight)
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return Figure(number=len(self.sights))


async def test_a_panel_is_computed_once_however_many_watch(hub: Hub, tenant: str) -> None:
    counted, panels = Counted(), Panels(hub)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(panels.made(counted.panel, tenant, Asked())) for _ in range(50)]
    assert {task.result().document for task in tasks} == {Figure(number=1)}
    assert [(one.tenants, one.whole) for one in counted.sights] == [([tenant], False)]


async def test_each_scope_has_its_own(hub: Hub, base: Base, tenant: str) -> None:
    counted, panels = Counted(), Panels(hub)
    await panels.made(counted.panel, tenant, Asked())
    await panels.made(counted.panel, FLEET, Asked())
    assert [one.whole for one in counted.sights] == [False, True]
    assert tenant in counted.sights[1].tenants


async def test_what_failed_is_computed_anew(hub: Hub, tenant: str) -> None:
    counted, panels = Counted(), Panels(hub)
    counted.error = StoreTimeout("slow")
    with pytest.raises(StoreTimeout):
        await panels.made(counted.panel, tenant, Asked())
    counted.error = None
    assert (await panels.made(counted.panel, tenant, Asked())).document == Figure(number=2)


async def test_one_who_leaves_takes_the_panel_from_nobody(hub: Hub, tenant: str) -> None:
    counted, panels = Counted(), Panels(hub)
    first = asyncio.create_task(panels.made(counted.panel, tenant, Asked()))
    second = asyncio.create_task(panels.made(counted.panel, tenant, Asked()))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).document == Figure(number=1)


class Large(View):
    text: str


class OfPlace(Asked):
    place: int


async def test_what_is_kept_is_bounded_by_bytes_and_what_was_asked_for_last_stays(
    hub: Hub, tenant: str
) -> None:
    async def compute(_: Sight, asked: OfPlace) -> View:
        return Large(text=f"{asked.place}" * 1_000)

    panel, panels = Panel("large", "Large", Large, compute, "Large.", OfPlace), Panels(hub, most_bytes=3_500)
    first = await panels.made(panel, tenant, OfPlace(place=0))
    for place in range(1, 10):
        last = await panels.made(panel, tenant, OfPlace(place=place))
        assert panels.weight <= 3_500
    assert await panels.made(panel, tenant, OfPlace(place=9)) is last
    assert await panels.made(panel, tenant, OfPlace(place=0)) is not first


async def test_a_part_that_has_not_changed_is_not_sent_again(browser: httpx.AsyncClient, key: str) -> None:
    await log_in(browser, key)
    first = await browser.get("/dashboard/panels/health")
    (tag,) = re.findall(r'data-tag="(\w+)"', first.text)
    again = await browser.get("/dashboard/panels/health", headers={"If-None-Match": f'"{tag}"'})
    assert (again.status_code, again.content) == (304, b"")
    other = await browser.get("/dashboard/panels/health", headers={"If-None-Match": '"x"'})
    assert other.text == first.text


async def test_every_panel_has_the_same_json_for_sessions_and_for_keys_and_links_to_it(
    app: FastAPI, browser: httpx.AsyncClient, http: httpx.AsyncClient, key: str, tenant: str, fleet: Fleet
) -> None:
    await log_in(browser, key)
    mission_id = await submitted(http, inputs=["a"])
    await fleet.plan(mission_id)
    ids = {"task": f"{mission_id}.0", "mission": mission_id}
    paths = {path: said for path, said in app.openapi()["paths"].items() if path.startswith("/v1/panels/")}
    assert paths
    for path, said in paths.items():
        name = path.rpartition("/")[2]
        wanted = [one["name"] for one in said["get"]["parameters"] if one["required"]]
        asked = {one: ids[one] for one in wanted}
        data = await browser.get(f"/dashboard/panels/{name}.json", params=asked)
        assert data.status_code == 200, data.text
        by_key = await http.get(path, params=asked)
        assert data.json().keys() == by_key.json().keys()
        part = await browser.get(f"/dashboard/panels/{name}", params={"tenant": tenant, **asked})
        query = urlencode({"tenant": tenant, **asked}).replace("&", "&amp;")
        assert f'href="/dashboard/panels/{name}.json?{query}"' in part.text


async def test_a_key_of_the_fleet_may_ask_for_one_tenant(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    headers = {"Authorization": f"Bearer {await key_of(base, FLEET, *ALL)}"}
    assert (await http.get("/v1/panels/health", headers=headers)).status_code == 200
    assert (await http.get(f"/v1/panels/health?tenant={tenant}", headers=headers)).status_code == 200
    assert (await http.get("/v1/panels/health?tenant=nobody", headers=headers)).status_code == 404


async def test_files_may_be_kept_for_good_for_their_address_changes_with_them(
    http: httpx.AsyncClient,
) -> None:
    ours = assets()
    for path, file in ours.by_path.items():
        answer = await http.get(ours.address(path), headers={"Accept-Encoding": "identity"})
        assert answer.content == file.body
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["content-type"] == file.media_type
        packed = await http.get(ours.address(path), headers={"Accept-Encoding": "gzip"})
        assert (packed.headers["content-encoding"], packed.content) == ("gzip", file.body)
        tag = {"If-None-Match": answer.headers["etag"]}
        assert (await http.get(ours.address(path), headers=tag)).status_code == 304
    for wrong in (
        f"/dashboard/static/0000/{path}",
        f"/dashboard/static/{ours.version}/../assets.py",
        f"/dashboard/static/{ours.version}/vendor/README.md",
    ):
        assert (await http.get(wrong)).status_code in {303, 404}
