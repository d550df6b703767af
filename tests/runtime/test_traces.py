"""Traces: a mission's log lines and model calls are found in the trace that it was submitted within."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
import structlog

from chimera.agents.context import Context
from chimera.core import trace
from chimera.core.judge import LlmPolicy
from chimera.core.mission import MissionStatus
from chimera.core.task import Task
from chimera.runtime.base import open_base
from chimera.runtime.users import reconcile
from chimera.settings import Settings
from chimera.telemetry import logs
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.runtime.fleet import registry, running
from tests.store import drive

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GIVEN = f"00-{TRACE}-00f067aa0ba902b7-00"
JUDGED = Turn(text='{"score": 1.0, "feedback": ""}')


@pytest.fixture
def heard(settings: Settings) -> Iterator[io.StringIO]:
    """What this process logs, whole; everything is put back afterwards."""
    out, root = io.StringIO(), logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    chosen = settings.model_copy(update={"log_format": "json"})
    logs.configure(chosen, role="worker", stream=out, capture_print=False)
    yield out
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


async def says(task: Task, ctx: Context) -> Any:
    """A line of the log, and a call."""
    logging.getLogger("an agent").warning("it spoke within %s", ctx.traceparent)
    return await ctx.model.text("Say ok", max_tokens=20)


@pytest.mark.parametrize("given", [GIVEN, ""])
async def test_an_attempt_is_a_span_of_its_missions_trace_in_the_log_and_at_the_model(
    settings: Settings, tenant: str, heard: io.StringIO, given: str
) -> None:
    prices = {"model_price_input_usd": 1.0, "model_price_output_usd": 2.0}
    async with MeteredEndpoint([Turn(), JUDGED]) as endpoint:
        mission = drive.spec(
            agent="says",
            inputs=["x"],
            budget_usd=Decimal(1),
            judge=(LlmPolicy(rubric="any", allow_self_judging=True),),
        )
        base = await open_base(
            settings.model_copy(update={"model": "author", "model_url": endpoint.url, **prices})
        )
        await base.tenants.add(tenant)
        await reconcile(base)
        try:
            async with running(base, tenant, registry(says=says)) as fleet:
                await drive.submit(base, tenant, mission, traceparent=given)
                assert (await fleet.rest()).status is MissionStatus.COMPLETED
        finally:
            await base.tenants.remove(tenant)
            await base.close()
        attempt, judgement = (seen.headers["traceparent"] for seen in endpoint.seen)
    found = trace.of_mission(tenant, "m1", given)
    assert found.trace_id == TRACE or not given
    span = trace.span(tenant, "m1.0", 0, 1)
    assert attempt == found.parent(span)
    assert judgement == found.parent(trace.span(tenant, "judge", "m1.0", 0, 1))
    (line,) = [one for one in logs.parse(heard.getvalue().splitlines()) if "it spoke" in one.message]
    assert line.message == f"it spoke within {attempt}"
    assert (line.trace_id, line.span_id, line.task_id) == (found.trace_id, span, "m1.0")
