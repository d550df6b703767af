"""Chat completions for any framework: OpenAI's own client, and a real gateway, governor and Redis."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from pydantic import SecretStr

from chimera.agents.context import Context
from chimera.agents.models.chat import FRAME_TOKENS, parse
from chimera.core.money import Window
from chimera.core.scope import Scope
from chimera.core.task import Task
from chimera.runtime import chats as chats_module
from chimera.runtime.base import Base, base_of
from chimera.runtime.chats import Payer
from chimera.serving.local.listener import Listener
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.replicas.gateway import answering
from tests.agents.endpoint import Turn
from tests.keys import key_of
from tests.runtime.fleet import governing, registry, running
from tests.serving.gateway.chatting import ASKED, INPUT, MODEL, OUTPUT, WEATHER, chatting, until
from tests.store import drive

ROOT = Path(__file__).parents[3]
PER_CALL = 10 * INPUT + 2 * OUTPUT
"""What the scripted model's usual answer costs."""


async def test_a_completion_is_held_at_its_worst_case_and_charged_what_it_cost(
    base: Base, tenant: str
) -> None:
    async with chatting(base, tenant) as site:
        task = await site.claim()
        client = site.client(task=task.task_id)
        raw = await client.chat.completions.with_raw_response.create(
            model=MODEL, messages=ASKED, max_tokens=7
        )
        answer = raw.parse()
        assert answer.choices[0].message.content == "ok"
        assert raw.headers["x-chimera-cost-microusd"] == str(PER_CALL)
        (charge,) = await site.charges()
        (held,) = await site.events("spend.held")
        (seen,) = site.endpoint.seen
        assert raw.headers["x-chimera-hold"] == held.details["hold"]
        assert seen.body["max_tokens"] == 7
        size = len(json.dumps(seen.body, separators=(",", ":")))
        assert held.details["amount"] == (size + FRAME_TOKENS) * INPUT + 7 * OUTPUT
        assert held.task_id == task.task_id
        assert charge["cost_microusd"] == await site.settled() == PER_CALL
        assert charge["provider_request_id"] == answer.id
        assert (await site.stores.tasks.get(task.task_id)).spent_microusd == PER_CALL


async def test_a_completion_goes_out_under_its_tenants_own_key(
    base: Base, tenant: str, tmp_path: Path
) -> None:
    for name, key in ((tenant, "the tenant's key"), ("other", "another's key")):
        (tmp_path / "secrets" / name).mkdir(parents=True)
        (tmp_path / "secrets" / name / "MODEL_API_KEY").write_text(key, encoding="utf-8")
    async with chatting(base, tenant, tenant_secrets_dir=tmp_path / "secrets") as site:
        client = await site.paying()
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert site.endpoint.seen[0].headers["authorization"] == "Bearer the tenant's key"


async def test_a_stream_comes_piece_by_piece_and_is_charged_its_usage(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(text="one two three")]) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        chunks = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "one two three "
        assert all(chunk.usage is None for chunk in chunks), "it was not asked for"
        assert site.endpoint.seen[0].body["stream_options"] == {"include_usage": True}
        assert site.endpoint.seen[0].body["max_tokens"] == 20, (
            "CHIMERA_MODEL_MAX_TOKENS: never without a bound"
        )
        (charge,) = await site.charges()
        assert (charge["cost_microusd"], charge["estimated"]) == (PER_CALL, False)
        assert charge["provider_request_id"] == chunks[0].id


