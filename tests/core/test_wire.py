"""The words on the wire are a contract: field names, priorities and statuses never change by accident."""

from __future__ import annotations

from datetime import UTC, datetime

from chimera.core.event import KINDS, expand
from chimera.core.mission import MISSION_FINAL, MISSION_TRANSITIONS, MissionStatus
from chimera.core.task import FINAL, TRANSITIONS, Priority, Task, TaskStatus
from chimera.core.views import MissionView, TaskView

CARD = {"task_id", "task_type", "priority", "context", "status"}


def test_a_task_has_the_fields_of_the_card() -> None:
    assert set(Task.model_json_schema()["required"]) == CARD
    assert set(TaskView.model_json_schema()["properties"]) >= CARD


def test_statuses_and_priorities_are_these_words() -> None:
    assert [status.value for status in TaskStatus] == [
        "BLOCKED", "READY", "PENDING", "REVIEW", "ESCALATED", "ACCEPTED", "FAILED", "CANCELLED",
    ]  # fmt: skip
    assert [status.value for status in MissionStatus] == [
        "PLANNING", "RUNNING", "PAUSED", "WAITING_REVIEW", "COMPLETED", "FAILED", "CANCELLED",
    ]  # fmt: skip
    assert [priority.value for priority in Priority] == ["high", "medium", "low"]
    schema = str(TaskView.model_json_schema())
    assert all(status.value in schema for status in TaskStatus)


def test_a_mission_shows_its_state_version() -> None:
    assert MissionView.model_json_schema()["properties"]["state_version"]["type"] == "integer"


def test_what_is_accepted_or_cancelled_stays_so_and_the_rest_comes_back_only_to_work() -> None:
    back = {after for before, after in TRANSITIONS if before in FINAL}
    assert back == {TaskStatus.READY, TaskStatus.BLOCKED}
    assert TaskStatus.ACCEPTED not in {before for before, _ in TRANSITIONS}
    revived = {after for before, after in MISSION_TRANSITIONS if before in MISSION_FINAL}
    assert revived == {MissionStatus.RUNNING}
    assert MissionStatus.CANCELLED not in {before for before, _ in MISSION_TRANSITIONS}


def test_an_entry_expands_to_its_events_and_their_sequence() -> None:
    events = list(
        expand(
            {
                "seq": "12",
                "at": "1700000000000001",
                "by": "w1",
                "events": '[["task.claimed","m1","m1.0",{"attempt":1}],["task.claimed","m1","m1.1",[]]]',
            }
        )
    )
    assert [(event.seq, event.task_id, event.details) for event in events] == [
        (11, "m1.0", {"attempt": 1}),
        (12, "m1.1", {}),
    ]
    assert events[0].at == datetime(2023, 11, 14, 22, 13, 20, 1, tzinfo=UTC)
    assert all(event.kind in KINDS for event in events)
