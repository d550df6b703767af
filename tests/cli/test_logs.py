"""`chimera logs`: one log of many files, and of it what is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chimera.telemetry.record import entry, render
from tests.cli.conftest import Shell


@pytest.fixture
def node(tmp_path: Path) -> Path:
    """What a node of a Ray cluster keeps of two workers' logs."""
    logs = tmp_path / "ray/session_2026/logs"
    logs.mkdir(parents=True)

    def written(**values: Any) -> str:
        level = values.pop("level", "info")
        return render(entry(values.pop("role", "worker"), level, "m", values)) + "\n"

    (logs / "worker-1.out").write_text(
        ":actor_name:WorkerActor\n"
        + written(event="a", tenant="acme", mission_id="m1", task_id="m1.0", trace_id="1" * 32)
        + written(event="b", tenant="acme", mission_id="m1", task_id="m1.1", level="error")
    )
    (logs / "worker-2.out").write_text(written(event="c", tenant="other", task_id="m2.0"))
    (logs / "worker-3.out").write_text(written(event="d", role="judge", level="warning"))
    (logs / "raylet.out").write_text("not ours to tell\n")
    return tmp_path / "ray"


@pytest.mark.parametrize(
    ("options", "events"),
    [
        ((), "abcd"),
        (("--tenant", "acme"), "ab"),
        (("--mission", "m2"), "c"),
        (("--task", "m1.1"), "b"),
        (("--role", "judge"), "d"),
        (("--level", "warning"), "bd"),
        (("--trace", "1" * 32), "a"),
        (("--tenant", "acme", "--level", "error"), "b"),
    ],
)
async def test_logs_shows_records_that_are_all_that_is_asked_for(
    shell: Shell, node: Path, options: tuple[str, ...], events: str
) -> None:
    done = await shell("logs", "--ray", str(node), "-o", "json", *options)
    assert done.code == 0
    assert [line["event"] for line in done.lines] == list(events)


async def test_logs_for_eyes_is_a_line_for_each(shell: Shell, node: Path) -> None:
    for_eyes = Shell(shell.directory, {**shell.environment, "CHIMERA_LOG_FORMAT": "console"})
    done = await for_eyes("logs", "--ray", str(node), "--mission", "m1")
    assert [line.split()[1:] for line in done.out.splitlines()] == [
        ["info", "worker", "a", "acme", "m1.0"],
        ["error", "worker", "b", "acme", "m1.1"],
    ]


async def test_a_level_that_there_is_not_is_refused(shell: Shell) -> None:
    done = await shell("logs", "--level", "loud")
    assert done.code == 2
    assert "debug, info, warning" in done.err


async def test_without_a_fleet_there_is_nothing_to_show(shell: Shell) -> None:
    done = await shell("logs")
    assert (done.code, done.out) == (0, "")