async def test_a_streams_usage_is_its_clients_who_asks_for_it(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(
            model=MODEL, messages=ASKED, stream=True, stream_options={"include_usage": True}
        )
        last = [chunk async for chunk in stream][-1]
        assert last.usage is not None
        assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (10, 2)


async def test_a_stream_says_last_what_it_cost(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        task = await site.claim()
        headers = {"Authorization": f"Bearer {site.key}", "X-Chimera-Task": task.task_id}
        async with httpx.AsyncClient(base_url=site.url, headers=headers) as http:
            body = {"model": MODEL, "messages": ASKED, "stream": True}
            response = await http.post("/v1/chat/completions", json=body)
        *_, comment, done, rest = response.text.split("\n\n")
        assert (done, rest) == ("data: [DONE]", "")
        assert json.loads(comment.removeprefix(": chimera ")) == {
            "hold": response.headers["x-chimera-hold"],
            "cost_microusd": PER_CALL,
            "estimated": False,
        }
        assert len(await site.events("spend.settled")) == 1, "its end is said once it is settled"


async def test_tools_and_their_results_pass_as_they_are(base: Base, tenant: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Anholt"}'}}
    script = [Turn(message={"content": None, "tool_calls": [call]}), Turn(text="Fine.")]
    async with chatting(base, tenant, script) as site:
        client = await site.paying()
        first = await client.chat.completions.create(model=MODEL, messages=ASKED, tools=[WEATHER])
        message = first.choices[0].message
        assert message.tool_calls is not None
        asked = [
            *ASKED,
            message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        ]
        second = await client.chat.completions.create(model=MODEL, messages=asked, tools=[WEATHER])
        assert second.choices[0].message.content == "Fine."
        assert site.endpoint.seen[0].body["tools"] == [WEATHER]
        assert site.endpoint.seen[1].body["messages"][-1]["content"] == "sun"


async def test_several_answers_are_held_several_times(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        client = await site.paying()
        await client.chat.completions.create(model=MODEL, messages=ASKED, n=3, max_completion_tokens=5)
        (held,) = await site.events("spend.held")
        size = len(json.dumps(site.endpoint.seen[0].body, separators=(",", ":")))
        assert held.details["amount"] == 3 * ((size + FRAME_TOKENS) * INPUT + 5 * OUTPUT)
        assert site.endpoint.seen[0].body["max_tokens"] == 5, "by the name that this endpoint heeds"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"web_search_options": {}}, "web_search_options"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"n": 9}, "n"),
        ({"max_tokens": 200_001}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 1}, "max_completion_tokens"),
        ({"made_up": 1}, "made_up"),
        (
            {
                "messages": [
                    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}
                ]
            },
            "messages[0].content[0]",
        ),
    ],
)
async def test_what_could_cost_more_than_is_held_is_refused_and_named(
    base: Base, tenant: str, more: dict[str, Any], param: str
) -> None:
    async with chatting(base, tenant) as site:
        client = await site.paying()
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED, extra_body=more)
        assert refused.value.param == param
        assert site.endpoint.calls == 0
        assert not await site.events("spend.held")


async def test_a_model_that_is_not_offered_is_named_with_those_that_are(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, chat_models="other, qwen2.5:7b") as site:
        client = await site.paying(retries=2)
        assert [model.id async for model in client.models.list()] == [MODEL, "other", "qwen2.5:7b"]
        with pytest.raises(openai.NotFoundError, match="other") as refused:
            await client.chat.completions.create(model="gpt-9", messages=ASKED)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")
        await client.chat.completions.create(model="qwen2.5:7b", messages=ASKED)
        assert [seen.body["model"] for seen in site.endpoint.seen] == ["qwen2.5:7b"]


