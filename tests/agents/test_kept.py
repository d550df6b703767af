"""A re-run pays for nothing that an earlier run of the same work has paid for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from chimera.agents.models.client import ModelClient, Models
from chimera.agents.models.endpoint import Reply
from chimera.agents.models.kept import Kept, call_id, load, request_name
from chimera.agents.models.prices import Tokens
from chimera.agents.purse import Charge, Keep, LocalPurse
from chimera.errors import AnswerUnusable, ModelUnavailable, StoreUnavailable
from chimera.settings import Settings
from tests.agents.endpoint import MeteredEndpoint, Turn

PRICES = {"model_price_input_usd": 1.0, "model_price_output_usd": 10.0}

Run = Callable[..., ModelClient]


class KeepingPurse(LocalPurse):
    """Keeps what it is told to, as the ledger does, and writes down what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.replies: dict[str, str] = {}
        self.looked_for: list[str] = []

    async def settle(
        self, hold_id: str, *, cost_microusd: int, charge: Charge, keep: Keep | None = None
    ) -> None:
        await super().settle(hold_id, cost_microusd=cost_microusd, charge=charge)
        if keep is not None:
            self.replies.setdefault(keep.call, keep.reply)

    async def find(self, call: str) -> str | None:
        self.looked_for.append(call)
        return self.replies.get(call)


@pytest.fixture
def purse() -> KeepingPurse:
    return KeepingPurse()


@pytest.fixture
async def endpoint() -> Any:
    async with MeteredEndpoint([Turn(f"answer {n}") for n in range(9)]) as made:
        yield made


@pytest.fixture
def run(
    purse: KeepingPurse,
    endpoint: MeteredEndpoint,
    open_models: Callable[[Settings], Models],
    make_settings: Callable[..., Settings],
) -> Run:
    """Makes the client of one run of the same work."""
    models = open_models(make_settings(model="m", model_url=endpoint.url, model_retries=0, **PRICES))

    def make(work: str = "t/m1.0/0", rerun: bool = True) -> ModelClient:
        return ModelClient(models=models, purse=purse, agent="a", idempotency_key=work, rerun=rerun)

    return make


async def test_a_rerun_is_given_what_was_paid_for_and_is_charged_nothing(
    run: Run, purse: KeepingPurse, endpoint: MeteredEndpoint
) -> None:
    assert await run(rerun=False).text("x") == "answer 0"
    assert purse.looked_for == [], "a first run has no need to look"
    again = run()
    with capture_logs() as logs:
        assert await again.text("x") == "answer 0"
        assert await again.text("y") == "answer 1"
    assert endpoint.calls == 2
    kept, paid = again.charges
    assert (kept.kept, kept.cost_microusd, kept.input_tokens, kept.provider_request_id) == (
        True,
        0,
        10,
        "scripted-1",
    )
    assert (paid.kept, paid.cost_microusd) == (False, 30)
    assert purse.settled_microusd == 60
    assert [entry["event"] for entry in logs] == ["call.kept"]


async def test_other_work_samples_anew(run: Run, endpoint: MeteredEndpoint) -> None:
    assert await run(rerun=False).text("x") == "answer 0"
    assert await run("t/m1.0/1").text("x") == "answer 1"
    keys = [seen.headers["idempotency-key"] for seen in endpoint.seen]
    assert len(set(keys)) == 2


@pytest.mark.parametrize(
    "other",
    [{"system": "s"}, {"max_tokens": 9}, {"temperature": 0.5}, {"seed": 3}, {"key": "k"}],
    ids=lambda other: next(iter(other)),
)
async def test_another_request_is_another_call(
    run: Run, endpoint: MeteredEndpoint, other: dict[str, Any]
) -> None:
    await run(rerun=False).text("x")
    assert await run().text("x", **other) == "answer 1"


async def test_equal_requests_of_one_run_are_calls_of_their_own(run: Run, endpoint: MeteredEndpoint) -> None:
    first = run(rerun=False)
    said = [await first.text("x") for _ in range(3)]
    assert said == ["answer 0", "answer 1", "answer 2"]
    again = run()
    assert [await again.text("x") for _ in range(4)] == [*said, "answer 3"]


