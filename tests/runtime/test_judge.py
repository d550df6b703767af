"""A judge that is asked to end: it finishes what it can, and keeps nobody waiting for the rest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from chimera.judging.boundaries import load_boundaries
from chimera.runtime import judge as judging
from chimera.runtime.base import Base
from chimera.runtime.judge import Judge
from chimera.store import keys
from chimera.store.signals import Wakeups
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.runtime.fleet import governing
from tests.store import drive

RUBRIC = [{"policy": "llm", "rubric": "Is it good?", "allow_self_judging": True}]


@asynccontextmanager
async def a_judge(base: Base, endpoint: MeteredEndpoint) -> AsyncIterator[Judge]:
    settings = base.settings.model_copy(
        update={
            "model": "judge",
            "model_url": endpoint.url,
            "model_api_key": SecretStr("k"),
            "lease_s": 300.0,
        }
    )
    async with Wakeups(base.blocking, keys.REVIEWS) as wakeups:
        judge = Judge(replace(base, settings=settings), "judge", wakeups, load_boundaries(None))
        yield judge
        await judge.stop()


async def test_a_judge_that_ends_commits_what_it_is_judging(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=list(range(20))))
    for claim in await drive.claim(stores, 20):
        await drive.hand_in(stores, claim)
    async with MeteredEndpoint() as endpoint, a_judge(base, endpoint) as judge:
        await judge.run_once()
        judge.start()
        await judge.stop()
    mission = await stores.missions.get("m1")
    assert (mission.counts["ACCEPTED"], mission.counts["REVIEW"]) == (20, 0)


async def test_a_judge_that_ends_gives_back_what_takes_too_long(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "DRAIN_S", 0.1)
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], judge=RUBRIC))
    (claim,) = await drive.claim(stores, 1)
    await drive.hand_in(stores, claim)
    async with MeteredEndpoint([Turn(never=True)]) as endpoint, a_judge(base, endpoint) as judge:
        judge.start()
        await judge.run_once()
    task = await stores.tasks.get(claim.task_id)
    assert (task.status, task.last_error, task.tallies) == ("REVIEW", "its judge ended", {})


async def test_a_paid_judgement_goes_out_under_its_tenants_own_key(
    base: Base, tenant: str, tmp_path: Path
) -> None:
    for name, key in ((tenant, "the tenant's key"), ("other", "another's key")):
        (tmp_path / "secrets" / name).mkdir(parents=True)
        (tmp_path / "secrets" / name / "MODEL_API_KEY").write_text(key, encoding="utf-8")
    settings = base.settings.model_copy(update={"tenant_secrets_dir": tmp_path / "secrets"})
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], judge=RUBRIC))
    (claim,) = await drive.claim(stores, 1)
    await drive.hand_in(stores, claim)
    async with (
        MeteredEndpoint() as endpoint,
        governing(base, tenant),
        a_judge(replace(base, settings=settings), endpoint) as judge,
    ):
        judge.start()
        await endpoint.arrived.wait()
    assert endpoint.seen[0].headers["authorization"] == "Bearer the tenant's key"
