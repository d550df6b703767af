"""The model client over a real socket: money first, then patience."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel

from chimera.agents.models.client import ModelClient, Models, prompt_bound
from chimera.agents.models.endpoint import Ask
from chimera.agents.purse import Charge, Keep, LocalPurse
from chimera.errors import AnswerUnusable, BudgetExceeded, ConfigurationError, ModelUnavailable
from chimera.settings import Settings
from tests.agents.endpoint import MeteredEndpoint, Turn

MakeSettings = Callable[..., Settings]
MakeClient = Callable[..., ModelClient]
PRICES = {"model_price_input_usd": 1.0, "model_price_output_usd": 10.0}


class Waits:
    """Records pauses instead of waiting."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


class SteppedPurse(LocalPurse):
    """Remembers the order of what was asked of it."""

    def __init__(self, limit_microusd: int | None = None) -> None:
        super().__init__(limit_microusd)
        self.steps: list[str] = []

    async def reserve(self, *, amount_microusd: int, model: str, agent: str, ttl_s: float) -> str:
        self.steps.append(f"reserve {amount_microusd}")
        return await super().reserve(amount_microusd=amount_microusd, model=model, agent=agent, ttl_s=ttl_s)

    async def sent(self, hold_id: str) -> bool:
        self.steps.append("sent")
        return await super().sent(hold_id)

    async def settle(
        self, hold_id: str, *, cost_microusd: int, charge: Charge, keep: Keep | None = None
    ) -> None:
        self.steps.append(f"settle {cost_microusd}")
        await super().settle(hold_id, cost_microusd=cost_microusd, charge=charge, keep=keep)

    async def release(self, hold_id: str) -> None:
        self.steps.append("release")
        await super().release(hold_id)


@pytest.fixture
def client(open_models: Callable[[Settings], Models]) -> Callable[..., ModelClient]:
    """Makes a client of the settings; closed at the test's end."""

    def make(settings: Settings, purse: LocalPurse | None = None, **more: Any) -> ModelClient:
        more.setdefault("pause", Waits())
        return ModelClient(models=open_models(settings), purse=purse or LocalPurse(), agent="tester", **more)

    return make


def worst(prompt: str, max_tokens: int) -> int:
    """µ$ under PRICES."""
    return len(prompt) + 128 + max_tokens * 10


async def test_a_call_is_reserved_at_its_worst_case_and_settled_at_its_real_cost(
    client: MakeClient,
    make_settings: MakeSettings,
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn("hello", prompt_tokens=30, completion_tokens=4)]) as endpoint:
        settings = make_settings(model="some-model", model_url=endpoint.url, **PRICES)
        made = client(settings, purse)
        assert await made.text("hi there", max_tokens=20) == "hello"
    assert purse.steps == [f"reserve {worst('hi there', 20)}", "sent", "settle 70"]
    (charge,) = purse.charges
    assert (charge.model, charge.input_tokens, charge.output_tokens) == ("some-model", 30, 4)
    assert charge.price_version == "environment:1.0/10.0"
    assert charge.provider_request_id == "scripted-1"
    assert not charge.estimated
    assert made.charges == [charge]