async def test_calls_at_once_find_theirs_in_any_order(run: Run, endpoint: MeteredEndpoint) -> None:
    first, again = run(rerun=False), run()
    prompts = [str(n) for n in range(5)]
    said = dict(zip(prompts, await asyncio.gather(*map(first.text, prompts)), strict=True))
    backwards = prompts[::-1]
    found = dict(zip(backwards, await asyncio.gather(*map(again.text, backwards)), strict=True))
    assert found == said
    assert endpoint.calls == 5


async def test_a_key_names_a_call_whose_prompt_differs_from_run_to_run(
    run: Run, endpoint: MeteredEndpoint
) -> None:
    first, again = run(rerun=False), run()
    said = [await first.text("at noon", key="hour"), await first.text("at one", key="hour")]
    assert said == ["answer 0", "answer 1"], "used again, it names another call"
    assert [await again.text("at two", key="hour"), await again.text("at three", key="hour")] == said
    assert endpoint.calls == 2


class Point(BaseModel):
    x: int


async def test_an_answer_that_could_not_be_used_is_asked_for_anew(
    run: Run, endpoint: MeteredEndpoint
) -> None:
    endpoint.script = (Turn("no json"), Turn('{"x": 1}'), Turn("another"))
    with pytest.raises(AnswerUnusable):
        await run(rerun=False).structured("where?", Point)
    assert await run().structured("where?", Point) == Point(x=1)
    assert await run().structured("where?", Point) == Point(x=1)
    keys = [seen.headers["idempotency-key"] for seen in endpoint.seen]
    assert len(keys) == len(set(keys)) == 2, "a provider that honours keys must not give the old answer"


async def test_a_call_that_failed_keeps_nothing_and_its_rerun_has_the_same_key(
    run: Run, purse: KeepingPurse, endpoint: MeteredEndpoint
) -> None:
    endpoint.script = (Turn(cut=True), Turn("done"))
    with pytest.raises(ModelUnavailable):
        await run(rerun=False).text("x")
    assert purse.replies == {}
    assert await run().text("x") == "done"
    first, second = (seen.headers["idempotency-key"] for seen in endpoint.seen)
    assert first == second


async def test_a_reader_that_raises_leaves_no_hold(run: Run, purse: KeepingPurse) -> None:
    class Broken(BaseModel):
        @classmethod
        def model_validate_json(cls, *_: Any, **__: Any) -> Any:
            raise RuntimeError("a validator's defect")

    with pytest.raises(RuntimeError):
        await run().structured("x", Broken)
    assert (purse.held_microusd, purse.settled_microusd) == (0, 30)


async def test_a_hold_that_is_over_lets_no_call_leave(
    run: Run, purse: KeepingPurse, endpoint: MeteredEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def over(hold_id: str) -> bool:
        await purse.release(hold_id)
        return False

    monkeypatch.setattr(purse, "sent", over)
    with pytest.raises(ModelUnavailable, match="its hold ran out before it was sent"):
        await run().text("x")
    assert (endpoint.calls, purse.held_microusd, purse.settled_microusd) == (0, 0, 0)


async def test_a_call_that_cannot_be_marked_as_sent_does_not_leave(
    run: Run, purse: KeepingPurse, endpoint: MeteredEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(hold_id: str) -> bool:
        raise StoreUnavailable("the store is away")

    monkeypatch.setattr(purse, "sent", away)
    with pytest.raises(StoreUnavailable):
        await run().text("x")
    assert (endpoint.calls, purse.held_microusd, purse.settled_microusd) == (0, 0, 0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("plain äöü \u2028", Tokens(1, 2)), ("half a pair: \ud83d", Tokens(1, 2)), ("x", Tokens(2**70, 2))],
    ids=["plain", "half a surrogate pair", "more than 64 bits"],
)
def test_whatever_an_endpoint_sent_is_kept_as_it_was(text: str, tokens: Tokens) -> None:
    kept = Kept("m", Reply(text, tokens, "id", truncated=True))
    written = kept.text()
    assert load(written) == kept
    assert written.encode()


def test_calls_keep_their_names_from_version_to_version() -> None:
    """A call under way at an upgrade would be paid again under another name."""
    name = request_name(("m", "ä \ud83d", None, {"b": 1, "a": [2.5]}, 9, 0.5, None))
    assert name == "fd35e29d83decb994261b4ed48b836a1"
    assert call_id("t/m1.0/0", name, 1) == "4841d045095f0c576de5a28a99265d83"