async def test_a_wrong_key_and_none_are_refused_as_openais_client_expects(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        with pytest.raises(openai.AuthenticationError) as refused:
            await site.client(key="chi_wrong").chat.completions.create(model=MODEL, messages=ASKED)
        assert refused.value.code == "invalid_api_key"
        async with httpx.AsyncClient(base_url=site.url) as http:
            response = await http.post("/v1/chat/completions", json={})
        document = response.json()
        assert (response.status_code, document["error"]["type"]) == (401, "invalid_request_error")
        assert document["type"] == "urn:chimera:problem:unauthorized", "a problem document, as every error"
        assert document["detail"] == document["error"]["message"]


async def test_anothers_task_and_mission_look_as_if_they_were_not_there(base: Base, tenant: str) -> None:
    await base.tenants.add("stranger")
    async with chatting(base, tenant) as site:
        task = await site.claim()
        theirs = await key_of(site.base, "stranger")
        said = set()
        for key, headers in (
            (theirs, {"task": task.task_id}),
            (theirs, {"task": "m9.0"}),
            (site.key, {"task": "m9.0"}),
            (site.key, {"task": task.task_id, "mission": "m9"}),
            (theirs, {"mission": "m1"}),
            (theirs, {"mission": "m9"}),
            (site.key, {"mission": "m1/../m9"}),
            (site.key, {"mission": "m1.0"}),
        ):
            with pytest.raises(openai.NotFoundError) as refused:
                await site.client(key=key, retries=2, **headers).chat.completions.create(
                    model=MODEL, messages=ASKED
                )
            said.add(re.sub("'.*?'", "ID", str(refused.value.body)))
        assert len(said) == 2, "one for a task, one for a mission"
        assert site.endpoint.calls == 0
    await base.tenants.remove("stranger")


async def test_a_task_that_nobody_holds_pays_for_nothing(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        task = await site.claim()
        client = site.client(task=task.task_id, retries=2)
        assert await drive.hand_in(site.stores, task) is None
        with pytest.raises(openai.ConflictError, match="REVIEW"):
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert site.endpoint.calls == 0


async def test_a_lease_that_is_lost_before_the_hold_is_granted_refuses_it(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, governed=False) as site:
        task = await site.claim()
        client = site.client(task=task.task_id, retries=2)
        asking = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=ASKED))
        await until(lambda: site.base.redis.llen(site.stores.ledger.keys.requests))
        assert await drive.hand_in(site.stores, task) is None
        async with governing(site.base, tenant):
            with pytest.raises(openai.ConflictError) as refused:
                await asking
        assert refused.value.code == "lease_lost"
        assert site.endpoint.calls == 0


