"""What is wrong is refused with one sentence and the right code, and the fleet works on."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.serving.local import remains
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.local.state import StateDir
from tests.acceptance.conftest import Done, LiveFleet

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]
CIRCLE = {
    "strategy": "dag",
    "nodes": [
        {"name": "a", "agent": "square", "input": 1, "depends_on": ["b"]},
        {"name": "b", "agent": "square", "input": 2, "depends_on": ["a"]},
    ],
}


def newest(fleet: LiveFleet) -> list[str]:
    """The missions submitted last."""
    found = fleet.get("/v1/missions?limit=5").raise_for_status().json()
    return [one["mission_id"] for one in found["items"]]


def assert_refused(done: Done, code: int, expected: str) -> None:
    assert done.code == code, done
    assert re.search(expected, done.err), done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"agent": "squair", "inputs": [1]}, "squair.*square"),
        ({"agent": "square", "inputs": []}, "inputs"),
        ({"agent": "square", "inputs": [1], "budget_usd": 0}, "budget_usd"),
        ({"agent": "square", "inputs": [1], "budget_usd": "-1"}, "budget_usd"),
        ({"agent": "square", "inputs": ["x" * 10_000_000]}, "CHIMERA_MAX_INPUT_BYTES"),
        ({"plan": CIRCLE}, "circle|cycle"),
        ({"agent": "square", "inputs": [1], "options": {"rest_s": "long"}}, r"options\.rest_s"),
    ],
    ids=["agent", "inputs", "budget 0", "budget -1", "10 MB", "circle", "options"],
)
def test_a_bad_mission_is_refused_and_nothing_is_submitted(
    fleet: LiveFleet, fields: dict[str, Any], expected: str
) -> None:
    before = newest(fleet)
    assert_refused(fleet("run", fleet.mission(**fields)), 2, expected)
    assert newest(fleet) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [("goal: [unclosed\nbudget_usd: 1\n", "line [123]"), (None, "nowhere.yaml")],
    ids=["no YAML", "no file"],
)
def test_a_file_that_cannot_be_read_is_named(fleet: LiveFleet, text: str | None, expected: str) -> None:
    file = Path("nowhere.yaml") if text is None else fleet.write("bad.yaml", text)
    assert_refused(fleet("run", file), 2, expected)


def test_an_item_of_10_mb_is_refused_at_the_http_door_too(fleet: LiveFleet) -> None:
    key, url = fleet.record.api_key(), fleet.record.url
    before = newest(fleet)
    answer = httpx.post(
        f"{url}/v1/missions",
        headers={"Authorization": f"Bearer {key}"},
        json={"goal": "g", "agent": "square", "budget_usd": "0.01", "inputs": ["x" * 10_000_000]},
        timeout=60,
    )
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == 413, answer.text
    assert newest(fleet) == before


def test_a_wrong_key_exits_3_and_names_the_variable(fleet: LiveFleet) -> None:
    stranger = fleet.given(CHIMERA_API_KEY="chi_of_somebody_else")
    assert_refused(stranger("mission", "list"), 3, "CHIMERA_API_KEY")


def test_a_second_fleet_on_a_taken_port_exits_2_and_names_the_holder(fleet: LiveFleet) -> None:
    other = fleet.directory / "other"
    second = fleet.given(CHIMERA_STATE_DIR=other, CHIMERA_HTTP_PORT=fleet.record.url.rpartition(":")[2])
    refused = second("up")
    assert refused.code == 2
    assert re.search(r"port \d+ .*CHIMERA_HTTP_PORT", refused.err, re.DOTALL)
    assert "Traceback" not in refused.err
    assert not remains.find(StateDir(other))
    assert fleet.ready()


def test_an_unreachable_fleet_exits_4_and_says_how_to_start_one(fleet: LiveFleet) -> None:
    nowhere = fleet.given(CHIMERA_URL=f"http://{LOOPBACK}:{free_port()}")
    assert_refused(nowhere("run", fleet.mission(agent="square", inputs=[1])), 4, "chimera up")


def test_a_model_that_is_down_ends_an_agent_with_the_next_step(fleet: LiveFleet) -> None:
    down = fleet.given(
        CHIMERA_MODEL="any", CHIMERA_MODEL_URL=f"http://{LOOPBACK}:{free_port()}/v1", CHIMERA_MODEL_RETRIES=0
    )
    assert_refused(down("agent", "run", "llm", "-i", "x"), 1, "CHIMERA_MODEL_URL")


def test_a_model_that_never_answers_ends_an_agent_in_time(fleet: LiveFleet) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        waiting = fleet.given(
            CHIMERA_MODEL="any",
            CHIMERA_MODEL_URL=f"http://{LOOPBACK}:{silent.getsockname()[1]}/v1",
            CHIMERA_MODEL_RETRIES=0,
            CHIMERA_MODEL_TIMEOUT_S=1,
        )
        assert_refused(waiting("agent", "run", "llm", "-i", "x", timeout_s=30), 1, "CHIMERA_MODEL_URL")


def test_a_model_that_falls_silent_fails_its_tasks_in_time_and_charges_the_worst_case(
    fleet: LiveFleet,
) -> None:
    model = fleet.record.processes["model"]
    file = fleet.mission(
        agent="llm",
        inputs=["The harbour opens at six."],
        options={"max_tokens": 8, "prompt": "Repeat this: {input}"},
        judge=[{"policy": "rules", "min_chars": 1}],
        task_timeout_s=20,
    )
    spoken = fleet("run", file, "-o", "json").ok().lines[-1]["mission"]
    assert 0 < spoken["spent_microusd"] <= spoken["budget_microusd"]
    file.write_text(file.read_text(encoding="utf-8").replace("20", "4"), encoding="utf-8")
    assert model.send(signal.SIGSTOP)
    try:
        silent = fleet("run", file, "-o", "json")
    finally:
        model.send(signal.SIGCONT)
    assert silent.code == 1, silent
    ended = silent.lines[-1]["mission"]
    assert (ended["status"], ended["tallies"]) == ("FAILED", {"timeouts": 1})
    # The call was sent, and nobody will ever know what it cost.
    assert ended["spent_microusd"] + ended["held_microusd"] >= spoken["spent_microusd"]
    fleet("run", file).ok()
