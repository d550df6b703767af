"""An endpoint that speaks OpenAI's chat completions, over a real socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
import pytest_asyncio

from chimera.agents.models import compatible
from chimera.agents.models.compatible import CompatibleEndpoint
from chimera.agents.models.endpoint import Ask, CallFailed
from chimera.agents.models.opening import open_endpoint
from chimera.errors import ModelUnavailable
from tests.agents.endpoint import MeteredEndpoint, Turn

ASK = Ask(
    prompt="hi", system=None, schema=None, max_tokens=5, temperature=None, seed=None, timeout_s=5.0,
    idempotency_key="",
)  # fmt: skip


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Callable[..., CompatibleEndpoint]]:
    """Opens endpoints, which are closed at the test's end."""
    made: list[CompatibleEndpoint] = []

    def open_(url: str, api_key: str = "") -> CompatibleEndpoint:
        made.append(CompatibleEndpoint("m", url, api_key))
        return made[-1]

    yield open_
    for one in made:
        await one.close()


def completion(**message: object) -> str:
    """The body of an answer without usage."""
    return json.dumps({"id": "x", "choices": [{"index": 0, "finish_reason": "length", "message": message}]})


async def test_a_request_says_all_that_was_asked(opened: Callable[..., CompatibleEndpoint]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^b+$"}}}
    full = replace(ASK, system="be brief", schema=schema, temperature=0.5, seed=3, idempotency_key="k")
    async with MeteredEndpoint() as server:
        await opened(server.url, "secret").ask(full)
        await opened(server.url).ask(ASK)
        first, second = server.seen
    assert first.body == {
        "model": "m",
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "stream": False,
        "temperature": 0.5,
        "seed": 3,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}},
    }
    assert first.headers["authorization"] == "Bearer secret"
    assert first.headers["idempotency-key"] == "k"
    assert second.body == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 5,
        "stream": False,
    }
    assert not {"authorization", "idempotency-key"} & second.headers.keys()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<think>\nwell…\n</think>\n\nok", "ok"),
        ("a < b", "a < b"),
        ([{"type": "text", "text": "o"}, {"type": "text", "text": "k"}], "ok"),
        (None, ""),
    ],
)
async def test_the_answer_is_what_was_said(
    opened: Callable[..., CompatibleEndpoint], content: object, text: str
) -> None:
    async with MeteredEndpoint([Turn(raw=completion(content=content))]) as server:
        reply = await opened(server.url).ask(ASK)
    assert (reply.text, reply.truncated, reply.request_id) == (text, True, "x")
    assert not reply.tokens.believable


async def test_tokens_of_each_kind_are_read(opened: Callable[..., CompatibleEndpoint]) -> None:
    usage = {
        "prompt_tokens": 40,
        "completion_tokens": 20,
        "prompt_tokens_details": {"cached_tokens": 30, "audio_tokens": None},
        "completion_tokens_details": {"reasoning_tokens": 15},
    }
    body = json.loads(completion(content="ok")) | {"usage": usage}
    async with MeteredEndpoint([Turn(raw=json.dumps(body))]) as server:
        tokens = (await opened(server.url).ask(ASK)).tokens
    assert (tokens.input, tokens.output, tokens.cached, tokens.reasoning) == (40, 20, 30, 15)


async def test_an_answer_survives_usage_that_cannot_be_read(
    opened: Callable[..., CompatibleEndpoint],
) -> None:
    body = json.loads(completion(content="ok")) | {"usage": {"prompt_tokens": "many"}}
    async with MeteredEndpoint([Turn(raw=json.dumps(body))]) as server:
        reply = await opened(server.url).ask(ASK)
    assert reply.text == "ok"
    assert not reply.tokens.believable


@pytest.mark.parametrize(
    ("turn", "sent", "retryable", "after_s", "said"),
    [
        (Turn(status=400), False, False, None, r"HTTP 400 \(scripted refusal\)"),
        (Turn(status=429, headers={"retry-after": "7"}), False, True, 7.0, "HTTP 429"),
        (
            Turn(
                status=503,
                headers={
                    "date": "Tue, 01 Sep 2026 10:00:00 GMT",
                    "retry-after": "Tue, 01 Sep 2026 10:00:09 GMT",
                },
            ),
            False,
            True,
            9.0,
            "HTTP 503",
        ),
        (
            Turn(status=429, raw='{"error": {"message": "no more", "code": "insufficient_quota"}}'),
            False,
            False,
            None,
            r"\(no more\)",
        ),
        (Turn(status=500, raw='{"error": "out of memory"}'), False, True, None, r"\(out of memory\)"),
        (Turn(status=502, raw="<h1>Bad\nGateway</h1>"), False, True, None, r"\(<h1>Bad Gateway</h1>\)"),
        (Turn(status=422, raw='{"detail": [{"msg": "x"}]}'), False, False, None, r"\(\[\{'msg': 'x'\}\]\)"),
        (Turn(status=504), True, True, None, "HTTP 504"),
        (
            Turn(status=307, headers={"location": "/elsewhere"}),
            False,
            False,
            None,
            "redirects to /elsewhere, which is not followed",
        ),
        (Turn(status=202, raw=""), True, True, None, "cannot be read"),
        (Turn(raw='{"choices": []}'), True, True, None, "cannot be read .choices"),
        (Turn(raw="[]"), True, True, None, "cannot be read"),
        (Turn(cut=True), True, True, None, "connection broke"),
    ],
)
async def test_a_failure_says_what_it_means_for_money_and_patience(
    opened: Callable[..., CompatibleEndpoint],
    turn: Turn,
    sent: bool,
    retryable: bool,
    after_s: float | None,
    said: str,
) -> None:
    async with MeteredEndpoint([turn]) as server:
        with pytest.raises(CallFailed, match=said) as raised:
            await opened(server.url).ask(ASK)
    failed = raised.value
    assert (failed.sent, failed.retryable, failed.retry_after_s) == (sent, retryable, after_s)