async def test_a_providers_model_is_asked_under_its_own_key_at_its_own_price(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: dict[str, Any] = {"model": "openai:gpt-4o-mini", "model_api_key": SecretStr("of the provider")}
    async with chatting(
        base, tenant, **named, model_price_input_usd=None, model_price_output_usd=None
    ) as site:
        monkeypatch.setenv("OPENAI_BASE_URL", site.endpoint.url)
        answer = await site.client().chat.completions.create(model="openai:gpt-4o-mini", messages=ASKED)
        assert answer.choices[0].message.content == "ok"
        (seen,) = site.endpoint.seen
        assert seen.headers["authorization"] == "Bearer of the provider"
        assert seen.body["model"] == "gpt-4o-mini"
        assert site.key not in str(seen)
        (charge,) = await site.charges()
        assert charge["model"] == "gpt-4o-mini"
        assert charge["price_version"].startswith("genai-prices:")


async def test_a_model_without_a_price_is_refused_where_that_is_said(base: Base, tenant: str) -> None:
    unpriced: dict[str, Any] = {
        "model_price_input_usd": None,
        "model_price_output_usd": None,
        "unpriced": "refuse",
    }
    async with chatting(base, tenant, **unpriced) as site:
        with pytest.raises(openai.InternalServerError, match="no price") as refused:
            await site.client(retries=2).chat.completions.create(model=MODEL, messages=ASKED)
        assert refused.value.code == "configuration"
        assert site.endpoint.calls == 0
        assert not await site.events("spend.held")


async def test_a_tasks_own_agent_is_whom_its_calls_count_for(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        task = await site.claim(agent="echo")
        with pytest.raises(openai.BadRequestError, match="echo"):
            await site.client(task=task.task_id, agent="another").chat.completions.create(
                model=MODEL, messages=ASKED
            )
        with pytest.raises(openai.BadRequestError, match="no agent's name"):
            await site.client(agent="../x").chat.completions.create(model=MODEL, messages=ASKED)
        await site.client(task=task.task_id, agent="echo").chat.completions.create(
            model=MODEL, messages=ASKED
        )


async def test_without_a_task_the_tenant_pays_and_limits_of_agent_and_model_bind(
    base: Base, tenant: str
) -> None:
    async with chatting(base, tenant) as site:
        await site.client().chat.completions.create(model=MODEL, messages=ASKED)
        (held,) = await site.events("spend.held")
        assert (held.mission_id, held.task_id) == ("", "")
        assert (held.details["agent"], held.details["model"]) == ("http", MODEL)
        await site.quiet()
        subjects = await site.stores.ledger.subjects()
        assert subjects["agent/http"].settled["lifetime"] == PER_CALL
        assert subjects[f"model/{MODEL}"].settled["lifetime"] == PER_CALL
        for level in ("agent/http/day", "agent/mine/lifetime", f"model/{MODEL}/year"):
            await site.stores.ledger.set_limits({level: 60}, by="test")
            agent = "mine" if "mine" in level else "http"
            with pytest.raises(openai.APIStatusError) as refused:
                await site.client(agent=agent).chat.completions.create(model=MODEL, messages=ASKED)
            body = refused.value.body
            assert isinstance(body, dict)
            assert body["level"] == level
            assert (
                body["fits_microusd"] == body["left_microusd"] == (60 if "mine" in level else 60 - PER_CALL)
            )
        await site.client(agent="mine").models.list()
        assert site.endpoint.calls == 1


async def test_a_missions_budget_binds_without_a_task_until_it_is_over(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        stores = await drive.begin(site.base, tenant, drive.spec(inputs=["x"], budget_usd=Decimal("0.001")))
        client = site.client(mission="m1", agent="clerk")
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert await site.settled() == PER_CALL
        assert (await stores.missions.get("m1")).settled_microusd == PER_CALL
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=200)
        assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
        body = refused.value.body
        assert isinstance(body, dict)
        assert body["level"] == "mission"
        await drive.finish(stores, 1)
        await drive.end(stores)
        with pytest.raises(openai.ConflictError, match="it pays no more"):
            await site.client(mission="m1", retries=2).chat.completions.create(model=MODEL, messages=ASKED)
        assert site.endpoint.calls == 1


async def test_a_call_that_costs_more_than_its_hold_is_charged_whole(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(prompt_tokens=100_000)]) as site:
        raw = await site.client().chat.completions.with_raw_response.create(model=MODEL, messages=ASKED)
        (charge,) = await site.charges()
        assert charge["cost_microusd"] == await site.settled() == 100_000 * INPUT + 2 * OUTPUT
        assert raw.headers["x-chimera-cost-microusd"] == str(charge["cost_microusd"])
        (held,) = await site.events("spend.held")
        (settled,) = await site.events("spend.settled")
        assert settled.details["over"] == charge["cost_microusd"] - held.details["amount"]


async def test_a_key_needs_the_scope_to_submit(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        reader = await key_of(site.base, tenant, Scope.READ)
        assert await site.client(key=reader).models.list()
        with pytest.raises(openai.PermissionDeniedError, match="submit") as refused:
            await site.client(key=reader).chat.completions.create(model=MODEL, messages=ASKED)
        assert refused.value.code == "permission_denied"
        assert site.endpoint.calls == 0


async def test_a_budget_that_never_fits_is_said_once_and_not_tried_again(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        await site.stores.ledger.set_limits({Window.LIFETIME: 100}, by="test")
        client = await site.paying(retries=2)
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert (refused.value.status_code, refused.value.code) == (402, "budget_exceeded")
        body = refused.value.body
        assert isinstance(body, dict)
        assert (body["level"], body["limit_microusd"], body["left_microusd"]) == ("tenant/lifetime", 100, 100)
        assert body["amount_microusd"] > 100
        assert len(await site.events("spend.refused")) == 1
        assert site.endpoint.calls == 0


async def test_a_window_that_is_spent_says_when_it_resets(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        client = await site.paying(retries=2)
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        worst = (await site.events("spend.held"))[0].details["amount"]
        await site.stores.ledger.set_limits({Window.YEAR: worst + PER_CALL - 1}, by="test")
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert refused.value.code == "budget_window"
        body = refused.value.body
        assert isinstance(body, dict)
        assert float(refused.value.response.headers["retry-after"]) >= body["resets_in_s"] > 60
        assert refused.value.response.headers["x-should-retry"] == "false", "nobody waits a year in a call"
        assert site.endpoint.calls == 1


async def test_money_that_others_hold_may_be_waited_for(base: Base, tenant: str) -> None:
    script = [Turn(text="a b", silent_after=1), Turn()]
    async with chatting(base, tenant, script) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        worst = (await site.events("spend.held"))[0].details["amount"]
        await site.stores.ledger.set_limits({Window.LIFETIME: worst}, by="test")
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=20)
        assert refused.value.code == "budget_contended"
        assert float(refused.value.response.headers["retry-after"]) > 0
        await stream.close()
        await site.quiet()
        with pytest.raises(openai.APIStatusError, match="raise the limit"):  # the hold itself was charged
            await client.chat.completions.create(model=MODEL, messages=ASKED, max_tokens=20)


async def test_fifty_callers_at_once_never_pass_a_limit(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(latency_s=0.01)], reserve_wait_s=0.0) as site:
        client = await site.paying()
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        worst = (await site.events("spend.held"))[0].details["amount"]
        await site.quiet()
        limit = PER_CALL + 4 * worst
        await site.stores.ledger.set_limits({Window.LIFETIME: limit}, by="test")
        answers = await asyncio.gather(
            *(client.chat.completions.create(model=MODEL, messages=ASKED) for _ in range(50)),
            return_exceptions=True,
        )
        refused = [one for one in answers if isinstance(one, Exception)]
        assert refused
        assert all(isinstance(one, openai.RateLimitError) for one in refused)
        served = 50 - len(refused)
        assert served >= 4
        assert site.endpoint.calls == 1 + served, "what was refused was not sent"
        assert await site.settled() == PER_CALL * (1 + served) <= limit
        settled = held = 0
        for event in await site.events("spend.held", "spend.settled"):
            if event.kind == "spend.held":
                held += event.details["amount"]
                assert settled + held <= max(limit, worst)
            else:
                held -= worst
                settled += event.details["cost"]


async def test_without_a_governor_nothing_is_spent(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chimera.runtime.desk.GIVE_UP_S", 0.3)
    async with chatting(base, tenant, governed=False) as site:
        client = await site.paying()
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert (refused.value.status_code, refused.value.code) == (503, "unavailable")
        assert "retry-after" in refused.value.response.headers
        assert site.endpoint.calls == 0


@pytest.mark.parametrize(
    ("turn", "status", "code", "costs"),
    [
        (Turn(status=500), 502, "upstream_failed", False),
        (Turn(status=503), 502, "upstream_failed", False),
        (Turn(status=401), 502, "upstream_failed", False),
        (Turn(status=400), 400, "upstream_refused", False),
        (Turn(status=429, headers={"retry-after": "7"}), 429, "upstream_rate_limited", False),
        (Turn(status=504), 504, "upstream_timeout", True),
        (Turn(never=True), 504, "upstream_timeout", True),
        (Turn(cut=True), 502, "upstream_failed", True),
        (Turn(raw="not json"), 502, "upstream_failed", True),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_endpoint_that_fails_is_told_apart_and_charged_only_for_what_it_may_have_done(
    base: Base, tenant: str, turn: Turn, status: int, code: str, costs: bool, stream: bool
) -> None:
    async with chatting(base, tenant, [turn], model_timeout_s=0.5) as site:
        client = await site.paying()
        with pytest.raises(openai.APIError) as failed:
            await complete(client, stream)
        assert failed.value.code == code
        if isinstance(failed.value, openai.APIStatusError):
            assert failed.value.status_code == status
        await site.quiet()
        (held,) = await site.events("spend.held")
        settled = await site.events("spend.settled")
        if costs:
            assert [event.details["cost"] for event in settled] == [held.details["amount"]]
        else:
            assert not settled
            assert len(await site.events("spend.released")) == 1


async def complete(client: openai.AsyncOpenAI, stream: bool) -> None:
    answer: Any = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=stream)
    await drain(answer)


async def drain(stream: Any) -> None:
    async for _ in stream:
        pass


async def test_an_endpoint_that_refuses_our_own_key_is_not_quoted(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(status=401)]) as site:
        client = await site.paying()
        with pytest.raises(openai.InternalServerError, match="own key") as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert "scripted refusal" not in str(refused.value.body)


async def test_each_try_of_a_client_has_a_hold_of_its_own(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(status=500), Turn(status=500), Turn()]) as site:
        client = await site.paying(retries=2)
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert site.endpoint.calls == 3
        assert await site.settled() == PER_CALL
        holds = [event.details["hold"] for event in await site.events("spend.held")]
        assert len(set(holds)) == 3
        assert len(await site.events("spend.released")) == 2


@pytest.mark.parametrize(
    "turn",
    [
        Turn(usage=False),
        Turn(prompt_tokens=-1),
        Turn(prompt_tokens=2_000_000_000),
        Turn(raw='{"id": "x", "choices": [], "usage": "much"}'),
        Turn(
            raw='{"id": "x", "choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2, '
            '"prompt_tokens_details": {"cached_tokens": 11}}}'
        ),
    ],
)
async def test_who_reports_no_usage_that_can_be_is_charged_the_hold(
    base: Base, tenant: str, turn: Turn
) -> None:
    async with chatting(base, tenant, [turn]) as site:
        client = await site.paying()
        await client.chat.completions.create(model=MODEL, messages=ASKED)
        (charge,) = await site.charges()
        (held,) = await site.events("spend.held")
        assert (charge["cost_microusd"], charge["estimated"]) == (held.details["amount"], True)


@pytest.mark.parametrize(
    "turn",
    [
        Turn(text="a b c", cut_after=2),
        Turn(inserted="data: {broken\n\n"),
        Turn(inserted='data: {"error": {"message": "no"}}\n\n'),
    ],
)
async def test_a_stream_that_breaks_tells_its_reader_and_costs_the_hold(
    base: Base, tenant: str, turn: Turn
) -> None:
    async with chatting(base, tenant, [turn]) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        assert (await anext(stream)).choices[0].delta.content
        with pytest.raises(openai.APIError) as failed:
            await drain(stream)
        assert failed.value.code == "upstream_failed"
        (charge,) = await site.charges()
        (held,) = await site.events("spend.held")
        assert (charge["cost_microusd"], charge["estimated"]) == (held.details["amount"], True)


async def test_a_stream_without_usage_costs_the_hold(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(usage=False)]) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        assert [chunk async for chunk in stream]
        (charge,) = await site.charges()
        assert charge["estimated"]


async def test_a_reader_who_leaves_hangs_up_the_endpoint_and_is_charged_the_hold(
    base: Base, tenant: str
) -> None:
    async with chatting(base, tenant, [Turn(text="a b c", silent_after=2)]) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        await anext(aiter(stream))
        await site.endpoint.silent.wait()
        await stream.close()
        async with asyncio.timeout(10):
            await site.endpoint.left.wait()
        (charge,) = await site.charges()
        (held,) = await site.events("spend.held")
        assert (charge["cost_microusd"], charge["estimated"]) == (held.details["amount"], True)
        assert not await site.events("spend.expired")


async def test_a_caller_who_leaves_before_the_answer_is_charged_what_it_cost(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(latency_s=0.3)]) as site:
        client = await site.paying()
        asking = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=ASKED))
        await site.endpoint.arrived.wait()
        asking.cancel()
        assert await site.settled() == PER_CALL


