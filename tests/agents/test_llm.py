"""The agent `llm` on the real embedded model, and what it sends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from chimera.agents.context import Context
from chimera.agents.llm import LlmOptions, llm
from chimera.agents.models import process
from chimera.agents.models.client import ModelClient, Models
from chimera.agents.models.embedded import MODEL_NAME, weights
from chimera.agents.models.process import EmbeddedModel
from chimera.agents.purse import LocalPurse
from chimera.agents.registry import Registry
from chimera.core.mission import MissionFile
from chimera.core.task import Priority, Task, TaskContext, TaskStatus
from chimera.errors import InvalidRequest, ModelUnavailable
from chimera.settings import Settings
from tests.agents.endpoint import MeteredEndpoint, Turn

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = """# The harbour of Anholt

The harbour opens at six in the morning and closes when the last boat is in. Boats above ten tonnes
pay by the day. The keeper writes every arrival into the harbour book.
"""


Work = Callable[..., tuple[Task, Context, LocalPurse]]


@pytest.fixture
def work(open_models: Callable[[Settings], Models]) -> Work:
    """Makes a task, its context and its purse; closed at the test's end."""

    def make(
        settings: Settings, options: dict[str, Any], item: Any = None, round_: int = 0, **context: Any
    ) -> tuple[Task, Context, LocalPurse]:
        purse = LocalPurse()
        client = ModelClient(models=open_models(settings), purse=purse, agent="llm")
        ctx = Context(
            tenant="t",
            mission_id="m",
            task_id="m.0",
            attempt=3,
            round=round_,
            model=client,
            options=options,
        )
        task = Task(
            task_id="m.0",
            task_type="llm",
            priority=Priority.MEDIUM,
            context=TaskContext(goal="Index", input=item, **context),
            status=TaskStatus.PENDING,
        )
        return task, ctx, purse

    return make


async def test_the_embedded_model_quotes_within_the_schema(work: Work, embedded_settings: Settings) -> None:
    mission = yaml.safe_load((EXAMPLES / "missions" / "digest.yaml").read_text(encoding="utf-8"))
    task, ctx, purse = work(embedded_settings, mission["options"], {"path": "a.md", "text": TEXT})
    answer = await llm(task, ctx)
    assert answer["sentence"] in " ".join(TEXT.split())
    assert len(answer["keywords"]) == len(set(answer["keywords"]))
    assert answer["kind"] in {"guide", "reference", "design", "log"}
    (charge,) = purse.charges
    assert charge.model == MODEL_NAME
    assert charge.input_tokens > 50
    assert 0 < charge.output_tokens <= mission["options"]["max_tokens"]
    assert charge.price_version == "embedded:0.05/0.20"


async def test_the_same_attempt_says_the_same(work: Work, embedded_settings: Settings) -> None:
    options = {"prompt": "Name a colour of {input}.", "max_tokens": 8}
    said = []
    for _ in range(2):
        task, ctx, _ = work(embedded_settings, options, "the sea")
        said.append(await llm(task, ctx))
    assert said[0] == said[1] != ""


async def test_the_embedded_model_asks_for_its_key(embedded: EmbeddedModel) -> None:
    async with httpx.AsyncClient() as client:
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        answer = await client.post(f"{embedded.url}/chat/completions", json=body)
    assert answer.status_code == 401


async def test_a_prompt_beyond_the_context_is_refused_with_the_reason(
    work: Work, embedded_settings: Settings
) -> None:
    task, ctx, purse = work(embedded_settings, {"prompt": "{input}"}, "word " * 5_000)
    with pytest.raises(ModelUnavailable, match=r"HTTP 400.*context size"):
        await llm(task, ctx)
    assert purse.settled_microusd == 0


def test_sigterm_ends_the_embedded_model_cleanly() -> None:
    running = process.start(environ={"CHIMERA_EMBEDDED_MODEL_THREADS": "1"})
    os.kill(running.process.pid, signal.SIGTERM)
    assert running.process.wait(10) == 0
    running.stop()


def test_a_taken_port_is_named(embedded: EmbeddedModel, tmp_path: Path) -> None:
    port = int(embedded.url.rsplit(":", 1)[1].split("/")[0])
    with pytest.raises(ModelUnavailable, match=f"127.0.0.1:{port}"):
        process.start(port, log=tmp_path / "model.log")


def test_the_weights_are_found_without_importing_their_package() -> None:
    assert weights().suffix == ".gguf"


async def test_feedback_goes_to_the_system_prompt_and_the_seed_moves_on(
    work: Work,
    make_settings: Callable[..., Settings],
) -> None:
    async with MeteredEndpoint([Turn("fine")]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        for round_, feedback in ((0, ()), (1, ("too long",))):
            task, ctx, _ = work(settings, {"prompt": "{input}"}, "text", round_, feedback=feedback)
            await llm(task, ctx)
        first, second = (seen.body for seen in endpoint.seen)
    assert [message["role"] for message in first["messages"]] == ["user"]
    assert "too long" in second["messages"][0]["content"]
    assert second["messages"][1]["content"] == "text"
    assert (first["seed"], second["seed"]) == (7, 8)
    assert first["temperature"] == 0 < second["temperature"]


async def test_a_mission_may_place_the_feedback_itself(
    work: Work, make_settings: Callable[..., Settings]
) -> None:
    async with MeteredEndpoint([Turn("fine")]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        task, ctx, _ = work(settings, {"prompt": "{feedback}: {input}"}, "x", 1, feedback=("shorter",))
        await llm(task, ctx)
        (message,) = endpoint.seen[0].body["messages"]
    assert message["content"] == "shorter: x"


async def test_results_of_other_tasks_are_brought_together(
    work: Work, make_settings: Callable[..., Settings]
) -> None:
    async with MeteredEndpoint([Turn("fine")]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        task, ctx, _ = work(settings, {}, inputs={"m.1": "one", "m.2": "two"})
        await llm(task, ctx)
        (message,) = endpoint.seen[0].body["messages"]
    assert message["content"] == 'Index\n\n{"m.1": "one", "m.2": "two"}'


async def test_an_answer_that_is_no_json_is_left_to_the_judge(
    work: Work, make_settings: Callable[..., Settings]
) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    async with MeteredEndpoint([Turn("sorry, no")]) as endpoint:
        settings = make_settings(model="m", model_url=endpoint.url)
        task, ctx, purse = work(settings, {"output_schema": schema}, "x")
        assert await llm(task, ctx) == "sorry, no"
    assert purse.settled_microusd > 0


@pytest.mark.parametrize(
    ("options", "place"),
    [
        ({"prompt": "{inptu}"}, "options.prompt"),
        ({"system": "{goal.x}"}, "options.system"),
        ({"output_schema": {"type": "array"}}, "options.output_schema"),
        (
            {"output_schema": {"type": "object", "properties": {"a": {"x-copy-unit": "page"}}}},
            "options.output_schema",
        ),
        ({"max_tokens": 0}, "options.max_tokens"),
        ({"colour": "red"}, "options.colour"),
    ],
)
def test_bad_options_name_their_place(options: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        Registry.built_in().get("llm").options_of(options)
    assert raised.value.problems[0].startswith(place)


@pytest.mark.parametrize("name", ["digest", "poor", "word_count"])
def test_the_example_missions_are_valid(name: str) -> None:
    text = (EXAMPLES / "missions" / f"{name}.yaml").read_text(encoding="utf-8")
    mission = MissionFile.model_validate(yaml.safe_load(text))
    if mission.agent == "llm":
        assert LlmOptions.model_validate(mission.options)
