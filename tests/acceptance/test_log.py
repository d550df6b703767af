"""The log of a whole fleet: every line is a record, or one of Ray's own that is known by name."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from chimera.serving.local.logfiles import STAGES, of_fleet
from chimera.telemetry.record import LogRecord
from chimera.telemetry.strangers import named
from tests.acceptance.conftest import BIN, LiveFleet, eventually

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]


def records(path: Path) -> list[LogRecord]:
    """A log's records; a line that is none fails."""
    return [LogRecord.model_validate_json(line) for line in path.read_text("utf-8").splitlines()]


def test_the_foregrounds_stdout_is_records_of_every_part_and_of_what_agents_say(fleet: LiveFleet) -> None:
    done = fleet("run", fleet.mission(agent="talk", inputs=["for all"]), "-o", "json").ok()
    mission = done.lines[-1]["mission"]

    def said() -> set[str]:
        return {one.message for one in records(fleet.log) if one.mission_id == mission["mission_id"]}

    assert eventually(lambda: said() >= {"printed for all", "logged for all"}), said()
    found = records(fleet.log)
    assert {one.role for one in found} >= {
        "supervisor",
        "gateway",
        "orchestrator",
        "judge",
        "governor",
        "worker",
    }
    (printed,) = [one for one in found if one.message == "printed for all"]
    assert (printed.event, printed.tenant, printed.role) == ("print", "local", "worker")
    assert (printed.task_id, printed.trace_id) == (f"{mission['mission_id']}.0", mission["trace_id"])
    ready = [one for one in found if one.event == "stage.ready" and one.fields["stage"] == "fleet"]
    assert ready, "the start is told too"


def test_the_traceback_of_an_agent_is_in_the_record_that_names_its_task(fleet: LiveFleet) -> None:
    done = fleet("run", fleet.mission(agent="broken", inputs=["loud"]), "-o", "json")
    task_id = f"{done.lines[-1]['mission']['mission_id']}.0"

    def told() -> list[LogRecord]:
        return [one for one in records(fleet.log) if one.task_id == task_id and one.exception]

    assert eventually(told)
    assert "RuntimeError: no idea what to do with loud" in told()[0].exception


def test_each_line_of_each_file_is_a_record_or_of_a_kind_that_is_listed(fleet: LiveFleet) -> None:
    fleet.get("/v1/agents").raise_for_status()
    kinds: Counter[str] = Counter()
    unknown: list[str] = []
    for place in of_fleet(fleet.state):
        for path in place.files():
            if path.name != STAGES and not path.name.startswith("job-driver-"):
                for kind, line in named(path.read_text("utf-8", "replace").splitlines()):
                    kinds[kind] += 1
                    unknown += [] if kind else [f"{path.name}: {line}"]
    assert unknown == []
    assert kinds["record"] > 10
    assert kinds["ray-mark"] > 5


def test_no_traceback_of_our_code_stands_outside_a_record(fleet: LiveFleet) -> None:
    for place in of_fleet(fleet.state):
        for path in place.files():
            lines = [line for line in path.read_text("utf-8", "replace").splitlines() if line[:1] != "{"]
            at = [n for n, line in enumerate(lines) if "Traceback (most recent call last)" in line]
            told = [lines[max(n - 3, 0) : n + 40] for n in at]
            assert [text for text in told if "chimera/" in "".join(text)] == [], path.name


def test_logs_shows_what_is_asked_for_and_goes_on(fleet: LiveFleet) -> None:
    first = fleet("run", fleet.mission(agent="talk", inputs=["before"]), "-o", "json").ok()
    mission_id = first.lines[-1]["mission"]["mission_id"]
    shown = fleet("logs", "--mission", mission_id, "-o", "json").ok().lines
    assert {"printed before", "logged before"} <= {line.get("message") for line in shown}
    assert {line["mission_id"] for line in shown} == {mission_id}
    assert not fleet("logs", "--tenant", "nobody", "-o", "json").ok().lines
    text = fleet.given(CHIMERA_LOG_FORMAT="console")("logs", "--task", f"{mission_id}.0").ok().out
    assert "printed before" in text
    assert not text.startswith("{")

    out = fleet.write("followed", "")
    with out.open("wb") as stdout:
        command = [str(BIN / "chimera"), "logs", "-f", "--role", "worker"]
        follower = subprocess.Popen(command, env=dict(fleet.environment), stdout=stdout)
    try:
        fleet("run", fleet.mission(agent="talk", inputs=["afterwards"])).ok()
        assert eventually(lambda: "printed afterwards" in out.read_text("utf-8"))
        assert {record.role for record in records(out)} == {"worker"}
    finally:
        follower.terminate()
        follower.wait(30)
