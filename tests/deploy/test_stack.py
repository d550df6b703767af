"""The compose stack: used from outside, harmed, made larger and smaller; nothing is lost.

Order matters little, time much: what takes longest to come back is harmed last.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from chimera.core.task import TaskStatus
from chimera.core.views import MissionView
from chimera.telemetry.record import LogRecord
from tests.acceptance.conftest import eventually
from tests.deploy.stack import OURS, Stack

pytestmark = pytest.mark.timeout(600, func_only=True)


def amid(mission: MissionView) -> bool:
    """Whether some of it is done, and some under way."""
    return mission.counts[TaskStatus.ACCEPTED] > 0 and mission.counts[TaskStatus.PENDING] > 0


def test_a_mission_from_outside_is_worked_on_judged_and_accepted(stack: Stack) -> None:
    file = stack.shell.mission(agent="square", inputs=list(range(8)))
    done = stack.shell("run", file, "--strict", "-o", "json").ok()
    mission = done.lines[-1]["mission"]
    assert mission["counts"]["ACCEPTED"] == 8
    stack.squares(mission["mission_id"], 8)
    # In a worker's container, not beside the hub.
    assert {one["host"] for one in stack.results(mission["mission_id"])} == {stack.the("chimera-worker")[:12]}


def test_the_embedded_model_answers_agents_in_other_containers(stack: Stack) -> None:
    file = stack.shell.mission(
        agent="llm", inputs=["Say hello."], options={"prompt": "{input}", "max_tokens": 8}, max_attempts=3
    )
    mission = stack.shell("run", file, "-o", "json").ok().lines[-1]["mission"]
    assert mission["counts"]["ACCEPTED"] == 1
    # Settled is what stands in the store; the governor takes it into the ledger when it comes to it.
    stack.comes(mission["mission_id"], lambda it: it.spent_microusd > 0)


def test_the_operators_commands_run_in_the_hubs_container(stack: Stack) -> None:
    """By `docker compose exec`; without its terminal, which no test has."""
    key = stack.compose("exec", "-T", "chimera-core", "chimera", "tenant", "add", "acme").strip()
    assert stack.shell.given(CHIMERA_API_KEY=key)("mission", "list", "-o", "json").ok().document == []


def test_a_worker_that_crashes_amid_its_tasks_loses_none(stack: Stack) -> None:
    worker = stack.the("chimera-worker")
    crashes = stack.inspect(worker)["RestartCount"]
    mission_id = stack.submit(40, options={"rest_s": 2})
    stack.comes(mission_id, amid)
    stack.crash(worker)

    mission = stack.ended(mission_id)
    assert mission.counts[TaskStatus.ACCEPTED] == 40
    assert mission.tallies["crashes"] >= 1, "no task was under way: this proves less than it should"
    stack.squares(mission_id, 40)
    assert eventually(lambda: stack.restarted(worker, crashes + 1), 120)


def test_while_the_judges_container_is_down_nothing_is_accepted_and_afterwards_all_is(stack: Stack) -> None:
    judge = stack.the("chimera-judge")
    # A crash, and nobody who starts it again until we say so.
    stack.engine("update", "--restart", "no", judge)
    mission_id = stack.submit(12, options={"rest_s": 1})
    stack.comes(mission_id, lambda it: it.counts[TaskStatus.PENDING] > 0)
    stack.crash(judge)
    assert eventually(lambda: not stack.inspect(judge)["State"]["Running"])
    before = stack.mission(mission_id).counts[TaskStatus.ACCEPTED]
    later = stack.submit(6)

    # All the work is done, and waits.
    stack.comes(later, lambda it: it.counts[TaskStatus.REVIEW] == 6)
    stack.comes(mission_id, lambda it: it.counts[TaskStatus.REVIEW] == 12 - before)
    assert eventually(lambda: not stack.readiness()["judge"]["ok"])
    assert stack.mission(mission_id).counts[TaskStatus.ACCEPTED] == before
    assert stack.mission(later).counts[TaskStatus.ACCEPTED] == 0

    stack.engine("update", "--restart", "unless-stopped", judge)
    stack.engine("start", judge)
    for one, count in ((mission_id, 12), (later, 6)):
        mission = stack.ended(one)
        assert mission.counts[TaskStatus.ACCEPTED] == count
        assert set(mission.tallies) <= {"judge_errors"}
        stack.squares(one, count)
    assert eventually(stack.ready)


def test_redis_crashes_and_no_acknowledged_work_is_lost(stack: Stack) -> None:
    redis = stack.the("redis")
    crashes = stack.inspect(redis)["RestartCount"]
    mission_id = stack.submit(40, options={"rest_s": 1})
    stack.comes(mission_id, amid)
    stack.crash(redis)
    assert eventually(lambda: stack.restarted(redis, crashes + 1))
    assert eventually(stack.ready)
    assert stack.ended(mission_id).counts[TaskStatus.ACCEPTED] == 40
    stack.squares(mission_id, 40)


def test_the_hub_crashes_and_its_successor_goes_on_where_things_stand(stack: Stack) -> None:
    core = stack.the("chimera-core")
    crashes = stack.inspect(core)["RestartCount"]
    mission_id = stack.submit(40, options={"rest_s": 2})
    stack.comes(mission_id, amid)
    stack.crash(core)
    assert eventually(lambda: stack.restarted(core, crashes + 1), 180)
    assert eventually(stack.ready, 180), stack.readiness()
    assert stack.ended(mission_id).counts[TaskStatus.ACCEPTED] == 40
    stack.squares(mission_id, 40)


def test_more_workers_are_used_and_those_that_go_hand_back_what_they_have(stack: Stack) -> None:
    """By `docker compose up --scale`, which the next `docker compose up` forgets."""
    try:
        stack.up("--scale", "chimera-worker=3")
        hosts = {one[:12] for one in stack.containers("chimera-worker")}
        assert len(hosts) == 3
        mission_id = stack.submit(240, options={"rest_s": 2})
        assert eventually(lambda: stack.busy() == 3, 90), stack.mission(mission_id)
    finally:
        stack.up()
    assert amid(stack.mission(mission_id)), "it was over before any of them left"
    assert len(stack.containers("chimera-worker")) == 1
    mission = stack.ended(mission_id)
    assert mission.counts[TaskStatus.ACCEPTED] == 240
    assert "crashes" not in mission.tallies, "they were ended, and did not leave"
    stack.squares(mission_id, 240)
    assert {one["host"] for one in stack.results(mission_id)} == hosts


def test_a_process_has_no_rights_it_does_not_need(stack: Stack) -> None:
    for service in OURS:
        container = stack.the(service)
        status = dict(
            line.split(":\t", 1) for line in stack.within(container, "cat", "/proc/1/status").splitlines()
        )
        assert status["Uid"].split() == status["Gid"].split() == ["10001"] * 4, service
        assert [int(status[f"Cap{one}"], 16) for one in ("Inh", "Prm", "Eff", "Bnd", "Amb")] == [0] * 5, (
            service
        )
        assert status["NoNewPrivs"] == "1", service
        assert stack.within(container, "id", "--user", "--name") == "chimera_user"
        # Not even root could write.
        refused = stack.engine.run("exec", "--user", "0", container, "touch", "/opt/chimera/x", check=False)
        assert "Read-only file system" in refused.stderr, service


def test_agents_are_enclosed_by_the_kernel(stack: Stack) -> None:
    """The stack's default asks for it: without, no worker would have started."""
    said = [LogRecord.model_validate_json(line) for line in stack.log(stack.the("chimera-worker"))]
    enclosed = [str(one.fields["how"]) for one in said if one.event == "worker.enclosed"]
    assert enclosed
    assert all("files by Landlock" in how and "sockets by seccomp" in how for how in enclosed)