async def test_every_request_carries_max_tokens_and_no_sdk_retries(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    async with MeteredEndpoint([Turn(status=500)]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, model_retries=0, model_max_tokens=33)
        with pytest.raises(ModelUnavailable):
            await client(settings).text("x")
        assert endpoint.calls == 1
        assert endpoint.seen[0].body["max_tokens"] == 33


async def test_each_try_has_its_own_hold_and_a_refusal_costs_nothing(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    purse, waits = SteppedPurse(), Waits()
    script = [Turn(status=429, headers={"retry-after": "3"}), Turn(status=503), Turn("done")]
    async with MeteredEndpoint(script) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        made = client(settings, purse, pause=waits, draw=lambda: 0.0, idempotency_key="task-1")
        assert await made.text("x", max_tokens=1) == "done"
        keys = {seen.headers["idempotency-key"] for seen in endpoint.seen}
    hold = f"reserve {worst('x', 1)}"
    assert purse.steps == [hold, "sent", "release", hold, "sent", "release", hold, "sent", "settle 20"]
    assert waits.seconds == [3.0, 0.5]
    assert len(keys) == 1
    assert purse.held_microusd == 0


async def test_a_call_that_timed_out_after_sending_is_charged_at_its_hold(
    client: MakeClient,
    make_settings: MakeSettings,
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn(never=True)]) as endpoint:
        settings = make_settings(
            model="m", model_url=endpoint.url, model_timeout_s=1, model_retries=1, **PRICES
        )
        with pytest.raises(ModelUnavailable, match=r"did not answer within 1 s, 2 tries"):
            await client(settings, purse).text("x", max_tokens=5)
        assert endpoint.calls == 2
    price = worst("x", 5)
    assert purse.steps == [f"reserve {price}", "sent", f"settle {price}"] * 2
    assert all(charge.estimated for charge in purse.charges)


async def test_a_call_whose_connection_broke_is_charged_at_its_hold(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn(cut=True), Turn("done")]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        assert await client(settings, purse).text("x", max_tokens=5) == "done"
    price = worst("x", 5)
    assert purse.steps[:3] == [f"reserve {price}", "sent", f"settle {price}"]


async def test_an_endpoint_that_is_down_costs_nothing_and_names_the_next_step(
    client: MakeClient, make_settings: MakeSettings, unused_tcp_port: int
) -> None:
    purse = SteppedPurse()
    settings = make_settings(model="m", model_url=f"http://127.0.0.1:{unused_tcp_port}/v1", model_retries=1)
    with pytest.raises(ModelUnavailable, match="CHIMERA_MODEL and CHIMERA_MODEL_URL") as raised:
        await client(settings, purse).text("x")
    assert str(unused_tcp_port) in str(raised.value)
    assert [step.split()[0] for step in purse.steps] == ["reserve", "sent", "release"] * 2


async def test_a_malformed_answer_is_charged_and_tried_again(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn(raw="<html>oops</html>"), Turn("fine")]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        assert await client(settings, purse).text("x", max_tokens=1) == "fine"
    assert [charge.estimated for charge in purse.charges] == [True, False]


async def test_an_answer_without_usage_is_charged_at_its_hold(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn("fine", usage=False)]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        await client(settings, purse).text("x", max_tokens=1)
    assert purse.settled_microusd == worst("x", 1)


async def test_usage_that_no_call_has_is_charged_at_its_hold(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn("fine", prompt_tokens=10**30)]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        await client(settings, purse).text("x", max_tokens=1)
    assert purse.settled_microusd == worst("x", 1)


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_refusal_that_will_not_change_is_not_tried_again(
    client: MakeClient, make_settings: MakeSettings, status: int
) -> None:
    async with MeteredEndpoint([Turn(status=status)]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        with pytest.raises(ModelUnavailable, match=f"HTTP {status}.*scripted refusal.*1 try"):
            await client(settings).text("x")
        assert endpoint.calls == 1


async def test_a_refused_reservation_sends_nothing(client: MakeClient, make_settings: MakeSettings) -> None:
    async with MeteredEndpoint() as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        with pytest.raises(BudgetExceeded):
            await client(settings, LocalPurse(limit_microusd=100)).text("x", max_tokens=10)
        assert endpoint.calls == 0


async def test_many_calls_at_once_never_spend_above_the_limit(
    open_models: Callable[[Settings], Models], make_settings: MakeSettings
) -> None:
    limit = 10 * worst("x", 1)
    purse = LocalPurse(limit_microusd=limit)
    script = [Turn("y", prompt_tokens=129, completion_tokens=1)]
    async with MeteredEndpoint(script) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        models = open_models(settings)
        outcomes = await asyncio.gather(
            *(
                ModelClient(models=models, purse=purse, agent="tester").text("x", max_tokens=1)
                for _ in range(30)
            ),
            return_exceptions=True,
        )
        assert endpoint.calls == sum(isinstance(outcome, str) for outcome in outcomes) == 10
    assert purse.settled_microusd == limit
    assert sum(isinstance(outcome, BudgetExceeded) for outcome in outcomes) == 20


async def test_a_cancelled_call_is_still_charged_at_its_hold(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    purse = SteppedPurse()
    async with MeteredEndpoint([Turn(never=True)]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        call = asyncio.create_task(client(settings, purse).text("x", max_tokens=1))
        await endpoint.arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    assert purse.held_microusd == 0
    assert purse.settled_microusd == worst("x", 1)


async def test_no_try_begins_after_the_deadline(client: MakeClient, make_settings: MakeSettings) -> None:
    async with MeteredEndpoint() as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        late = client(settings, ends_at=time.monotonic() - 1)
        with pytest.raises(ModelUnavailable, match="the attempt's time is over"):
            await late.text("x")
        assert endpoint.calls == 0


async def test_a_pause_that_would_pass_the_deadline_is_not_made(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    waits = Waits()
    async with MeteredEndpoint([Turn(status=429, headers={"retry-after": "30"})]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        hurried = client(settings, pause=waits, ends_at=time.monotonic() + 5)
        with pytest.raises(ModelUnavailable):
            await hurried.text("x")
    assert waits.seconds == []


async def test_a_permit_that_refuses_stops_the_call_before_any_money_moves(
    client: MakeClient,
    make_settings: MakeSettings,
) -> None:
    class Frozen(Exception):
        pass

    async def refuse() -> None:
        raise Frozen

    purse = SteppedPurse()
    async with MeteredEndpoint() as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        with pytest.raises(Frozen):
            await client(settings, purse, permit=refuse).text("x")
    assert purse.steps == []


class Point(BaseModel):
    x: int
    y: int


async def test_structured_returns_the_model_and_sends_its_schema(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    async with MeteredEndpoint([Turn('{"x": 1, "y": 2}')]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        assert await client(settings).structured("where?", Point) == Point(x=1, y=2)
        sent = endpoint.seen[0].body["response_format"]
    assert sent["type"] == "json_schema"
    assert list(sent["json_schema"]["schema"]["properties"]) == ["x", "y"]


async def test_a_json_schema_reaches_the_endpoint_with_its_patterns(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^b+$", "maxLength": 9}}}
    async with MeteredEndpoint([Turn('{"a": "bb"}')]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        assert await client(settings).structured("a?", schema) == {"a": "bb"}
        sent = endpoint.seen[0].body["response_format"]["json_schema"]["schema"]
    assert sent["properties"]["a"] == schema["properties"]["a"]  # type: ignore[index]  # (it is there, or the test fails)


@pytest.mark.parametrize("text", ["not json", '{"x": 1}', "[1]"])
async def test_an_unusable_answer_is_paid_and_says_what_is_wrong(
    client: MakeClient, make_settings: MakeSettings, text: str
) -> None:
    purse = LocalPurse()
    async with MeteredEndpoint([Turn(text)]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url, **PRICES)
        with pytest.raises(AnswerUnusable) as raised:
            await client(settings, purse).structured("where?", Point)
    assert raised.value.text == text
    assert purse.settled_microusd == 30


async def test_a_model_without_an_endpoint_names_both_variables(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    with pytest.raises(ModelUnavailable, match=r"CHIMERA_MODEL.*CHIMERA_MODEL_URL"):
        await client(make_settings()).text("x")


async def test_a_name_with_a_colon_at_an_own_endpoint_is_no_provider(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    async with MeteredEndpoint() as endpoint:
        settings = make_settings(model="llama3:8b", model_url=endpoint.url)
        await client(settings).text("x")
        assert endpoint.seen[0].body["model"] == "llama3:8b"


async def test_an_unpriced_model_is_refused_where_the_settings_say_so(
    client: MakeClient, make_settings: MakeSettings
) -> None:
    settings = make_settings(model="m", model_url="http://127.0.0.1:9/v1", unpriced="refuse")
    with pytest.raises(ConfigurationError, match="CHIMERA_MODEL_PRICE_INPUT_USD"):
        await client(settings).text("x")


def test_the_bound_counts_bytes_system_prompt_and_schema() -> None:
    ask = Ask(
        prompt="häuser", system="s", schema={"a": 1}, max_tokens=1, temperature=None, seed=None,
        timeout_s=1, idempotency_key="",
    )  # fmt: skip
    assert prompt_bound(ask) == len("häuser".encode()) + 1 + len(json.dumps({"a": 1})) + 128
