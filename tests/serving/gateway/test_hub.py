from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import httpx
import pytest
from jsonschema import Draft202012Validator

from chimera.core.money import Window
from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app, leads
from chimera.serving.gateway.archive import RECORDER, RETENTION, archived, retained
from chimera.store.connection import connect_sync
from chimera.store.scripts import SyncScripts
from chimera.store.tasks import Heartbeat
from tests.serving.gateway.conftest import MISSION, Fleet, submitted
from tests.store import drive, history


async def test_agents_are_those_registered(http: httpx.AsyncClient) -> None:
    agents = (await http.get("/v1/agents")).json()["items"]
    assert [agent["name"] for agent in agents] == ["echo", "llm"]
    assert agents[0]["options_schema"]["properties"]["times"]["minimum"] == 1


async def test_spend_shows_limits(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    await base.of(tenant).ledger.set_limits({Window.DAY: 5_000_000}, by="test")
    assert (await http.get("/v1/spend")).json() == {
        "tenant": tenant,
        "limits_microusd": {"day": 5_000_000},
        "settled_microusd": {},
        "held_microusd": 0,
    }


async def test_the_fleet_is_the_callers_own(http: httpx.AsyncClient, base: Base, tenant: str) -> None:
    def beat() -> None:
        with connect_sync(base.settings) as redis:
            for of, worker in ((tenant, "mine"), (f"{tenant}-x", "theirs")):
                Heartbeat(SyncScripts(redis), of, worker, pid=1).renew([], lease_s=30, slots=16, busy=3)

    await asyncio.to_thread(beat)
    fleet = (await http.get("/v1/fleet")).json()
    assert [worker["worker"] for worker in fleet["workers"]] == ["mine"]
    assert (fleet["slots"], fleet["busy"], fleet["workers"][0]["draining"]) == (16, 3, False)
    assert {name: health["ok"] for name, health in fleet["hub"].items()} == dict.fromkeys(
        ("redis", "orchestrator", "judge", "governor"), True
    )


async def test_the_published_schema_takes_what_submit_takes(http: httpx.AsyncClient) -> None:
    schemas = (await http.get("/v1/schema/mission")).json()
    for name in ("spec", "file"):
        Draft202012Validator.check_schema(schemas[name])
        Draft202012Validator(schemas[name]).validate(MISSION)


async def test_alive_and_version_need_no_key(http: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/readyz", "/version", "/metrics", "/openapi.json"):
        assert (await http.get(path, headers={"Authorization": ""})).status_code == 200


async def test_ready_is_503_and_names_the_part_that_is_ill(base: Base) -> None:
    async def ill() -> Health:
        return Health(ok=False, detail="the judge is silent")

    app = create_app(Hub(base, {"judge": ill, "orchestrator": leads(base.election("nobody-yet"))}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as http:
        response = await http.get("/readyz")
        assert response.status_code == 503
        parts = response.json()["parts"]
        assert parts["judge"]["detail"] == "the judge is silent"
        assert parts["orchestrator"]["ok"] is False
        assert parts["redis"]["ok"] is True
        assert (await http.get("/healthz")).status_code == 200


async def test_an_archive_that_cannot_be_written_is_told_and_the_hub_stays_ready(
    base: Base, tenant: str
) -> None:
    await history.write(base, tenant, 7)
    app = create_app(Hub(base, {RECORDER: archived(base), RETENTION: retained(base)}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as http:
        assert (await http.get("/readyz")).json()["parts"][RECORDER] == {"ok": True, "detail": ""}
        since = datetime(2026, 1, 2, tzinfo=UTC)
        await base.troubles.report(tenant, "No space left on device", since=since, failures=4)
        try:
            response = await http.get("/readyz")
            metrics = (await http.get("/metrics")).text
        finally:
            await base.troubles.clear(tenant)
    assert response.status_code == 200
    part = response.json()["parts"][RECORDER]
    assert part["ok"] is False
    assert "2026-01-02" in part["detail"]
    assert "No space left on device" in part["detail"]
    assert tenant not in part["detail"], "whoever asks needs no key"
    assert f'chimera_recorder_unarchived{{tenant="{tenant}"}} 7.0' in metrics
    assert f'chimera_archive_failures{{tenant="{tenant}"}} 4.0' in metrics


async def test_missions_that_cannot_be_archived_are_told_and_the_hub_stays_ready(
    base: Base, tenant: str
) -> None:
    await drive.over(base, tenant, inputs=1)
    app = create_app(Hub(base, {RETENTION: retained(base)}))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub") as http:
        assert (await http.get("/readyz")).json()["parts"][RETENTION] == {"ok": True, "detail": ""}
        since = datetime(2026, 1, 2, tzinfo=UTC)
        await base.retention_troubles.report(tenant, "No space left on device", since=since, failures=4)
        try:
            assert (await archived(base)()).ok, "the recorder's archive is another matter"
            response = await http.get("/readyz")
            metrics = (await http.get("/metrics")).text
        finally:
            await base.retention_troubles.clear(tenant)
    assert response.status_code == 200
    part = response.json()["parts"][RETENTION]
    assert part["ok"] is False
    assert "cannot be archived since 2026-01-02" in part["detail"]
    assert tenant not in part["detail"], "whoever asks needs no key"
    assert f'chimera_missions_finished{{tenant="{tenant}"}} 1.0' in metrics
    assert f'chimera_retention_failures{{tenant="{tenant}"}} 4.0' in metrics


async def test_a_leader_makes_its_role_well(base: Base) -> None:
    await base.election("probed").lead("replica-1", ttl_s=30)
    assert await leads(base.election("probed"))() == Health(ok=True, detail="replica-1")


async def test_metrics_count_requests_by_route_and_not_by_path(http: httpx.AsyncClient) -> None:
    await http.get(f"/v1/missions/{await submitted(http)}")
    text = (await http.get("/metrics")).text
    line = 'chimera_http_requests_total{code="200",method="GET",route="/v1/missions/{mission_id}"} 1.0'
    assert line in text
    assert 'chimera_http_seconds_count{route="/v1/missions"} 1.0' in text


@pytest.mark.parametrize("path", ["/v1/nothing", "/nothing"])
async def test_an_unknown_path_is_a_problem_that_names_the_docs(http: httpx.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert "/docs" in response.json()["detail"]
    assert (await http.put("/v1/missions")).status_code == 405


async def test_the_metrics_show_how_high_priority_fared(
    http: httpx.AsyncClient, fleet: Fleet, base: Base, tenant: str
) -> None:
    assert "chimera_slo_seconds_bucket" not in (await http.get("/metrics")).text
    mission_id = await submitted(http, priority="high")
    await base.redis.hset(fleet.stores.missions.keys.of("mission", mission_id), "slo_us", 0)
    await fleet.do(mission_id)
    text = (await http.get("/metrics")).text
    assert f'chimera_slo_seconds_bucket{{le="+Inf",tenant="{tenant}"}} 2.0' in text
    assert f'chimera_slo_breaches_total{{tenant="{tenant}"}} 2.0' in text
