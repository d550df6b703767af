"""Providers through the model library, with OpenAI's own client against an endpoint on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from chimera.agents.models.endpoint import Ask, CallFailed, Endpoint
from chimera.agents.models.opening import open_compatible, open_endpoint
from chimera.errors import ModelUnavailable
from tests.agents.endpoint import MeteredEndpoint, Turn

MODEL = "openai-chat:gpt-4o-mini"
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ASK = Ask(
    prompt="hi", system="be brief", schema=None, max_tokens=5, temperature=0.0, seed=3, timeout_s=5.0,
    idempotency_key="k",
)  # fmt: skip


@pytest_asyncio.fixture
async def server() -> AsyncIterator[MeteredEndpoint]:
    """What stands for the provider."""
    async with MeteredEndpoint() as running:
        yield running


@pytest_asyncio.fixture
async def provider(server: MeteredEndpoint, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Endpoint]:
    """The provider, at that address."""
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    opened = open_endpoint(MODEL, "", "secret")
    yield opened
    await opened.close()


async def test_a_provider_is_asked_once_with_all_that_was_asked(
    provider: Endpoint, server: MeteredEndpoint
) -> None:
    reply = await provider.ask(replace(ASK, schema=SCHEMA))
    assert (reply.text, reply.tokens.input, reply.tokens.output, reply.request_id) == (
        "ok", 10, 2, "scripted-1",
    )  # fmt: skip
    assert (provider.name, provider.provider) == ("gpt-4o-mini", "openai-chat")
    (seen,) = server.seen
    assert seen.headers["authorization"] == "Bearer secret"
    assert seen.headers["idempotency-key"] == "k"
    assert seen.body["seed"] == 3
    assert [part["content"] for part in seen.body["messages"]] == ["be brief", "hi"]
    assert seen.body["response_format"]["json_schema"]["schema"]["properties"].keys() == {"a"}


@pytest.mark.parametrize(
    ("turn", "sent", "retryable", "after_s"),
    [
        (Turn(status=401), False, False, None),
        (Turn(status=429, headers={"retry-after": "7"}), False, True, 7.0),
        (Turn(status=500), False, True, None),
        (Turn(status=504), True, True, None),
        (Turn(raw="<html>"), True, True, None),
        (Turn(cut=True), True, True, None),
        (Turn(never=True), True, True, None),
    ],
)
async def test_a_providers_failure_says_what_it_means_for_money_and_patience(
    provider: Endpoint,
    server: MeteredEndpoint,
    turn: Turn,
    sent: bool,
    retryable: bool,
    after_s: float | None,
) -> None:
    server.script = (turn,)
    with pytest.raises(CallFailed) as raised:
        await provider.ask(replace(ASK, timeout_s=1.0))
    assert server.calls == 1
    failed = raised.value
    assert (failed.sent, failed.retryable, failed.retry_after_s) == (sent, retryable, after_s)


async def test_a_provider_that_is_down_was_sent_nothing(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{unused_tcp_port}/v1")
    opened = open_endpoint(MODEL, "", "secret")
    with pytest.raises(CallFailed) as raised:
        await opened.ask(ASK)
    await opened.close()
    assert (raised.value.sent, raised.value.retryable) == (False, True)


def test_a_provider_without_its_key_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match=r"OPENAI_API_KEY.*the key is CHIMERA_MODEL_API_KEY"):
        open_endpoint(MODEL, "", "")


def test_a_call_is_forwarded_only_to_who_takes_chat_completions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    opened = open_compatible("openai:gpt-5-mini", "", "secret", configured="openai:gpt-5-mini")
    assert (opened.name, opened.provider, opened.url) == ("gpt-5-mini", "openai", "http://127.0.0.1:9/v1/")
    with pytest.raises(ModelUnavailable, match="takes no OpenAI chat completions"):
        open_compatible("anthropic:x", "", "secret", configured="anthropic:x")
    with pytest.raises(ModelUnavailable, match="CHIMERA_MODEL_URL"):
        open_compatible("qwen2.5:7b", "", "")


def test_a_key_goes_to_nobody_but_whose_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEEPSEEK_API_KEY", raising=False)
    with pytest.raises(ModelUnavailable, match="DEEPSEEK_API_KEY"):
        open_compatible("deepseek:chat", "", "secret", configured="openai:gpt-5-mini")
    own = open_compatible("m", "http://127.0.0.1:9/v1", "secret", configured="m")
    assert own._headers["Authorization"] == "Bearer secret"
    other = open_compatible("m", "http://127.0.0.1:9/v1", "secret", configured="openai:gpt-5-mini")
    assert "Authorization" not in other._headers


def test_openais_own_models_are_bounded_by_the_name_that_they_heed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    assert open_compatible("openai:gpt-5-mini", "", "k", configured="openai:x").cap == "max_completion_tokens"
    assert open_compatible("m", "http://127.0.0.1:9/v1", "").cap == "max_tokens"