def test_the_api_alone_is_published_and_only_to_this_host(stack: Stack) -> None:
    published: dict[str, Any] = {
        f"{service} {port}": bindings
        for service in (*OURS, "redis")
        for port, bindings in stack.inspect(stack.the(service))["NetworkSettings"]["Ports"].items()
        if bindings
    }
    assert list(published) == ["chimera-core 8000/tcp"]
    assert [one["HostIp"] for one in published["chimera-core 8000/tcp"]] == ["127.0.0.1"]


ASK = """
import socket
with socket.create_connection(("redis", 6379), 5) as redis:
    for words in (b"PING", b"AUTH probe none", b"ACL WHOAMI", b"GET x"):
        redis.sendall(words + b"\\r\\n")
        print(redis.recv(200).decode().strip())
"""
HELD = """
import os, pathlib, sys
wanted = sys.stdin.read().split()
for root in ("/proc", "/var/lib/chimera", "/tmp", "/dev/shm"):
    for place, _, names in os.walk(root):
        for name in names:
            if root == "/proc" and name not in ("environ", "cmdline"):
                continue
            try:
                held = pathlib.Path(place, name).read_bytes()
            except OSError:
                continue
            for number, value in enumerate(wanted):
                if value.encode() in held:
                    print(number)
"""


def test_redis_knows_nobody_without_a_login(stack: Stack) -> None:
    said = stack.within(stack.the("chimera-worker"), "python", "-c", ASK).splitlines()
    assert [line.split()[0] for line in said] == ["-NOAUTH", "+OK", "-NOPERM", "-NOPERM"]