async def test_a_call_outlives_the_request_that_is_cancelled(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(latency_s=0.2)]) as site:
        chat = parse({"model": MODEL, "messages": ASKED}, max_tokens=5)
        asking = asyncio.create_task(site.chats.whole(chat, Payer(tenant, "", 0, 0, "echo")))
        await site.endpoint.arrived.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await site.settled() == PER_CALL


async def test_a_slow_reader_makes_the_endpoint_wait(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chats_module, "BUFFER_BYTES", 1_000)
    words = 200
    script = [Turn(text=" ".join(["x" * 1_000] * words))]
    async with chatting(base, tenant, script, model_timeout_s=0.3) as site:
        chat = parse({"model": MODEL, "messages": ASKED, "stream": True}, max_tokens=5)
        stream = await site.chats.stream(chat, Payer(tenant, "", 0, 0, "echo"))
        await until(lambda: _full(stream))
        await asyncio.sleep(0.5)  # longer than the endpoint may be silent: it is not, its reader is
        assert stream._size < 1_000 + 2_000, "a piece more than the bound"
        taken = b""
        while pieces := await stream.take():
            taken += pieces
        assert taken.count(b"x" * 1_000) == words
        assert stream.charge is not None
        assert not stream.charge.estimated


async def _full(stream: Any) -> bool:
    return bool(stream._size >= 1_000)


