"""Missions in the browser: found, watched live, replayed, paused, cancelled, redriven; by keyboard and on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Page, expect

from tests.dashboard import crowd
from tests.e2e.conftest import Open, Scheme, Site, fits, shot
from tests.store import drive

TREE = {"strategy": "map_reduce"}
DAG = {
    "strategy": "dag",
    "nodes": [
        {"name": "read", "input": 1},
        {"name": "left", "depends_on": ["read"], "agent": "echo"},
        {"name": "right", "depends_on": ["read"]},
        {"name": "join", "depends_on": ["left", "right"]},
        {"name": "print", "depends_on": ["join"]},
    ],
}


def mission(site: Site, mission_id: str = "m1") -> str:
    return f"missions/{mission_id}?tenant={site.tenant}"


async def test_first_look(page: Page, site: Site) -> None:
    stores = await crowd.make(site.base, site.tenant, drive.spec(inputs=[], plan=DAG, goal="Bake the bread"))
    await crowd.turn(stores)
    await site.log_in(page, mission(site), who=site.tenant)
    await expect(page.locator("#panel-mission-scene .graph a")).to_have_count(5)
    await shot(page, "mission-dag")
