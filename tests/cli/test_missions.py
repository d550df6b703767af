"""Commands against a running hub, in another process: what they print and how they end."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

from chimera.runtime.base import Base
from tests.cli.conftest import Shell, ended


def mission(**fields: Any) -> str:
    return json.dumps(
        {"goal": "Say it.", "agent": "echo", "budget_usd": "0.01", "inputs": ["a", "b"], **fields}
    )


async def test_run_watches_to_the_end_and_prints_each_result(hub: Shell) -> None:
    hub.write("m.json", mission())
    done = await hub("run", "m.json")
    assert done.code == 0, done.err
    assert done.out.count("✓ ") == 2
    assert "accept 1.00" in done.out
    assert "1 attempt" in done.out
    assert '{"said": "a"}' in done.out
    assert "COMPLETED: 2 of 2 accepted, 0 failed, $0.000000 of $0.010000" in done.out


async def test_run_in_json_is_a_stream_of_documents(hub: Shell) -> None:
    hub.write("m.json", mission())
    done = await hub("run", "m.json", "-o", "json")
    kinds = [line["type"] for line in done.lines]
    assert kinds[0] == "progress"
    assert kinds.count("result") == 2
    assert kinds[-1] == "end"
    assert done.lines[-1]["mission"]["status"] == "COMPLETED"


async def test_a_failed_task_fails_a_strict_run_only(hub: Shell) -> None:
    hub.write("m.json", mission(agent="fail", inputs=["fine", "bad"], max_attempts=1))
    lax = await hub("run", "m.json")
    assert lax.code == 0
    assert "1 of 2 accepted, 1 failed" in lax.out
    assert (await hub("run", "m.json", "--strict")).code == 1
    hub.write("all.json", mission(agent="fail", inputs=["bad"], max_attempts=1))
    assert (await hub("run", "all.json")).code == 1


async def test_a_mission_over_its_budget_exits_3_with_the_figures(hub: Shell) -> None:
    hub.write("m.json", mission(agent="spend", budget_usd="0.0001"))
    done = await hub("run", "m.json")
    assert done.code == 3, done.out + done.err
    assert "budget_exceeded" in done.out
    assert "$0.000500" in done.out


async def test_what_waits_for_a_human_exits_5_and_is_answered(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=["a"], judge=[{"policy": "human"}]))
    waiting = await hub("run", "m.json")
    assert waiting.code == 5
    assert "chimera review list" in waiting.out
    (review,) = (await hub("review", "list", "-o", "json")).document
    task = review["task_id"]
    assert task in (await hub("review", "list")).out
    assert f"chimera review approve {task}" in (await hub("review", "show", task)).out
    approved = await hub("review", "approve", task, "-m", "good")
    assert approved.out == f"{task} is ACCEPTED\n"
    again = await hub("review", "approve", task)
    assert again.code == 3
    assert "Traceback" not in again.err
    assert (await hub("mission", "watch", task.partition(".")[0])).code == 0


async def test_a_mission_is_listed_shown_recorded_and_read(hub: Shell) -> None:
    hub.write("m.json", mission())
    mission_id = (await hub("mission", "submit", "m.json")).out.strip()
    assert (await hub("mission", "watch", mission_id, "-o", "json")).lines[-1]["type"] == "end"
    assert mission_id in (await hub("mission", "list")).out
    assert (await hub("mission", "get", mission_id, "-o", "json")).document["status"] == "COMPLETED"
    assert "echo, map" in (await hub("mission", "get", mission_id)).out
    results = (await hub("mission", "results", mission_id, "-o", "json")).lines
    assert [one["result"] for one in results] == [{"said": "a"}, {"said": "b"}]
    tasks = (await hub("task", "list", mission_id, "--status", "ACCEPTED", "-o", "json")).document
    assert len(tasks) == 2
    assert "verdict  accept" in (await hub("task", "get", f"{mission_id}.0")).out
    events = (await hub("recorder", "show", mission_id, "-o", "json")).lines
    kinds = [event["kind"] for event in events]
    assert kinds[0] == "mission.submitted"
    assert kinds[-1] == "mission.completed"
    assert "task.accepted" in (await hub("recorder", "show", mission_id)).out
    agents = (await hub("agent", "list", "-o", "json")).document
    assert "echo" in {agent["name"] for agent in agents}


async def test_a_running_mission_is_changed_and_cancelled(hub: Shell) -> None:
    hub.write("m.json", mission(agent="wait"))
    mission_id = (await hub("mission", "submit", "m.json", "-o", "json")).document["mission_id"]
    changed = await hub("mission", "set", mission_id, "--goal", "Other.", "--context", '{"year": 2026}')
    assert "state version 2" in changed.out
    assert (await hub("mission", "cancel", mission_id)).code == 0
    assert (await hub("mission", "watch", mission_id)).code == 1


async def test_a_running_mission_is_paused_and_goes_on(hub: Shell) -> None:
    hub.write("m.json", mission(agent="wait"))
    mission_id = (await hub("mission", "submit", "m.json")).out.strip()
    paused = await hub("mission", "pause", mission_id, "--reason", "prices")
    assert f"is PAUSED; `chimera mission resume {mission_id}`" in paused.out
    resumed = await hub("mission", "resume", mission_id, "-o", "json")
    assert resumed.document["status"] in {"PLANNING", "RUNNING"}
    again = await hub("mission", "resume", mission_id)
    assert (again.code, "nothing to resume" in again.err) == (3, True)


async def test_failed_tasks_are_found_by_reason_and_redriven_when_confirmed(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=["a", "b"], judge=[{"policy": "human"}], max_attempts=1))
    assert (await hub("run", "m.json")).code == 5
    waiting = [one["task_id"] for one in (await hub("review", "list", "-o", "json")).document]
    for task in waiting:
        assert (await hub("review", "reject", task)).code == 0
    mission_id = waiting[0].partition(".")[0]
    assert (await hub("mission", "watch", mission_id)).code == 1
    failed = await hub("task", "list", "--status", "FAILED", "--reason", "rejected", "-o", "json")
    assert sorted(task["task_id"] for task in failed.document) == sorted(waiting)
    assert (await hub("task", "list", "--reason", "poisoned", "-o", "json")).document == []
    unconfirmed = await hub("task", "redrive", "--reason", "rejected")
    assert (unconfirmed.code, "redrive 2 tasks of 1 mission?" in unconfirmed.err) == (2, True)
    assert "2 tasks redriven" in (await hub("task", "redrive", "--reason", "rejected", "--yes")).out
    assert (await hub("mission", "watch", mission_id)).code == 5
    assert "no failed task" in (await hub("task", "redrive", "--mission", mission_id)).out
    assert (await hub("task", "redrive")).code == 2


async def test_ctrl_c_leaves_the_mission_going_on(hub: Shell) -> None:
    hub.write("m.json", mission(agent="wait"))
    process = await hub.start("run", "m.json")
    assert process.stdout
    async with asyncio.timeout(60):
        await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    done = await ended(process)
    assert done.code == 130
    assert "chimera mission watch" in done.err
    assert "Traceback" not in done.err
    (listed,) = (await hub("mission", "list", "-o", "json")).document
    assert listed["status"] in {"PLANNING", "RUNNING"}


async def test_a_wrong_key_and_an_unknown_mission_say_what_to_do(hub: Shell) -> None:
    stranger = Shell(hub.directory, {**hub.environment, "CHIMERA_API_KEY": "chi_unknown"})
    refused = await stranger("mission", "list")
    assert refused.code == 3
    assert "CHIMERA_API_KEY" in refused.err
    missing = await hub("mission", "get", "nowhere")
    assert missing.code == 2
    assert missing.out == ""


async def test_an_unknown_agent_is_refused_at_submit(hub: Shell) -> None:
    hub.write("m.json", mission(agent="ecko"))
    done = await hub("run", "m.json")
    assert done.code == 2
    assert "echo" in done.err
    assert (await hub("mission", "list", "-o", "json")).document == []


async def test_flags_win_over_the_environment(hub: Shell) -> None:
    lost = Shell(
        hub.directory, {**hub.environment, "CHIMERA_URL": "http://127.0.0.1:9", "CHIMERA_API_KEY": "x"}
    )
    key = hub.write("key", hub.environment["CHIMERA_API_KEY"] + "\n")
    found = await lost("mission", "list", "--url", hub.environment["CHIMERA_URL"], "--api-key-file", str(key))
    assert found.code == 0, found.err
    unreadable = await lost("mission", "list", "--api-key-file", "nowhere")
    assert unreadable.code == 2


async def test_doctor_is_silent_when_all_is_well(hub: Shell) -> None:
    done = await hub("doctor")
    assert (done.code, done.out) == (0, "")


async def test_a_job_ends_with_rays_codes_and_tells_ours_last(hub: Shell) -> None:
    hub.write("good.json", mission())
    hub.write("poor.json", mission(agent="spend", budget_usd="0.0001"))
    good = await hub.process("good.json", module="chimera.mission")
    assert good.code == 0, good.out + good.err
    assert good.out.splitlines()[-1] == "chimera: exit code 0 (completed)"
    poor = await hub.process("poor.json", module="chimera.mission")
    assert poor.code == 1
    assert poor.out.splitlines()[-1] == "chimera: exit code 3 (refused)"
    missing = await hub.process("missing.json", module="chimera.mission")
    assert missing.code == 1
    assert missing.out.splitlines()[-1] == "chimera: exit code 2 (usage)"


async def test_a_stopped_job_cancels_its_mission_unless_detached(hub: Shell, base: Base) -> None:
    hub.write("m.json", mission(agent="wait"))
    for flags, expected in (((), {"CANCELLED"}), (("--detach",), {"PLANNING", "RUNNING"})):
        process = await hub.start("m.json", *flags, module="chimera.mission")
        assert process.stdout
        async with asyncio.timeout(60):
            mission_id = (await process.stdout.readline()).decode().split()[1].rstrip(":")
        process.terminate()
        began = time.monotonic()
        done = await ended(process)
        assert time.monotonic() - began < 3, done
        assert done.code == 1
        assert done.out.splitlines()[-1] == "chimera: exit code 130 (interrupted)"
        found = (await hub("mission", "get", mission_id, "-o", "json")).document
        assert found["status"] in expected
