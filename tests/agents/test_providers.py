"""Providers through the model library, with OpenAI's own client against an endpoint on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from chimera.agents.models.endpoint import Ask, CallFailed, Endpoint
from chimera.agents.models.opening import open_endpoint
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
    with pytest.raises(ModelUnavailable, match=r"OPENAI_API_KEY.*CHIMERA_MODEL"):
        open_endpoint(MODEL, "", "")
