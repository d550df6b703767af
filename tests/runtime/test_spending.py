"""Reports of what real calls cost: their accounts reach recorder and report whole, and none is told twice."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from chimera.agents.context import Context
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.core.usage import By
from chimera.errors import InvalidRequest
from chimera.runtime.auditing import audit
from chimera.runtime.base import Base, open_base
from chimera.runtime.spending import Question, report
from chimera.runtime.users import reconcile
from chimera.settings import Settings
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.runtime.fleet import registry, running
from tests.store import drive, history, paid

USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 40,
    "total_tokens": 140,
    "prompt_tokens_details": {"cached_tokens": 30},
    "completion_tokens_details": {"reasoning_tokens": 15},
}
ANSWER = Turn(
    raw=json.dumps(
        {
            "id": "chatcmpl-42",
            "object": "chat.completion",
            "created": 1,
            "model": "author",
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}
            ],
            "usage": USAGE,
        }
    )
)


async def writer(task: Task, ctx: Context) -> Any:
    """One call; its first attempt fails after it."""
    said = await ctx.model.text("Say ok", max_tokens=50)
    if ctx.attempt == 1 and task.input == "fails at first":
        raise RuntimeError("after the call")
    return said


async def test_a_calls_account_reaches_recorder_and_report_and_a_kept_reply_costs_nothing(
    settings: Settings, tenant: str
) -> None:
    async with MeteredEndpoint([ANSWER]) as endpoint:
        prices = {"model_price_input_usd": 1.0, "model_price_output_usd": 2.0, "worker_hour_usd": 3_600.0}
        mine = settings.model_copy(update={"model": "author", "model_url": endpoint.url, **prices})
        base = await open_base(mine)
        await base.tenants.add(tenant)
        await reconcile(base)
        try:
            async with running(base, tenant, registry(writer=writer)) as fleet:
                await fleet.submit(
                    drive.spec(agent="writer", inputs=["x", "fails at first"], budget_usd=Decimal(1))
                )
                mission = await fleet.rest()
            assert mission.status is MissionStatus.COMPLETED
            stores = base.of(tenant)
            charges = [
                json.loads(event.details["charge"])
                async for _, event in stores.recorder.read()
                if event.kind == "spend.settled"
            ]
            assert endpoint.calls == len(charges) == 2, "the third attempt's reply was kept"
            for charge in charges:
                assert charge["provider_request_id"] == "chatcmpl-42"
                assert charge["price_version"] == "environment:1.0/2.0"
                assert (charge["input_tokens"], charge["cached_tokens"]) == (100, 30)
                assert (charge["output_tokens"], charge["reasoning_tokens"]) == (40, 15)
                assert charge["cost_microusd"] == 100 * 1 + 40 * 2
            found = await report(base, tenant, Question(by=(By.AGENT, By.MODEL)))
            (row,) = found.rows
            assert row.keys == {By.AGENT: "writer", By.MODEL: "author"}
            assert (row.cost_microusd, row.calls, row.estimated) == (360, 2, 0)
            tokens = (row.input_tokens, row.cached_tokens, row.output_tokens, row.reasoning_tokens)
            assert tokens == (200, 60, 80, 30)
            assert found.settled_microusd["lifetime"] == 360
            assert (await audit(stores, tenant)).sound
            assert found.workers is not None
            # Hours are told to a millionth.
            assert found.workers.cost_microusd == pytest.approx(found.workers.hours * 3_600e6, abs=2_000)
            assert found.workers.hours > 0
        finally:
            await base.tenants.remove(tenant)
            await base.close()


async def test_a_report_is_the_same_from_the_archive(base: Base, tenant: str) -> None:
    stores, claims = await paid.leased(base, tenant)
    await paid.call(stores, claims[0], 40)
    await paid.call(stores, claims[1], 60, model="small")
    question = Question(by=(By.DAY, By.MODEL, By.MISSION))
    before = await report(base, tenant, question)
    settings = base.settings.model_copy(update={"recorder_live": 0})
    await history.archive(base, tenant, history.archivist(replace(base, settings=settings)))
    after = await report(base, tenant, question)
    assert after.rows == before.rows
    assert [row.cost_microusd for row in after.rows] == [60, 40]


async def test_a_report_beside_a_fleet_at_work_is_of_one_instant(base: Base, tenant: str) -> None:
    stores, claims = await paid.leased(base, tenant)

    async def spend() -> None:
        for _ in range(200):
            await paid.call(stores, claims[0], 3)

    spending = asyncio.create_task(spend())
    while not spending.done():
        found = await report(base, tenant, Question())
        assert found.total.cost_microusd == found.settled_microusd["lifetime"]
    await spending


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [(timedelta(days=500), timedelta(0), "400 days"), (timedelta(1), timedelta(2), "must be before")],
)
def test_a_span_that_is_none_is_refused(since: timedelta, until: timedelta, said: str) -> None:
    now = datetime.now(UTC)
    with pytest.raises(InvalidRequest, match=said):
        Question(since=now - since, until=now - until).span(now)


def test_a_span_ends_now_at_the_latest() -> None:
    now = datetime.now(UTC)
    since, until = Question(until=now + timedelta(days=9)).span(now)
    assert (until, until - since) == (now, timedelta(days=30))


async def test_a_report_reads_of_agents_and_models_those_that_have_a_limit(base: Base, tenant: str) -> None:
    """A thousand agents, each with its hundreds of windows, are no step of Redis' that others wait for."""
    stores, claims = await paid.leased(base, tenant)
    for agent in ("a", "b", "limited"):
        await paid.call(stores, claims[0], 40, agent=agent)
    await stores.ledger.set_limits({"agent/limited/day": 500, "agent/new/day": 9}, by="o")
    standing = await stores.spending.standing()
    assert set(standing.subjects) == {"", "agent/limited", "agent/new"}
    levels = {one.level: one.left_microusd for one in (await report(base, tenant, Question())).levels}
    assert levels["agent/limited/day"] == 460
    assert levels["agent/new/day"] == 9
