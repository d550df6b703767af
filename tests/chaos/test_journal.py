"""A witness' journal: whatever was written before a kill is read, and half a line is not."""

from __future__ import annotations

import time
from pathlib import Path

from chimera.chaos.journal import Journal, read


def test_what_was_written_is_read_in_order_with_its_time(tmp_path: Path) -> None:
    before, journal = time.time(), Journal(tmp_path / "acks.ndjson")
    for number in range(3):
        journal.write(mission_id=f"m{number}", said="µ\n")
    lines = read(tmp_path / "acks.ndjson")
    assert [line["mission_id"] for line in lines] == ["m0", "m1", "m2"]
    assert {line["said"] for line in lines} == {"µ\n"}
    assert before <= lines[0]["at"] <= lines[2]["at"] <= time.time()
    journal.close()
    journal.close()


def test_a_last_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "calls.ndjson"
    journal = Journal(path)
    journal.write(task="m1.0")
    journal.write(task="m1.1")
    journal.close()
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines(keepends=True)[1])):
        path.write_bytes(whole[:-cut])
        assert [line["task"] for line in read(path)] == ["m1.0"]


def test_a_witness_killed_in_mid_line_begins_its_next_life_on_a_line_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "calls.ndjson"
    path.write_bytes(b'{"task": "m1.0"}\n{"task": "m1')
    journal = Journal(path)
    journal.write(task="m1.2")
    journal.close()
    assert [line["task"] for line in read(path)] == ["m1.0", "m1.2"]


def test_a_witness_that_is_started_again_goes_on_in_its_journal(tmp_path: Path) -> None:
    for task in ("m1.0", "m1.1"):
        journal = Journal(tmp_path / "calls.ndjson")
        journal.write(task=task)
        journal.close()
    assert [line["task"] for line in read(tmp_path / "calls.ndjson")] == ["m1.0", "m1.1"]


def test_a_witness_that_never_came_has_said_nothing(tmp_path: Path) -> None:
    assert read(tmp_path / "nobody.ndjson") == []
    Journal(tmp_path / "silent.ndjson").close()
    assert read(tmp_path / "silent.ndjson") == []
