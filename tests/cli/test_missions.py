"""Commands against a running hub, in another process: what they print and how they end."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import Any

from chimera.runtime.base import Base
from tests.cli.conftest import Shell, ended
from tests.store import drive, history


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


async def test_a_mission_is_listed_shown_recorded_and_read(hub: Shell, base: Base, tenant: str) -> None:
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
    # The same once it has left Redis for the archive.
    await history.write(base, tenant, 3)
    await history.archive(base, tenant)
    while await base.of(tenant).sink.trim(keep=0, term=drive.TERM):
        pass
    assert await base.redis.xlen(base.of(tenant).recorder.keys.log) == 1
    assert (await hub("recorder", "show", mission_id, "-o", "json")).lines == events
    agents = (await hub("agent", "list", "-o", "json")).document
    assert "echo" in {agent["name"] for agent in agents}


async def test_an_archived_mission_is_listed_and_read_and_not_changed(
    hub: Shell, base: Base, tenant: str
) -> None:
    plan = {"strategy": "map_reduce", "width": 2, "reduce": {"agent": "echo"}}
    hub.write("m.json", mission(inputs=["a", "b", "c"], plan=plan))
    mission_id = (await hub("run", "m.json")).err.split()[1]
    reads = (
        ("mission", "results", mission_id),
        ("mission", "results", mission_id, "-o", "json"),
        ("task", "list", mission_id),
        ("task", "list", mission_id, "--status", "ACCEPTED", "-o", "json"),
        ("task", "get", f"{mission_id}.r1-0"),
        ("task", "get", f"{mission_id}.0", "-o", "json"),
    )
    before = [(await hub(*words)).out for words in reads]
    await drive.archive(base.of(tenant), mission_id)
    assert [(await hub(*words)).out for words in reads] == before
    shown = await hub("mission", "get", mission_id)
    assert re.search(r"^  archived 20\S+ \S+Z; it can be read, not changed$", shown.out, re.MULTILINE)
    assert (await hub("mission", "get", mission_id, "-o", "json")).document["archived_at"]
    assert (await hub("mission", "watch", mission_id)).code == 0
    assert "mission.archived" in (await hub("recorder", "show", mission_id)).out
    assert "no mission yet" in (await hub("mission", "list")).err
    assert mission_id in (await hub("mission", "list", "--archived")).out
    for words in (
        ("mission", "resume", mission_id),
        ("mission", "cancel", mission_id),
        ("mission", "set", mission_id, "--goal", "Other."),
        ("task", "redrive", f"{mission_id}.0"),
        ("review", "approve", f"{mission_id}.0"),
    ):
        refused = await hub(*words)
        assert (refused.code, "submit it anew" in refused.err) == (3, True), refused.err


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
    assert "Usage:" not in unconfirmed.err
    assert "2 tasks redriven" in (await hub("task", "redrive", "--reason", "rejected", "--yes")).out
    assert (await hub("mission", "watch", mission_id)).code == 5
    assert "no failed task" in (await hub("task", "redrive", "--mission", mission_id)).out
    assert (await hub("task", "redrive")).code == 2


async def test_ctrl_c_leaves_the_mission_going_on(hub: Shell) -> None:
    hub.write("m.json", mission(agent="wait"))
    process = await hub.start("run", "m.json")
    assert process.stderr
    async with asyncio.timeout(60):
        assert b"is submitted" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    done = await ended(process)
    assert done.code == 130
    assert "chimera mission watch" in done.err
    assert "Traceback" not in done.err
    (listed,) = (await hub("mission", "list", "-o", "json")).document
    assert listed["status"] in {"PLANNING", "RUNNING"}


async def test_ctrl_c_amid_the_results_of_a_mission_that_is_over_says_so(hub: Shell) -> None:
    # More than the pipe holds: the command still prints when it is interrupted.
    hub.write("m.json", mission(inputs=["x" * 8_000] * 100))
    assert (await hub("run", "m.json")).code == 0
    (listed,) = (await hub("mission", "list", "-o", "json")).document
    mission_id = listed["mission_id"]
    process = await hub.start("mission", "watch", mission_id, "-o", "json")
    assert process.stdout
    async with asyncio.timeout(60):
        await process.stdout.readline()
        await process.stdout.readline()
    process.send_signal(signal.SIGINT)
    done = await ended(process)
    assert done.code == 130
    assert f"the mission is over: `chimera mission results {mission_id}`" in done.err


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


async def test_a_damaged_mission_is_named_beside_the_others_and_by_doctor(
    hub: Shell, base: Base, tenant: str
) -> None:
    waiting = mission(inputs=["a"], judge=[{"policy": "human"}])
    ids = []
    for name in ("good.json", "bad.json"):
        hub.write(name, waiting)
        assert (await hub("run", name)).code == 5
        ids.append((await hub("mission", "list", "-o", "json")).document[0]["mission_id"])
    good, bad = ids
    await base.redis.hset(base.of(tenant).missions.keys.of("mission", bad), "spec", "{no such thing")
    for command in (("mission", "list"), ("review", "list"), ("task", "list")):
        done = await hub(*command)
        assert done.code == 0, done.err
        assert good in done.out
        assert bad not in done.out
        assert re.search(
            f"^{bad}.* is left out, for it is damaged: a record in Redis", done.err, re.MULTILINE
        )
    assert [one["mission_id"] for one in (await hub("mission", "list", "-o", "json")).document] == [good]
    doctor = await hub("doctor")
    assert doctor.code == 4
    assert re.findall(r"^(\S+) cannot be read", doctor.out, re.MULTILINE) == [bad, f"{bad}.0"]


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
        done = await ended(process)  # within Ray's patience: tests/acceptance/test_jobs.py
        assert done.code == 1
        assert done.out.splitlines()[-1] == "chimera: exit code 130 (interrupted)"
        found = (await hub("mission", "get", mission_id, "-o", "json")).document
        assert found["status"] in expected


async def test_progress_goes_beside_the_answer(hub: Shell) -> None:
    hub.write("m.json", mission())
    done = await hub("run", "m.json")
    assert "spent $0.000000 of" in done.err
    assert [line[0] for line in done.out.splitlines()] == ["✓", " ", "✓", " ", "C"]


async def test_a_run_ends_with_the_reasons_of_what_failed(hub: Shell) -> None:
    hub.write("m.json", mission(agent="fail", inputs=["fine", "b", "b", "c", "d", "e"], max_attempts=1))
    done = await hub("run", "m.json")
    told = [line for line in done.out.splitlines() if " failed (" in line]
    assert len(told) == 3
    assert re.match(r"  \S+\.1 and 1 more failed \(agent_error\): agent 'fail' raised .*: no b$", told[0])
    assert "on the way: 5 errors" in done.out
    ended = (await hub("run", "m.json", "-o", "json")).lines[-1]
    found = {failure["error"].rpartition(" ")[2]: failure["task_ids"] for failure in ended["failures"]}
    assert {last: len(ids) for last, ids in found.items()} == {"b": 2, "c": 1, "d": 1, "e": 1}


async def test_a_rejected_task_fails_with_what_the_judge_said(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=["a"], judge=[{"policy": "rules", "required": ["z"]}], max_attempts=1))
    done = await hub("run", "m.json")
    assert re.search(r"\.0 failed \(rejected\): the result must match z\n", done.out), done.out
    assert "on the way: 1 rejection\n" in done.out


async def test_results_of_several_stages_say_which_and_mark_the_answer(hub: Shell) -> None:
    plan = {"strategy": "map_reduce", "width": 2, "reduce": {"agent": "echo"}}
    hub.write("m.json", mission(inputs=["a", "b", "c"], plan=plan))
    done = await hub("run", "m.json")
    mission_id = done.err.split()[1]
    for out in (done.out, (await hub("mission", "results", mission_id)).out):
        stages = dict(re.findall(r"\.(\S+)  (map|reduce(?:, an answer)?)  ", out))
        assert stages == {
            **{"0": "map", "1": "map", "2": "map", "r1-0": "reduce", "r1-1": "reduce"},
            "r2-0": "reduce, an answer",
        }
    shown = (await hub("task", "get", f"{mission_id}.r1-0")).out
    assert "  stage    reduce" in shown
    assert f'  takes    {mission_id}.1: {{"said": "b"}}' in shown
    hub.write("plain.json", mission())
    assert "map" not in (await hub("run", "plain.json")).out


async def test_an_accepted_result_stands_and_says_which_state_it_was_made_under(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=["a", "b"], judge=[{"policy": "human"}]))
    assert (await hub("run", "m.json")).code == 5
    first, second = (one["task_id"] for one in (await hub("review", "list", "-o", "json")).document)
    mission_id = first.partition(".")[0]
    await hub("review", "approve", first)
    changed = await hub("mission", "set", mission_id, "--goal", "Other.")
    assert "kept, as accepted before: 1 result\n" in changed.err
    assert (await hub("review", "approve", second)).code == 3  # refused as stale: it is done again
    assert (await hub("mission", "watch", mission_id)).code == 5
    assert "state    version 2" in (await hub("task", "get", second)).out
    await hub("review", "approve", second)
    assert "state    version 1" in (await hub("task", "get", first)).out
    results = (await hub("mission", "results", mission_id, "-o", "json")).lines
    assert {one["task_id"]: one["state_version"] for one in results} == {first: 1, second: 2}


async def test_a_review_shows_which_policy_asks_and_its_note(hub: Shell) -> None:
    judge = [{"policy": "human", "note": "Is the author named?"}, {"policy": "rules", "min_chars": 1}]
    hub.write("m.json", mission(inputs=["a"], judge=judge))
    waiting = await hub("run", "m.json")
    assert "1 result waits for a human" in waiting.out
    (task,) = [one["task_id"] for one in (await hub("review", "list", "-o", "json")).document]
    shown = (await hub("review", "show", task)).out
    assert "    human 0.80  Is the author named?\n" in shown
    assert "    rules 1.00\n" in shown


async def test_the_recorder_says_whose_numbers_are_left_out(hub: Shell) -> None:
    hub.write("m.json", mission(agent="wait"))
    hub.write("other.json", mission())
    first = (await hub("mission", "submit", "m.json")).out.strip()
    assert (await hub("run", "other.json")).code == 0
    await hub("mission", "cancel", first)
    assert "the tenant's other missions" in (await hub("recorder", "show", first)).err


async def test_numbers_of_one_are_no_plural(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=["a"]))
    submitted = await hub("mission", "submit", "m.json")
    assert submitted.err.startswith("submitted: 1 task;")


async def test_the_hubs_agents_are_not_taken_for_those_named_here(hub: Shell) -> None:
    assert (await hub("agent", "list")).err == ""
    named = Shell(hub.directory, {**hub.environment, "CHIMERA_AGENTS": "mine.py"})
    assert "`chimera agent list --local`" in (await named("agent", "list")).err


async def test_doctor_ends_with_the_code_of_what_is_wrong(hub: Shell) -> None:
    stranger = Shell(hub.directory, {**hub.environment, "CHIMERA_API_KEY": "chi_unknown"})
    assert (await stranger("doctor")).code == 3
    mistyped = await Shell(hub.directory, {**hub.environment, "CHIMERA_TENANT_LIMIT": "day=5"})("doctor")
    assert mistyped.code == 2
    assert "CHIMERA_TENANT_LIMIT is no setting" in mistyped.out
    assert "did you mean CHIMERA_TENANT_LIMITS?" in mistyped.out


async def test_many_inputs_from_a_file_are_sent_as_they_are_read(hub: Shell, base: Base, tenant: str) -> None:
    hub.write("many.jsonl", "".join(f"{number}\n" for number in range(3_000)))
    hub.write("m.json", mission(inputs={"files": ["many.jsonl"], "format": "jsonl"}))
    submitted = await hub("mission", "submit", "m.json")
    assert submitted.code == 0, submitted.err
    assert "3,000 tasks" in submitted.err
    mission_id = submitted.out.strip()
    found = [item async for item in base.blobs.iter_inputs(tenant, mission_id, 3_000)]
    assert found == list(range(3_000))
    assert (await hub("mission", "cancel", mission_id)).code == 0


async def test_results_go_on_behind_the_last_that_came(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=[1, 2, 3, 4]))
    ran = await hub("run", "m.json", "-o", "json")
    mission_id = ran.lines[-1]["mission"]["mission_id"]
    whole = (await hub("mission", "results", mission_id, "-o", "json")).lines
    assert [one["next"] for one in whole] == ["1", "2", "3", "4"]
    rest = await hub("mission", "results", mission_id, "-o", "json", "--after", whole[1]["next"])
    assert rest.lines == whole[2:]
    assert (await hub("mission", "results", mission_id, "--after", "x")).code == 2
