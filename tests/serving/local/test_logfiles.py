"""A fleet's files as one log: every line a record, none lost, whatever happens to the files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera.serving.local.logfiles import LogFiles, of_fleet, of_ray
from chimera.serving.local.stages import Stage, StageEvent, Status
from chimera.serving.local.state import StateDir
from chimera.telemetry.record import entry, render


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    logs = tmp_path / "session_2026/logs"
    logs.mkdir(parents=True)
    (tmp_path / "session_latest").symlink_to(tmp_path / "session_2026")
    return logs


@pytest.fixture
def files(directory: Path) -> Iterator[LogFiles]:
    found = LogFiles(of_ray(directory.parents[1]))
    yield found
    found.close()


def line(event: str) -> str:
    return render(entry("worker", "info", "m", {"event": event})) + "\n"


def events(files: LogFiles) -> list[str]:
    return [record.event for record in files.new()]


def test_lines_come_once_whole_and_in_order_of_time(directory: Path, files: LogFiles) -> None:
    one, two = directory / "worker-1.out", directory / "worker-2.out"
    earlier, later = line("earlier"), line("later")
    one.write_text(later)
    two.write_text(earlier + later[:20])
    assert events(files) == ["earlier", "later"]
    assert events(files) == []
    with two.open("a") as file:
        file.write(later[20:])
    assert events(files) == ["later"]


def test_rays_own_lines_become_records_and_its_marks_nothing(directory: Path, files: LogFiles) -> None:
    said = (
        "WARNING 2026-11-29 00:22:48,013 controller 17906 -- Deployment 'Judge' takes long.\nThis may be.\n"
    )
    (directory / "worker-1.err").write_text(f":job_id:01000000\n:actor_name:ServeController\n{said}")
    first, second = files.new()
    assert (first.event, first.role, first.level) == ("line", "ray", "warning")
    assert first.fields == second.fields == {"kind": "serve"}, "it goes on"
    assert first.message.endswith("-- Deployment 'Judge' takes long.")
    assert (first.logger, second.message) == ("worker-1.err", "This may be.")
    (directory / "worker-2.out").write_text("an agent's child process said this\n")
    (other,) = files.new()
    assert (other.role, other.fields) == ("other", {})


def test_secrets_in_rays_lines_are_redacted_too(directory: Path, files: LogFiles) -> None:
    (directory / "worker-1.err").write_text("redis://hub:hunter2hunter2@127.0.0.1:6379/0 is away\n")
    (record,) = files.new()
    assert "hunter2" not in record.message


def test_a_file_that_is_removed_is_read_to_its_end(directory: Path, files: LogFiles) -> None:
    path = directory / "worker-1.out"
    path.write_text(line("first"))
    assert events(files) == ["first"]
    with path.open("a") as file:
        file.write(line("last words"))
    path.unlink()
    assert events(files) == ["last words"]
    path.write_text(line("another of that name"))
    assert events(files) == ["another of that name"]


def test_what_was_there_before_can_be_left_out(directory: Path, files: LogFiles) -> None:
    path = directory / "worker-1.out"
    path.write_text(line("old"))
    files.skip()
    with path.open("a") as file:
        file.write(line("new"))
    assert events(files) == ["new"]


def test_an_emptied_file_begins_anew(directory: Path, files: LogFiles) -> None:
    path = directory / "worker-1.out"
    path.write_text(line("old") * 3)
    assert events(files) == ["old"] * 3
    path.write_text(line("new"))
    assert events(files) == ["new"]


def test_the_stages_of_a_local_fleet_are_in_its_log(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.logs.mkdir()
    event = StageEvent(
        stage=Stage.RAY, status=Status.FAILED, seconds=3, detail="redis://h:hunter2hunter2@x/0"
    )
    state.progress.write_text(event.model_dump_json() + "\n")
    files = LogFiles(of_fleet(state))
    (record,) = files.new()
    files.close()
    assert (record.event, record.role, record.level, record.time) == (
        "stage.failed",
        "supervisor",
        "error",
        event.at,
    )
    assert record.fields == {"stage": "ray", "seconds": 3.0, "detail": "redis://h:***@x/0"}
