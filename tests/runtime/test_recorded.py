"""What the recorder says of calls of models and tools, of results and of proposals."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from chimera.agents.context import Context
from chimera.agents.models.client import request_text
from chimera.agents.models.endpoint import Ask
from chimera.agents.toolcalls import MOST_CALLS, OTHERS
from chimera.core.action import HttpAction
from chimera.core.event import Event
from chimera.core.task import Task
from chimera.runtime.base import Base
from chimera.store.ledger import Reservation, Settlement
from chimera.store.tasks import Ended, HandedIn
from chimera.telemetry.redaction import conceal
from tests.runtime.fleet import registry, running
from tests.runtime.provoking import SECRET, every, worked
from tests.runtime.receiver import Receiver
from tests.store import drive


def of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event.kind == kind]


def hashed(text: str) -> dict[str, Any]:
    return {"bytes": len(text.encode()), "sha256": hashlib.sha256(text.encode()).hexdigest()}


async def test_a_call_of_a_model_is_told_with_what_it_took_and_hashes_of_what_was_said(
    world: Base, tenant: str, receiver: Receiver
) -> None:
    events = await worked(world, tenant, receiver)
    (called,) = of(events, "model.called")
    (settled,) = of(events, "spend.settled")
    assert called.seq == settled.seq - 1, "in the step that settles it"
    details = called.details
    assert (details["model"], details["input_tokens"], details["output_tokens"]) == ("small", 10, 2)
    assert (details["cost_microusd"], details["hold"]) == (settled.details["cost"], settled.details["hold"])
    assert details["latency_ms"] >= 0
    assert details["provider_request_id"]
    ask = Ask(
        prompt="How is the weather?",
        system=None,
        schema=None,
        max_tokens=20,
        temperature=None,
        seed=None,
        timeout_s=1,
        idempotency_key="",
    )
    assert details["request"] == hashed(request_text(ask))
    assert details["reply"] == hashed("sunny")
    assert [(one["sent"], "429" in one["error"]) for one in details["tries"]] == [(False, True)]
    account = json.loads(settled.details["charge"])
    assert account["cost_microusd"] == details["cost_microusd"]
    assert not {"request", "reply", "tries", "called"} & account.keys(), "the account stays as it was"
    assert (called.task_id, called.mission_id) == ("m1.0", "m1")


async def test_tools_results_and_proposals_are_told_by_size_and_hash(
    world: Base, tenant: str, receiver: Receiver
) -> None:
    events = await worked(world, tenant, receiver)
    search, post = (event.details for event in of(events, "tool.called"))
    assert search["arguments"] == hashed(f'{{"query":"weather","token":"{SECRET}"}}')
    assert search["result"] == hashed('{"found":"sunny"}')
    assert (post["name"], post["error"], "result" in post) == ("post", "OSError: no route", False)
    (submitted,) = of(events, "task.submitted")
    assert submitted.details["result"] == hashed('{"said":"sunny"}')
    (proposed,) = of(events, "action.proposed")
    action = HttpAction(url=receiver.url, body={"said": "sunny"}).model_dump_json()
    assert proposed.details == {"index": 0, "action": hashed(action)}
    assert "sunny" not in str([event.details for event in events])


async def test_payloads_are_kept_where_it_is_asked_for_bounded_and_redacted(
    world: Base, tenant: str, receiver: Receiver
) -> None:
    conceal(SECRET)
    opted = world.settings.model_copy(update={"recorder_payloads": 40})
    events = await worked(replace(world, settings=opted, _stores={}), tenant, receiver)
    (called,) = of(events, "model.called")
    assert called.details["reply"]["text"] == "sunny"
    assert len(called.details["request"]["text"]) == 40
    assert called.details["request"]["cut"] is True
    search, _ = of(events, "tool.called")
    assert search.details["arguments"]["text"] == '{"query":"weather","token":"***"}'
    (submitted,) = of(events, "task.submitted")
    assert submitted.details["result"]["text"] == '{"said":"sunny"}'
    assert SECRET not in str([event.details for event in events])


async def test_an_attempt_tells_of_so_many_tool_calls_and_of_more_how_many(base: Base, tenant: str) -> None:
    async def busy(task: Task, ctx: Context) -> Any:
        for number in range(150):
            with ctx.tool("look", number) as call:
                call.result = number
        raise RuntimeError("no")

    async with running(base, tenant, registry(busy=busy)) as fleet:
        await fleet.submit(drive.spec(agent="busy", inputs=["x"], max_attempts=1))
        await fleet.rest()
    told = [event.details for event in of(await every(base.of(tenant)), "tool.called")]
    assert len(told) == MOST_CALLS
    assert told[-1] == {"name": OTHERS, "calls": 150 - (MOST_CALLS - 1)}


@pytest.mark.parametrize(
    "told", ["[", "7", '{"tools":7,"actions":[1,[]]}', '{"tools":[' + "[" * 2000, "x" * 2_000_000]
)
async def test_a_worker_may_say_what_it_likes_and_stops_nothing(base: Base, tenant: str, told: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2]))
    first, second = await drive.claim(stores, 2)
    handed = HandedIn(first.task_id, first.token, 1, '"done"', (), told)
    assert await stores.tasks.submit("w1", [handed], max_stale=5) == [None]
    ended = Ended(second.task_id, second.token, "error", "no", 0, told)
    assert await stores.tasks.end("w1", [ended]) == ["READY"]
    held = Reservation("h", first.task_id, 0, 400, 60)
    assert (await stores.ledger.reserve([held], term=drive.TERM, by="g"))[0] is not None
    kinds = [event.kind for event in await every(stores)]
    assert kinds.count("task.submitted") == kinds.count("task.erred") == 1


async def test_a_call_that_cannot_be_read_is_settled_all_the_same(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec())
    (one,) = await drive.claim(stores)
    for number, said in enumerate(("[", "7", '{"a":')):
        held = Reservation(f"h{number}", one.task_id, one.token, 400, 60)
        assert await stores.ledger.reserve([held], term=drive.TERM, by="g") == [None]
        paid = Settlement(f"h{number}", 300, "", 0, "", "", said)
        assert await stores.ledger.settle([paid], term=drive.TERM, by="g", **drive.KEEP) == [None]
    assert len(of(await every(stores), "spend.settled")) == 3