async def test_a_silent_stream_ends(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(text="a b", silent_after=1)], model_timeout_s=0.3) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        with pytest.raises(openai.APIError, match="nothing came"):
            await drain(stream)
        assert len(await site.charges()) == 1


async def test_a_stream_that_goes_on_outlives_the_time_of_a_call_and_not_its_own(
    base: Base, tenant: str
) -> None:
    script = [Turn(text="a " * 12, latency_s=0.05), Turn(text="a " * 1_000, latency_s=0.05)]
    async with chatting(base, tenant, script, model_timeout_s=0.4, chat_stream_s=5) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        assert len([chunk async for chunk in stream]) == 13
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        with pytest.raises(openai.APIError, match="within 5 s"):
            await drain(stream)
        assert [charge["estimated"] for charge in await site.charges()] == [False, True]


async def test_a_gateway_that_goes_ends_its_streams_settled(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chats_module, "LAST_CALL_S", 0.2)
    async with chatting(base, tenant, [Turn(text="a b", silent_after=1)]) as site:
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        await anext(aiter(stream))
        site.chats.last_call()
        with pytest.raises(openai.InternalServerError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert refused.value.status_code == 503
        with pytest.raises(openai.APIError, match="replaced"):
            await drain(stream)
        (charge,) = await site.charges()
        assert charge["estimated"]


async def test_a_gateway_that_closes_forgets_no_call(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(never=True)]) as site:
        client = await site.paying()
        asking = asyncio.create_task(client.chat.completions.create(model=MODEL, messages=ASKED))
        await site.endpoint.arrived.wait()
        await site.chats.close()
        with pytest.raises(openai.InternalServerError, match="replaced"):
            await asking
        (charge,) = await site.charges()
        assert charge["estimated"]
        assert not site.chats.desks.open


