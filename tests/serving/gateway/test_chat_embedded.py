"""Chat completions through the gateway to the real embedded model, by OpenAI's own client."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, SecretStr

from chimera.agents.models import process
from chimera.agents.models.embedded import MODEL_NAME
from chimera.agents.models.process import EmbeddedModel
from chimera.runtime.base import Base
from tests.serving.gateway.chatting import ASKED, WEATHER, Site, chatting

API_KEY = "a-key-for-tests"


class Mood(BaseModel):
    """What is asked for."""

    mood: Literal["happy", "sad"]


@pytest.fixture(scope="module")
def embedded() -> Iterator[EmbeddedModel]:
    environ = {"CHIMERA_MODEL_API_KEY": API_KEY, "CHIMERA_EMBEDDED_MODEL_THREADS": "1"}
    with process.start(environ=environ) as running:
        yield running


@pytest.fixture
async def site(base: Base, tenant: str, embedded: EmbeddedModel) -> AsyncIterator[Site]:
    changes: dict[str, Any] = {"model_url": embedded.url, "model_api_key": SecretStr(API_KEY), "model": ""}
    async with chatting(base, tenant, **changes) as made:
        yield made


async def test_the_embedded_model_answers_by_default_whole_and_as_a_stream(site: Site) -> None:
    client = await site.paying()
    assert [model.id async for model in client.models.list()] == [MODEL_NAME]
    whole = await client.chat.completions.create(
        model=MODEL_NAME, messages=ASKED, max_completion_tokens=8, temperature=0, seed=7
    )
    said = ""
    stream = await client.chat.completions.create(
        model=MODEL_NAME, messages=ASKED, max_tokens=8, temperature=0, seed=7, stream=True
    )
    async for chunk in stream:
        said += chunk.choices[0].delta.content or ""
    assert said == whole.choices[0].message.content
    assert whole.usage is not None
    assert 1 <= whole.usage.completion_tokens <= 8
    first, second = await site.charges()
    assert not first["estimated"]
    assert not second["estimated"]
    assert first["output_tokens"] == second["output_tokens"] == whole.usage.completion_tokens


async def test_an_answer_of_a_schema_is_parsed_by_the_client(site: Site) -> None:
    client = await site.paying()
    parsed = await client.chat.completions.parse(
        model=MODEL_NAME, messages=ASKED, response_format=Mood, max_tokens=40, temperature=0
    )
    assert parsed.choices[0].message.parsed is not None
    assert parsed.choices[0].message.parsed.mood in {"happy", "sad"}
    async with client.chat.completions.stream(
        model=MODEL_NAME, messages=ASKED, response_format=Mood, max_tokens=40, temperature=0
    ) as stream:
        last = await stream.get_final_completion()
    assert last.choices[0].message.parsed is not None
    assert len(await site.charges()) == 2


async def test_no_call_costs_more_than_its_hold(site: Site) -> None:
    client = await site.paying()
    await client.chat.completions.create(model=MODEL_NAME, messages=ASKED, tools=[WEATHER], max_tokens=9)
    await client.chat.completions.create(
        model=MODEL_NAME,
        messages=[{"role": "system", "content": "é" * 30}, *ASKED * 20],
        n=2,
        max_tokens=3,
    )
    charges = await site.charges()
    holds = {e.details["hold"]: e.details["amount"] for e in await site.events("spend.held")}
    settled = {e.details["hold"]: e.details["cost"] for e in await site.events("spend.settled")}
    assert len(charges) == 2
    assert not any(charge["estimated"] for charge in charges)
    assert all(settled[hold] <= amount for hold, amount in holds.items())


async def test_the_example_runs(site: Site) -> None:
    example = Path(__file__).parents[3] / "examples" / "any_sdk.py"
    environ = os.environ | {"CHIMERA_URL": site.url, "CHIMERA_API_KEY": site.key}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(example), env=environ, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    first, second = await site.charges()
    assert f"cost: {first['cost_microusd']} µ$" in said.decode()
    assert not second["estimated"]
    assert (await site.stores.ledger.subjects())["agent/any-sdk"].calls == 2
