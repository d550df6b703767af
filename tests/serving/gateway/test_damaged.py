"""One record that cannot be read: it is named, and hides no other of its list."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from tests.serving.gateway.conftest import Fleet, submitted
from tests.serving.gateway.test_archived import archive, finished

HARMS = {
    "a specification that is no JSON": ("mission", "spec", "{no such thing"),
    "a context that is no object": ("mission", "context", "5"),
    "a status that there is not": ("mission", "status", "LOST"),
    "a count that is no number": ("counts", "READY", "many"),
    "a string where a hash should be": ("spend", "", "what is this"),
}


async def harm(base: Base, tenant: str, identity: str, kind: str, field: str, value: str) -> None:
    """Write something else where a record is."""
    key = base.of(tenant).missions.keys.of(kind, identity)
    await (base.redis.hset(key, field, value) if field else base.redis.set(key, value))


def ids(page: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Which missions or reviews a page has, and which it names as damaged."""
    items = [one.get("task_id", one["mission_id"]) for one in page["items"]]
    return items, [one["id"] for one in page["damaged"]]


@pytest.mark.parametrize("what", HARMS)
async def test_a_damaged_mission_is_named_in_the_list_of_the_others(
    what: str, http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    first, second, third = [await submitted(http) for _ in range(3)]
    await harm(base, tenant, second, *HARMS[what])
    with capture_logs() as logs:
        for _ in range(3):
            page = (await http.get("/v1/missions")).json()
            assert ids(page) == ([third, first], [second])
    assert page["damaged"][0]["detail"]
    said = [line for line in logs if line["event"] == "mission.damaged"]
    assert [(one["service"], one["tenant"], one["mission_id"]) for one in said] == [
        ("gateway", tenant, second)
    ]
    assert (await http.get(f"/v1/missions/{second}")).status_code == 500, "who asks for it alone is told"


async def test_a_list_of_missions_goes_on_behind_damaged_ones(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    made = [await submitted(http) for _ in range(7)]
    for at in (1, 2, 6):
        await harm(base, tenant, made[at], "mission", "inputs", "some")
    items, damaged, after = list[str](), list[str](), ""
    while after is not None:
        page = (await http.get("/v1/missions", params={"limit": 2, "after": after})).json()
        readable, named = ids(page)
        items += readable
        damaged += named
        after = page["next"]
    assert items == [made[at] for at in (5, 4, 3, 0)]
    assert damaged == [made[at] for at in (6, 2, 1)]


async def test_a_list_without_damage_says_so(http: httpx.AsyncClient) -> None:
    mission_id = await submitted(http)
    assert ids((await http.get("/v1/missions")).json()) == ([mission_id], [])


async def test_a_damaged_task_is_named_in_the_inbox_of_the_others(
    http: httpx.AsyncClient, base: Base, fleet: Fleet, tenant: str
) -> None:
    mission_id = await submitted(http, inputs=list("abc"))
    await fleet.do(mission_id, Decision.ESCALATE)
    await harm(base, tenant, f"{mission_id}.1", "task", "result", "{no such thing")
    with capture_logs() as logs:
        page = (await http.get("/v1/reviews")).json()
    assert ids(page) == ([f"{mission_id}.0", f"{mission_id}.2"], [f"{mission_id}.1"])
    (said,) = [line for line in logs if line["event"] == "mission.damaged"]
    assert (said["mission_id"], said["task_id"]) == (mission_id, f"{mission_id}.1")


@pytest.mark.parametrize("gone", [True, False])
async def test_tasks_of_a_damaged_mission_are_named_in_the_inbox_of_the_others(
    gone: bool, http: httpx.AsyncClient, base: Base, fleet: Fleet, tenant: str
) -> None:
    good, bad = [await submitted(http) for _ in range(2)]
    for mission_id in (bad, good):
        await fleet.do(mission_id, Decision.ESCALATE)
    if gone:
        await base.redis.delete(base.of(tenant).missions.keys.of("mission", bad))
    else:
        await harm(base, tenant, bad, "mission", "spec", "[]")
    page = (await http.get("/v1/reviews")).json()
    assert ids(page) == ([f"{good}.0", f"{good}.1"], [f"{bad}.0", f"{bad}.1"])


async def test_a_damaged_file_is_named_in_the_list_of_the_archived(
    http: httpx.AsyncClient, base: Base, fleet: Fleet
) -> None:
    made = sorted([await finished(http, fleet) for _ in range(3)], reverse=True)
    await archive(fleet, *made)
    folder = Path(base.settings.blob_location) / fleet.tenant / "missions"
    (file,) = folder.rglob(f"{made[1]}.*")
    file.write_bytes(b"damaged")
    page = (await http.get("/v1/missions?archived=true")).json()
    assert ids(page) == ([made[0], made[2]], [made[1]])
    first = (await http.get("/v1/missions?archived=true&limit=2")).json()
    assert ids(first) == ([made[0]], [made[1]])
    rest = (await http.get("/v1/missions", params={"archived": "true", "after": first["next"]})).json()
    assert ids(rest) == ([made[2]], [])


async def test_a_damaged_mission_that_has_a_file_too_hides_no_archived_one(
    http: httpx.AsyncClient, base: Base, fleet: Fleet
) -> None:
    """It came back, or its leader died, after its dossier was written: it is here, and named among those."""
    here, gone = [await finished(http, fleet) for _ in range(2)]
    await archive(fleet, here, gone)
    await base.redis.set(fleet.stores.missions.keys.of("mission", here), "what is this")
    assert ids((await http.get("/v1/missions?archived=true")).json()) == ([gone], [])