async def test_a_gateway_that_is_replaced_tells_its_streams_before_its_door_closes(
    base: Base, tenant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chats_module, "LAST_CALL_S", 0.2)
    listener = Listener(LOOPBACK, free_port(), tmp_path / "door")
    listener.open()
    async with chatting(base, tenant, [Turn(text="a b", silent_after=1)]) as site:
        async with answering(site.app, str(tmp_path / "door")):
            site.url = f"http://{LOOPBACK}:{listener._port}"
            client = await site.paying()
            stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
            await anext(stream)
        with pytest.raises(openai.APIError, match="replaced"):
            await drain(stream)
        assert [charge["estimated"] for charge in await site.charges()] == [True]
    listener.close()


async def test_a_gateway_that_is_killed_leaves_a_hold_that_runs_out_and_is_charged(
    base: Base, tenant: str
) -> None:
    async with chatting(base, tenant, [Turn(text="a b", silent_after=1)]) as site:
        assert site.base.settings.redis_url is not None
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.serving.gateway.gateway_alone"),
            cwd=ROOT,
            env={
                **os.environ,
                "CHIMERA_REDIS_URL": site.base.settings.redis_url.get_secret_value(),
                "CHIMERA_MODEL": MODEL,
                "CHIMERA_MODEL_URL": site.endpoint.url,
                "CHIMERA_MODEL_TIMEOUT_S": "2",
                "CHIMERA_CHAT_STREAM_S": "2",
                "CHIMERA_HOLD_TTL_S": "0.5",
            },
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stdout is not None
            site.url = (await process.stdout.readline()).decode().strip()
            client = site.client()
            stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
            await anext(stream)
        finally:
            process.kill()
            await process.wait()
        with pytest.raises((openai.APIConnectionError, httpx.HTTPError)):
            await drain(stream)
        await site.quiet()
        (held,) = await site.events("spend.held")
        (expired,) = await site.events("spend.expired")
        assert expired.details["cost"] == held.details["amount"] == await site.settled()
        assert expired.details["sent"]


