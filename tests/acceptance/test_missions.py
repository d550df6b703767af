"""A mission on a real fleet, and what every command tells of it."""

from __future__ import annotations

from ipaddress import ip_address

import psutil
import pytest

from chimera.core.event import Event
from chimera.core.views import MissionView, ResultView, TaskView
from chimera.serving.local import remains
from tests.acceptance.conftest import ROOT, LiveFleet

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]


def test_run_prints_documents_that_parse_and_exits_0(fleet: LiveFleet) -> None:
    done = fleet("run", ROOT / "examples/missions/word_count.yaml", "-o", "json").ok()
    assert {line["type"] for line in done.lines} == {"progress", "result", "end"}
    results = [ResultView.model_validate(line["result"]) for line in done.lines if line["type"] == "result"]
    assert [result.result["words"] for result in results] == [11, 10]
    ended = MissionView.model_validate(done.lines[-1]["mission"])
    assert (ended.status, ended.accepted, ended.spent_microusd) == ("COMPLETED", 2, 0)


def test_a_mission_is_told_by_every_command(fleet: LiveFleet) -> None:
    mission_id = fleet.submit(agent="square", inputs=[3, 4])
    assert fleet("mission", "watch", mission_id).ok().out.count("✓ ") == 2
    listed = [MissionView.model_validate(one) for one in fleet("mission", "list", "-o", "json").ok().document]
    assert (listed[0].mission_id, listed[0].status) == (mission_id, "COMPLETED")
    results = fleet("mission", "results", mission_id, "-o", "json").ok().lines
    assert [one["result"]["square"] for one in results] == [9, 16]
    tasks = [
        TaskView.model_validate(one) for one in fleet("task", "list", mission_id, "-o", "json").ok().document
    ]
    assert [task.status for task in tasks] == ["ACCEPTED", "ACCEPTED"]
    assert "verdict  accept" in fleet("task", "get", tasks[0].task_id).ok().out
    events = [
        Event.model_validate(line) for line in fleet("recorder", "show", mission_id, "-o", "json").ok().lines
    ]
    assert (events[0].kind, events[-1].kind) == ("mission.submitted", "mission.completed")
    assert [event.seq for event in events] == sorted({event.seq for event in events})


def test_status_and_doctor_find_the_fleet_well(fleet: LiveFleet) -> None:
    status = fleet("status", "-o", "json").ok().document
    assert status["running"]
    assert set(status["alive"]) >= {"redis", "model", "ray"}
    assert all(status["alive"].values())
    assert status["url"] == fleet.record.url
    doctor = fleet("doctor")
    assert (doctor.code, doctor.out, doctor.err) == (0, "", "")


def test_agents_of_the_fleet_are_listed_by_the_names_missions_use(fleet: LiveFleet) -> None:
    agents = {agent["name"]: agent for agent in fleet("agent", "list", "-o", "json").ok().document}
    assert set(agents) >= {"llm", "word-count", "patient_count", "square", "headlines"}
    assert agents["square"]["description"].startswith("Squares a number")


def test_a_failed_mission_exits_1_and_keeps_the_reason(fleet: LiveFleet) -> None:
    done = fleet("run", fleet.mission(agent="broken", inputs=["x"]), "-o", "json")
    assert done.code == 1
    mission_id = done.lines[-1]["mission"]["mission_id"]
    assert "RuntimeError: no idea what to do with x" in fleet("task", "get", f"{mission_id}.0").ok().out


def test_what_agents_print_and_log_is_json_that_names_the_task(fleet: LiveFleet) -> None:
    done = fleet("run", fleet.mission(agent="talk", inputs=["aloud"]), "-o", "json").ok()
    mission_id = done.lines[-1]["mission"]["mission_id"]
    said = {
        record.message: record
        for record in (*fleet.records("print"), *fleet.records("log"))
        if record.task_id == f"{mission_id}.0"
    }
    assert set(said) == {"printed aloud", "logged aloud"}
    assert {(record.tenant, record.role, record.attempt) for record in said.values()} == {
        ("local", "worker", 1)
    }


def test_no_process_of_the_fleet_listens_beyond_loopback(fleet: LiveFleet) -> None:
    pids = {process.pid for process in remains.find(fleet.state)}
    assert len(pids) > 10
    addresses = {
        ip_address(connection.laddr.ip)
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr and connection.pid in pids
    }
    assert {getattr(address, "ipv4_mapped", None) or address for address in addresses} == {
        ip_address("127.0.0.1")
    }
