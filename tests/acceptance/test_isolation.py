"""Two tenants on one real fleet: what agents of one reach of the other's, and where secrets end up."""

from __future__ import annotations

import asyncio
import secrets
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.settings import load
from chimera.store.apikeys import ApiKeys
from chimera.store.connection import connect
from chimera.store.tasks import TaskStore
from chimera.store.tenants import TenantStore
from tests.acceptance.conftest import LiveFleet, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]
OTHER = "other"


def planted(owner: str) -> str:
    """A secret that can be told from all else."""
    return f"planted-{owner}-{secrets.token_hex(8)}"


def keep(directory: Path, tenant: str, name: str, value: str) -> None:
    """A tenant's secret, where the hub looks for it."""
    path = directory / tenant / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value, encoding="utf-8")


async def workers(redis_url: str, tenant: str) -> dict[str, Any]:
    """A tenant's live workers."""
    redis = connect(load(redis_url=redis_url))
    try:
        return dict(await TaskStore(redis, tenant).workers())
    finally:
        await redis.aclose()


async def let_in(redis_url: str, tenant: str, key: str) -> None:
    """A tenant with a key."""
    redis = connect(load(redis_url=redis_url))
    try:
        await TenantStore(redis).add(tenant)
        await ApiKeys(redis).let_in(tenant, key)
    finally:
        await redis.aclose()


def holding(directory: Path, text: str, *, but: set[Path]) -> list[Path]:
    """Files below a directory with this text."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file() and not any(one == path or one in path.parents for one in but):
            found += [path] if text.encode() in path.read_bytes() else []
    return found


def test_agents_of_one_tenant_reach_nothing_of_another(fleet: LiveFleet) -> None:
    kept, state = Path(fleet.environment["CHIMERA_TENANT_SECRETS_DIR"]), fleet.state
    theirs, mine = planted("b"), planted("a")
    keep(kept, OTHER, "MODEL_API_KEY", theirs)
    keep(kept, "local", "CRM_TOKEN", mine)
    redis_url = fleet.record.redis_url
    key = f"chi_{planted('b')}"
    asyncio.run(let_in(redis_url, OTHER, key))
    rests = {
        "goal": "Rest.",
        "budget_usd": "0.01",
        "agent": "square",
        "inputs": [1],
        "options": {"rest_s": 100},
    }
    asked = httpx.post(
        f"{fleet.record.url}/v1/missions", json=rests, headers={"Authorization": f"Bearer {key}"}, timeout=30
    )
    assert asked.status_code == 201, asked.text

    def serves() -> int | None:
        found = asyncio.run(workers(redis_url, OTHER))
        busy = [int(said["pid"]) for said in found.values() if int(said.get("busy", 0))]
        return busy[0] if busy else None

    assert eventually(serves), "the other tenant has a worker at work"
    neighbour = serves()
    paths = [
        *map(
            str, (state.path, state.api_key, state.ray_token, state.fleet_file, state.secrets / "redis_url")
        ),
        *map(str, (state.logs, state.ray_temp / "session_latest" / "logs", state.short, kept)),
        str(kept / OTHER / "MODEL_API_KEY"),
        "/dev/shm",
    ]
    given = {"paths": paths, "neighbour": neighbour, "socket": str(state.door)}
    mission = fleet.submit(agent="steal", inputs=[given])
    fleet("mission", "watch", mission).ok()
    (found,) = [one["result"] for one in fleet("mission", "results", mission, "-o", "json").ok().lines]
    looked_at = {"environment", "own environ", "core files", "others in memory", "mine in memory"}
    looked_at |= {"others among objects", "ray", "secrets", "shown"}
    stolen = {name: said for name, said in found.items() if name not in looked_at and said[:7] != "refused"}
    assert stolen == {}
    assert found["others in memory"] == found["others among objects"] == 0
    assert found["ray"] == []
    assert found["mine in memory"] > 0, "what is its own it has"
    for variable in ("CHIMERA_API_KEY", "CHIMERA_REDIS", "RAY_AUTH"):
        assert variable not in found["environment"] + found["own environ"]

    ray = {"gcs": fleet.record.ray_address, "dashboard": fleet.record.dashboard_url}
    mission = fleet.submit(agent="ask-ray", inputs=[ray])
    fleet("mission", "watch", mission).ok()
    (answers,) = [one["result"] for one in fleet("mission", "results", mission, "-o", "json").ok().lines]
    assert {name: said for name, said in answers.items() if said[:7] != "refused"} == {}

    mission = fleet.submit(agent="leak", inputs=[{"redis": f"redis://u:{mine}@h:1/0", "key": "CRM_TOKEN"}])
    assert fleet("mission", "watch", mission).code != 0
    shown = fleet("task", "get", f"{mission}.0", "-o", "json").ok().document
    assert "cannot call with ***" in shown["last_error"]
    assert eventually(lambda: any("cannot call" in line for line in fleet.written("out")))

    token = state.ray_token.read_text(encoding="utf-8").strip()
    for listing in ("actors", "tasks", "workers", "runtime_envs"):
        listed = httpx.get(
            f"{fleet.record.dashboard_url}/api/v0/{listing}?detail=1&limit=1000",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
        )
        assert listed.status_code == 200, listed.text
        assert theirs not in listed.text
        assert mine not in listed.text
    # Redis' own files among them: whatever any record holds stands there. A result is the tenant's own data,
    # and the input of the mission above names its URL.
    for directory in (state.path, state.short):
        assert holding(directory, theirs, but={state.secrets}) == []
    assert holding(state.short, mine, but=set()) == []