async def test_every_status_of_success_is_an_answer(opened: Callable[..., CompatibleEndpoint]) -> None:
    async with MeteredEndpoint([Turn(status=203, raw=completion(content="ok"))]) as server:
        assert (await opened(server.url).ask(ASK)).text == "ok"


async def test_an_answer_without_end_is_cut_off_and_not_asked_for_again(
    opened: Callable[..., CompatibleEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compatible, "MOST_BYTES", 1_000)
    async with MeteredEndpoint([Turn("x" * 2_000)]) as server:
        with pytest.raises(CallFailed, match="over 1,000 bytes") as raised:
            await opened(server.url).ask(ASK)
    assert (raised.value.sent, raised.value.retryable) == (True, False)


@pytest.mark.parametrize(("connect_s", "timeout_s"), [(0.2, 5.0), (10.0, 0.5)])
async def test_a_connection_that_never_comes_counts_as_unsent(
    opened: Callable[..., CompatibleEndpoint],
    monkeypatch: pytest.MonkeyPatch,
    connect_s: float,
    timeout_s: float,
) -> None:
    monkeypatch.setattr(compatible, "CONNECT_S", connect_s)
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf:
        port = deaf.getsockname()[1]
        with (
            socket.create_connection(("127.0.0.1", port)),  # whoever comes next waits for it to be taken
            pytest.raises(CallFailed, match="cannot be reached") as raised,
        ):
            await opened(f"http://127.0.0.1:{port}/v1").ask(replace(ASK, timeout_s=timeout_s))
    assert (raised.value.sent, raised.value.retryable) == (False, True)


async def test_the_proxy_of_the_environment_is_used(
    opened: Callable[..., CompatibleEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MeteredEndpoint() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        await opened("http://models.example/v1").ask(ASK)
        assert proxy.seen[0].headers["host"] == "models.example"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        async with MeteredEndpoint() as near:
            await opened(near.url).ask(ASK)
            assert near.calls == proxy.calls == 1


async def test_a_proxy_without_a_scheme_is_one_that_speaks_http(
    opened: Callable[..., CompatibleEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MeteredEndpoint() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1").removeprefix("http://"))
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        await opened("http://models.example/v1").ask(ASK)
        assert proxy.seen[0].headers["host"] == "models.example"


@pytest.mark.parametrize("proxy", ["socks5://me:secret@127.0.0.1:1080", "http://[1"])
def test_a_proxy_that_speaks_no_http_is_refused_before_anything_is_held_for_a_call(
    monkeypatch: pytest.MonkeyPatch, proxy: str
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "elsewhere.example")
    with pytest.raises(ModelUnavailable, match="NO_PROXY") as raised:
        open_endpoint("m", "http://models.example/v1", "")
    assert "secret" not in str(raised.value)


def test_a_key_that_no_header_can_hold_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match="CHIMERA_MODEL_API_KEY"):
        open_endpoint("m", "http://127.0.0.1:9/v1", "secret\n")


async def test_a_name_and_password_in_the_url_go_before_a_key(
    opened: Callable[..., CompatibleEndpoint],
) -> None:
    async with MeteredEndpoint() as server:
        await opened(server.url.replace("://", "://me:word@"), "secret").ask(ASK)
        assert server.seen[0].headers["authorization"].startswith("Basic ")


async def test_a_call_that_cannot_be_put_together_counts_as_unsent(
    opened: Callable[..., CompatibleEndpoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with MeteredEndpoint() as server:
        for endpoint, ask in (
            (opened(server.url), replace(ASK, prompt="\ud83d")),
            (opened(server.url.replace("http:", "https:")), ASK),
        ):
            monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
            with pytest.raises(CallFailed, match="cannot be made") as raised:
                await endpoint.ask(ask)
            assert (raised.value.sent, raised.value.retryable) == (False, False)
        assert server.calls == 0


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/v1", "127.0.0.1:80/v1", "http://", "http://[1"])
def test_what_is_no_endpoint_is_refused_with_the_variable_that_names_it(url: str) -> None:
    with pytest.raises(ModelUnavailable, match="CHIMERA_MODEL_URL"):
        open_endpoint("m", url, "")


def test_an_endpoint_of_ones_own_imports_no_provider() -> None:
    script = (
        "import sys; from chimera.agents.models.opening import open_endpoint; "
        "open_endpoint('m', 'http://127.0.0.1:9/v1', ''); "
        "sys.exit(', '.join({'pydantic_ai', 'openai', 'anthropic'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
