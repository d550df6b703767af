"""Estimates against what really happens: no call reserves, no mission spends, more than the worst said."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest
from pydantic_core import to_json

from chimera.agents.context import Context
from chimera.agents.llm import llm
from chimera.core.estimate import JUDGE, sizes_of
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.errors import InvalidRequest
from chimera.runtime.base import open_base
from chimera.runtime.estimating import estimated
from chimera.runtime.users import reconcile
from chimera.settings import Settings
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.runtime.fleet import registry, running
from tests.store import drive

POOR, GOOD = Turn('{"score": 0.1, "feedback": "longer"}'), Turn('{"score": 0.99, "feedback": ""}')
INPUT = {"text": "Die Möwe 🐦 fliegt " * 40}


async def asks(task: Task, ctx: Context) -> Any:
    """What `llm` does, under this test's name: the function itself stays the fleet's."""
    return await llm(task, ctx)


async def test_no_real_call_reserves_more_than_the_estimates_worst(settings: Settings, tenant: str) -> None:
    mission = drive.spec(
        goal="Say what it is about",
        agent="llm",
        inputs=[INPUT],
        options={"prompt": "{goal}: {input.text} and once more {input}", "max_tokens": 64},
        judge=[{"policy": "llm", "rubric": "Is it long?"}],
        budget_usd=Decimal(10),
    )
    async with MeteredEndpoint([Turn("A bird."), POOR, Turn("A large bird."), GOOD]) as endpoint:
        prices = {"model_price_input_usd": 3.0, "model_price_output_usd": 7.0, "model_retries": 0}
        names = {"model": "author", "judge_model": "critic", "model_url": endpoint.url}
        base = await open_base(settings.model_copy(update={**names, **prices}))
        await base.tenants.add(tenant)
        await reconcile(base)
        try:
            sizes = sizes_of([len(to_json(INPUT))])
            found = await estimated(base, tenant, mission, sizes)
            async with running(base, tenant, registry(llm=asks)) as fleet:
                await fleet.submit(mission)
                ended = await fleet.rest()
            assert ended.status is MissionStatus.COMPLETED
            assert endpoint.calls == 4
            held: dict[str, list[int]] = defaultdict(list)
            async for _, event in base.of(tenant).recorder.read():
                if event.kind == "spend.held":
                    held[event.details["agent"]].append(event.details["amount"])
        finally:
            await base.tenants.remove(tenant)
            await base.close()
    parts = {part.agent: part for part in found.parts}
    assert {agent: part.model for agent, part in parts.items()} == {"llm": "author", JUDGE: "critic"}
    calls = {"llm": 3, JUDGE: 3 * 3}  # attempts; with every failure to judge
    for agent, amounts in held.items():
        worst = parts[agent].worst_microusd
        assert worst is not None
        assert len(amounts) == 2
        assert max(amounts) <= worst / calls[agent]
        # A bound that nothing comes near would say nothing.
        assert worst / calls[agent] < 60 * max(amounts)
    assert ended.settled_microusd <= found.worst_microusd


async def test_a_model_without_a_price_is_no_estimate(settings: Settings, tenant: str) -> None:
    unpriced = {"model": "nobodys", "model_url": "http://127.0.0.1:9/v1", "unpriced": "refuse"}
    base = await open_base(settings.model_copy(update=unpriced))
    try:
        with pytest.raises(InvalidRequest, match="cannot be estimated: no price is known"):
            await estimated(base, tenant, drive.spec(agent="llm"), sizes_of([1]))
    finally:
        await base.close()