@pytest.mark.parametrize(
    ("service", "holds"),
    [
        ("chimera-worker", {"STACK_NODE_TOKEN"}),
        ("chimera-model", {"STACK_MODEL_API_KEY"}),
        ("chimera-judge", {"STACK_NODE_TOKEN", "STACK_REDIS_SECRET", "STACK_MODEL_API_KEY"}),
    ],
)
def test_a_container_holds_the_secrets_of_its_role_and_no_other(
    stack: Stack, service: str, holds: set[str]
) -> None:
    """In no environment, no command line and no file of it."""
    names = list(stack.secrets)
    container = stack.the(service)
    found = stack.engine(
        "exec", "--interactive", container, "python", "-c", HELD, given="\n".join(stack.secrets.values())
    )
    assert {names[int(number)] for number in found.split()} == holds


def test_every_line_that_our_containers_have_said_is_a_record(stack: Stack) -> None:
    for service in OURS:
        lines = stack.log(stack.the(service))
        assert lines, service
        for line in lines:
            LogRecord.model_validate_json(line)


def test_what_down_leaves_is_there_after_up_and_the_operators_login_may_be_another_one(stack: Stack) -> None:
    """By `docker compose down`, other values in docker/.env, and `docker compose up`.

    The last one: it ends the containers' logs.
    """
    mission_id = stack.submit(6)
    stack.ended(mission_id)
    stack.keep_log()
    stack.compose("down")
    assert stack.containers("chimera-core") == []

    stack.tell(STACK_REDIS_PASSWORD="f" * 64, STACK_WORKERS="2")
    stack.up()
    assert len(stack.containers("chimera-worker")) == 2
    stack.squares(mission_id, 6)
    later = stack.submit(6)
    stack.ended(later)
    stack.squares(later, 6)
    old = stack.secrets["STACK_REDIS_PASSWORD"]
    assert "WRONGPASS" in stack.within(stack.the("redis"), "redis-cli", "AUTH", "default", old)


def test_an_upgrade_replaces_every_container_amid_a_mission_and_so_does_the_way_back(
    stack: Stack, tmp_path: Path
) -> None:
    """As docs/operations.md has it: the new image named, `up` again."""
    (tmp_path / "Dockerfile").write_text(f"FROM {stack.image}\nLABEL version=next\n", encoding="utf-8")
    later = f"{stack.image}-next"
    stack.engine("build", "--quiet", "--tag", later, str(tmp_path))
    try:
        for image in (later, stack.image):
            before = {one for service in OURS for one in stack.containers(service)}
            mission_id = stack.submit(80, options={"rest_s": 2})
            stack.comes(mission_id, amid)
            stack.tell(STACK_IMAGE=image)
            stack.up()
            now = {one for service in OURS for one in stack.containers(service)}
            assert len(now) == len(before)
            assert not now & before
            assert {stack.inspect(one)["Config"]["Image"] for one in now} == {image}
            mission = stack.ended(mission_id)
            assert mission.counts[TaskStatus.ACCEPTED] == 80
            assert "crashes" not in mission.tallies, "they were ended, and did not leave"
            stack.squares(mission_id, 80)
    finally:
        stack.tell(STACK_IMAGE=stack.image)
        stack.up()
        stack.engine("image", "rm", later)
