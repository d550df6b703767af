"""Commands without a hub: help, versions, settings, one agent alone, and what goes wrong."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from chimera.chaos.faults import Fault
from chimera.cli import action
from chimera.cli.app import app
from chimera.cli.env import example_text, settings_table
from chimera.cli.task import Status
from chimera.core.action import ActionStatus
from chimera.core.task import TaskStatus
from chimera.settings import Settings
from chimera.version import __version__
from tests.agents.endpoint import MeteredEndpoint, Turn
from tests.cli.conftest import Shell
from tests.runtime.receiver import receiving

ROOT = Path(__file__).parents[2]


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, TyperGroup):
        return [(path, command)]
    return [leaf for name, inner in command.commands.items() for leaf in leaves(inner, (*path, name))]


COMMANDS = leaves(typer.main.get_command(app))


def test_every_command_of_the_manual_is_there() -> None:
    names = {" ".join(path) for path, _ in COMMANDS}
    assert names >= {
        *("up", "down", "status", "run", "demo", "doctor", "env", "model serve", "recorder show"),
        *(f"mission {verb}" for verb in ("submit", "list", "get", "watch")),
        *(f"mission {verb}" for verb in ("results", "cancel", "pause", "resume", "set", "schema")),
        *(f"task {verb}" for verb in ("list", "get", "why", "redrive")),
        *(f"review {verb}" for verb in ("list", "show", "approve", "reject")),
        *(f"action {verb}" for verb in ("list", "retry")),
        *(f"agent {verb}" for verb in ("new", "list", "run")),
        *(f"tenant {verb}" for verb in ("list", "add", "get", "set")),
        *(f"tenant {verb}" for verb in ("suspend", "resume", "remove", "audit", "render")),
        *(f"key {verb}" for verb in ("create", "list", "rotate", "revoke")),
    }


def test_the_report_of_spend_explains_itself_by_an_example_beside_its_subcommands() -> None:
    spend = typer.main.get_command(app).commands["spend"]  # type: ignore[attr-defined]  # (it is a group)
    assert re.search(r"Examples:\n +chimera spend\b", spend.help)


def test_a_reader_that_left_early_is_no_failure(shell: Shell) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "chimera", "env"],
            stdout=write,
            stderr=subprocess.PIPE,
            env=dict(shell.environment),
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_explains_itself_by_an_example(path: tuple[str, ...], command: Any) -> None:
    assert re.search(rf"Examples?:\n +chimera {' '.join(path)}\b", command.help or "")


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(path) for path, _ in COMMANDS])
def test_every_command_that_answers_answers_in_json(path: tuple[str, ...], command: Any) -> None:
    options = {option for parameter in command.params for option in parameter.opts}
    if path in {("mission", "schema"), ("model", "serve"), ("spoke",)}:  # JSON already, and servers
        return
    assert "--output" in options


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nsys.argv = ['chimera', '--help']\nfrom chimera.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as done:\n    assert not done.code\n"
        "heavy = {'ray', 'redis', 'pydantic', 'pydantic_ai', 'httpx', 'asyncio', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Exit codes: 0 completed" in done.stdout


def test_the_statuses_offered_are_the_tasks_own() -> None:
    assert [status.value for status in Status] == [status.value for status in TaskStatus]
    assert [status.value for status in action.Status] == [status.value for status in ActionStatus]


async def test_version_is_printed(shell: Shell) -> None:
    done = await shell.process("--version")
    assert (done.code, done.out) == (0, f"chimera {__version__}\n")


async def test_env_lists_every_setting(shell: Shell) -> None:
    rows = {row["name"]: row for row in (await shell("env", "-o", "json")).document}
    assert set(rows) == {f"CHIMERA_{name.upper()}" for name in Settings.model_fields}
    assert rows["CHIMERA_LEASE_S"] == {
        "name": "CHIMERA_LEASE_S",
        "type": "number",
        "default": "3.0",
        "secret": False,
        "file": None,
        "description": "A lease lasts this long unless renewed, seconds.",
    }
    assert rows["CHIMERA_API_KEY"]["file"] == "CHIMERA_API_KEY_FILE"
    assert rows["CHIMERA_FSYNC"]["type"] == "always | everysec"
    assert "CHIMERA_LEASE_S = 3.0  (number)" in (await shell("env")).out


def test_the_example_environment_is_made_from_the_settings() -> None:
    written = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert written == example_text(settings_table()), "run: chimera env --example > .env.example"


async def test_a_wrong_environment_is_told_whole(shell: Shell) -> None:
    wrong = Shell(shell.directory, {**shell.environment, "CHIMERA_LEASE_S": "soon", "CHIMERA_SLOTS": "0"})
    done = await wrong("mission", "list")
    assert done.code == 2
    assert "CHIMERA_LEASE_S" in done.err
    assert "CHIMERA_SLOTS" in done.err
    assert "Traceback" not in done.err
    assert (await wrong("doctor")).code == 2


async def test_usage_errors_exit_2(shell: Shell) -> None:
    assert (await shell("mission", "nonsense")).code == 2
    assert (await shell("mission", "set", "m1")).code == 2
    assert (await shell("mission", "set", "m1", "--context", "[1]")).code == 2
    assert (await shell("task", "list", "m1", "--status", "LOST")).code == 2


async def test_without_a_fleet_the_next_step_is_named(shell: Shell) -> None:
    nowhere = Shell(shell.directory, {**shell.environment, "CHIMERA_URL": "http://127.0.0.1:9"})
    done = await nowhere("mission", "list")
    assert done.code == 4
    assert "chimera up" in done.err
    assert (await shell("status", "-o", "json")).document == {"running": False}
    assert (await shell("down")).code == 0
    doctor = await shell("doctor", "-o", "json")
    assert doctor.code == 4
    assert doctor.document[0]["problem"] == "no fleet runs here"
    assert "cannot be reached" in (await nowhere("doctor")).out


async def test_a_traceback_is_shown_to_those_who_debug(shell: Shell) -> None:
    debugging = Shell(shell.directory, {**shell.environment, "CHIMERA_LOG_LEVEL": "debug"})
    assert "Traceback" not in (await shell.process("run", "missing.yaml")).err
    assert "Traceback" in (await debugging.process("run", "missing.yaml")).err


async def test_a_new_agent_runs_at_once_and_is_judged(shell: Shell) -> None:
    assert (await shell("agent", "new", "word-count")).code == 0
    again = await shell("agent", "new", "word-count")
    assert again.code == 2
    assert "is there already" in again.err
    assert (await shell("agent", "new", "Wörter")).code == 2

    done = await shell("agent", "run", "word-count", "--agents", "word_count.py", "-i", "a b c", "-o", "json")
    assert done.code == 0, done.err
    assert done.document["result"] == {"words": 3}
    assert done.document["verdict"]["decision"] == "accept"
    assert done.document["cost_microusd"] == 0

    listed = (await shell("agent", "list", "--agents", "word_count.py", "-o", "json")).document
    assert {"llm", "word-count"} <= {one["name"] for one in listed}


AGENTS = '''
from chimera.agents import agent

@agent("burst")
def burst(task, ctx):
    """Raises."""
    raise ValueError("burst")

@agent("doctor")
def doctor(task, ctx):
    """Says what a human must see."""
    return "Take 400 mg of ibuprofen twice a day to treat your arthritis."

@agent("large")
def large(task, ctx):
    """Returns more than a fleet takes."""
    return "x" * 400_000

@agent("tell")
def tell(task, ctx):
    """Tells of a secret, as a test may."""
    return [repr(ctx.secrets), len(ctx.secrets["TOKEN"])]

@agent("odd")
async def odd(task, ctx):
    """Returns what is no JSON."""
    return object()
'''


async def test_an_agent_alone_ends_with_the_code_of_its_verdict(shell: Shell) -> None:
    shell.write("mine.py", AGENTS)
    shell.write(
        "m.yaml", "goal: x\nbudget_usd: 1\ninputs: [a]\njudge: [{policy: rules, required: [never]}]\n"
    )
    burst = await shell("agent", "run", "burst", "--agents", "mine.py", "-i", "x")
    assert burst.code == 1
    assert "ValueError: burst" in burst.err
    # The traceback is the agent's, from its own code on.
    assert re.search(r'Traceback .*\n  File ".*mine\.py", line \d+, in burst\n    raise Value', burst.err)
    assert (await shell("agent", "run", "odd", "--agents", "mine.py", "-i", "x")).code == 1
    large = await shell("agent", "run", "large", "--agents", "mine.py", "-i", "x")
    assert large.code == 1
    assert "400,002 bytes, over the limit of 262,144" in large.err
    human = await shell("agent", "run", "doctor", "--agents", "mine.py", "-i", "x")
    assert human.code == 5
    assert "topics: health" in human.err
    judged = await shell("agent", "run", "doctor", "--agents", "mine.py", "-i", "x", "--mission", "m.yaml")
    assert judged.code in {1, 5}
    unknown = await shell("agent", "run", "bursts", "--agents", "mine.py", "-i", "x")
    assert unknown.code == 2
    assert "did you mean burst" in unknown.err


async def test_an_agent_alone_has_the_secrets_of_a_tenant_of_its_own(shell: Shell) -> None:
    shell.write("mine.py", AGENTS)
    for tenant in ("alone", "other"):
        (shell.directory / "secrets" / tenant).mkdir(parents=True)
        (shell.directory / "secrets" / tenant / "TOKEN").write_text(f"of {tenant}", encoding="utf-8")
    given = {**shell.environment, "CHIMERA_TENANT_SECRETS_DIR": str(shell.directory / "secrets")}
    ran = Shell(shell.directory, given)
    told = await ran("agent", "run", "tell", "--agents", "mine.py", "-i", "x", "-o", "json")
    assert told.document["result"] == ["<secrets TOKEN>", len("of alone")]


async def test_an_agent_alone_closes_its_connections_to_the_model(shell: Shell) -> None:
    priced = {"CHIMERA_MODEL_PRICE_INPUT_USD": "1", "CHIMERA_MODEL_PRICE_OUTPUT_USD": "1"}
    async with MeteredEndpoint([Turn("a short answer")]) as endpoint:
        own = {"CHIMERA_MODEL": "m", "CHIMERA_MODEL_URL": endpoint.url, **priced}
        done = await Shell(shell.directory, {**shell.environment, **own}).process(
            *("agent", "run", "llm", "-i", "a text")
        )
        assert endpoint.calls == 1
    assert done.code == 0, done.err
    assert "Unclosed" not in done.err


async def test_an_agent_alone_shows_what_it_proposes_and_sends_nothing(shell: Shell) -> None:
    async with receiving() as receiver:
        allowed = Shell(shell.directory, {**shell.environment, "CHIMERA_ACTION_HOSTS": receiver.host})
        command = (
            *("agent", "run", "announce", "--agents", str(ROOT / "examples/agents/announce.py")),
            *("--options", json.dumps({"webhook": receiver.url}), "-i", "Open at six. Closed at nine."),
        )
        done = await allowed(*command, "-o", "json")
        assert done.code == 0, done.err
        (proposed,) = done.document["actions"]
        assert (proposed["url"], proposed["body"]["text"]) == (receiver.url, "Open at six.")
        assert "nothing was sent" in (await allowed(*command)).err
        assert receiver.calls == []
        # As a fleet would refuse it.
        refused = await shell(*command)
        assert refused.code == 3
        assert f"add {receiver.host} to CHIMERA_ACTION_HOSTS" in refused.err


async def test_the_mission_schema_is_a_document(shell: Shell) -> None:
    done = await shell("mission", "schema")
    assert json.loads(done.out)["properties"]["budget_usd"]


async def test_every_fault_of_the_drill_is_told(shell: Shell) -> None:
    done = await shell("chaos", "faults")
    assert done.code == 0, done.err
    assert {fault.value for fault in Fault} <= set(done.out.split())