async def test_an_agent_of_any_sdk_is_paid_for_by_its_own_task(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:

        async def sdk(task: Task, ctx: Context) -> str:
            async with openai.AsyncOpenAI(api_key=site.key, max_retries=0, **ctx.openai()) as client:
                answer = await client.chat.completions.create(model=MODEL, messages=ASKED)
            return answer.choices[0].message.content or ""

        own = base_of(site.base.settings.model_copy(update={"url": site.url}))
        async with running(own, tenant, registry(sdk=sdk), governed=False) as fleet:
            await fleet.submit(drive.spec(agent="sdk", inputs=["x"]))
            mission = await fleet.rest()
        await own.close()
        assert mission.counts["ACCEPTED"] == 1
        assert (await site.stores.tasks.get("m1.0")).result == "ok"
        assert (await site.stores.tasks.get("m1.0")).spent_microusd == await site.settled() == PER_CALL


async def test_a_tenant_may_have_only_so_many_under_way(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, [Turn(text="a b", silent_after=1)]) as site:
        site.chats._most_of_tenant = 1
        client = await site.paying()
        stream = await client.chat.completions.create(model=MODEL, messages=ASKED, stream=True)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKED)
        assert refused.value.code == "rate_limit_exceeded"
        await stream.close()
        await site.quiet()
        assert site.endpoint.calls == 1


async def test_the_same_key_for_the_same_call_of_a_task_is_not_paid_twice(base: Base, tenant: str) -> None:
    async with chatting(base, tenant) as site:
        client = await site.paying()
        create = client.chat.completions.with_raw_response.create
        headers = {"Idempotency-Key": "k1"}
        first = await create(model=MODEL, messages=ASKED, extra_headers=headers)
        await site.quiet()
        again = await create(model=MODEL, messages=ASKED, extra_headers=headers)
        assert again.text == first.text
        assert again.headers["x-chimera-kept"] == "true"
        assert again.headers["x-chimera-cost-microusd"] == "0"
        other = await create(model=MODEL, messages=ASKED, extra_headers=headers, seed=1)
        assert "x-chimera-kept" not in other.headers
        assert site.endpoint.calls == 2
        assert await site.settled() == 2 * PER_CALL


async def test_a_body_that_is_too_large_or_no_json_is_refused(base: Base, tenant: str) -> None:
    async with chatting(base, tenant, max_chat_bytes=2_000) as site:
        client = await site.paying()
        with pytest.raises(openai.APIStatusError, match="CHIMERA_MAX_CHAT_BYTES") as refused:
            await client.chat.completions.create(
                model=MODEL, messages=[{"role": "user", "content": "x" * 3_000}]
            )
        assert refused.value.status_code == 413
        headers = {"Authorization": f"Bearer {site.key}", "Content-Type": "application/json"}
        async with httpx.AsyncClient(base_url=site.url, headers=headers) as http:
            function = b'{"name": "f", "parameters": {"a": ' + b"[" * 300 + b"]" * 300 + b"}}"
            deep = b'{"model": "scripted", "messages": [{"role": "user", "content": ""}], "tools": '
            deep += b'[{"type": "function", "function": ' + function + b"}]}"
            for body in (b"{", b"[]", b"", b"[" * 1_500, deep):
                response = await http.post("/v1/chat/completions", content=body)
                assert response.status_code == 400, body
                assert response.json()["error"]["type"] == "invalid_request_error"
