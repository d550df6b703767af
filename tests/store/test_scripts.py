"""Every Lua script keeps the rules of the house: header, keys, table of transitions, table of kinds."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

import pytest

from chimera.core.action import ACTION_TRANSITIONS, MAX_ACTIONS
from chimera.core.event import KINDS
from chimera.core.mission import MISSION_TRANSITIONS
from chimera.core.task import OPEN, TRANSITIONS, TaskStatus
from chimera.runtime.base import Base
from chimera.store import keys
from chimera.store.scripts import source

LUA = Path(str(files("chimera.store") / "lua"))
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua"))
PARTS = sorted((LUA / "include").glob("*.lua"))


def header_and_body(name: str) -> tuple[str, str]:
    """The leading comment, and the code without comments. The line for Redis above it is neither."""
    lines = (LUA / f"{name}.lua").read_text(encoding="utf-8").splitlines()[1:]
    length = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    code = "\n".join(re.sub(r"--.*", "", line) for line in lines[length:])
    return "\n".join(line for line in lines[:length] if not line.startswith("---")), code


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_header_states_every_key_argument_and_answer(name: str) -> None:
    header, code = header_and_body(name)
    stated = re.findall(r"^-- ((?:KEYS|ARGV)\[\d+(?:\.\.)?\])", header, re.MULTILINE)
    assert len(stated) == len(set(stated)), "an index is stated twice"
    assert re.search(r"^-- Returns ", header, re.MULTILINE)
    loop = re.search(r"for i = (\d+), #ARGV", code)
    assert bool(loop) == any(".." in index for index in stated)
    if loop:
        assert f"ARGV[{loop[1]}..]" in stated
    used = set(re.findall(r"(?:KEYS|ARGV)\[\d+\]", code))
    assert used == {index for index in stated if ".." not in index}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_one_python_binding_runs(name: str) -> None:
    store = Path(keys.__file__).parent
    bindings = "".join(path.read_text(encoding="utf-8") for path in store.glob("*.py"))
    assert f'"{name}"' in bindings


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_includes_all_that_it_and_its_includes_call(name: str) -> None:
    code = re.sub(r"--[^\n]*", "", source(name))
    parts = "".join(part.read_text(encoding="utf-8") for part in PARTS)
    shared = re.findall(r"^local function (\w+)", parts, re.MULTILINE)
    called = [one for one in shared if re.search(rf"(?<![\w.:]){one}\(", code)]
    assert [one for one in called if not re.search(rf"local (?:function )?{one}\b", code)] == []


def test_lua_and_python_name_the_same_keys() -> None:
    text = (LUA / "include" / "keys.lua").read_text(encoding="utf-8")
    named = dict(re.findall(r'(\w+) = "([a-z]:[\w:]+)"', text))
    assert named == {**keys.PLAIN, **keys.OWNED}


def test_every_key_is_documented() -> None:
    documented = set(re.findall(r"\b\w+\b", keys.__doc__ or ""))
    assert set(keys.PLAIN) | set(keys.OWNED) <= documented


def literal_moves() -> set[tuple[str, str]]:
    """The (from, to) pairs that scripts write, where both are literals."""
    texts = [path.read_text(encoding="utf-8") for path in (*LUA.glob("*.lua"), *PARTS)]
    return {
        (before, after)
        for text in texts
        for before, after in re.findall(r'move\(k, \w+, \w+, "(\w+)", "(\w+)"', text)
    }


def test_scripts_make_only_steps_of_the_table() -> None:
    table = {(before.value, after.value) for before, after in TRANSITIONS}
    assert literal_moves() <= table
    for path in (*LUA.glob("*.lua"), *PARTS):
        for target in re.findall(r'move\(k, \w+, \w+, (?:from|status), "(\w+)"', path.read_text("utf-8")):
            assert target in set(TaskStatus)


def test_only_failed_and_cancelled_tasks_come_back() -> None:
    back = {(before, after) for before, after in TRANSITIONS if before not in OPEN}
    assert {before for before, _ in back} == {TaskStatus.FAILED, TaskStatus.CANCELLED}
    assert {after for _, after in back} == {TaskStatus.READY, TaskStatus.BLOCKED}


def test_scripts_turn_actions_exactly_as_the_table_says() -> None:
    texts = [path.read_text(encoding="utf-8") for path in LUA.glob("*.lua")]
    turns = {pair for text in texts for pair in re.findall(r'turn\(k, id, "(\w+)", "(\w+)"', text)}
    assert turns == {(before.value, after.value) for before, after in ACTION_TRANSITIONS}


def test_only_what_accepts_a_result_puts_actions_into_the_outbox() -> None:
    makers = {
        path.stem for path in (*LUA.glob("*.lua"), *PARTS) if "queue_actions(" in path.read_text("utf-8")
    }
    users = {path.stem for path in LUA.glob("*.lua") if "--- include accept" in path.read_text("utf-8")}
    assert makers == {"accept"}
    assert users == {"commit_verdicts", "answer_review"}


def test_the_bound_on_a_results_actions_is_the_same_in_lua() -> None:
    text = (LUA / "include" / "accept.lua").read_text(encoding="utf-8")
    assert re.search(r"MAX_ACTIONS = (\d+)", text)[1] == str(MAX_ACTIONS)  # type: ignore[index]  # (it is there, or the test fails)


def test_mission_steps_in_scripts_are_steps_of_the_table() -> None:
    targets = {after.value for _, after in MISSION_TRANSITIONS}
    text = (LUA / "include" / "settle.lua").read_text(encoding="utf-8")
    assert set(re.findall(r'to(?:, reason)? = "([A-Z_]+)"', text)) <= targets


def test_every_kind_of_entry_is_tabled_and_written() -> None:
    acts = [Path(keys.__file__).parent / name for name in ("apikeys.py", "purge.py", "tenants.py")]
    text = "".join(path.read_text(encoding="utf-8") for path in (*LUA.glob("*.lua"), *PARTS, *acts))
    families = (
        "mission|task|review|model|tool|spend|action|worker|fleet|spoke|limits|quota|slo|brake|flag|recorder"
    )
    written = set(re.findall(rf'"((?:{families}|tenant|key|export)\.[a-z_]+)"', text))
    built = {f"mission.{status}" for status in ("completed", "failed", "waiting_review", "running")}
    assert written | built == set(KINDS)


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_script_compiles(base: Base, name: str) -> None:
    assert len(await base.redis.script_load(source(name))) == 40


async def test_a_flushed_script_cache_heals_itself(base: Base, tenant: str) -> None:
    await base.of(tenant).tasks.rescue("test", lease_s=1)
    await base.redis.script_flush()
    assert await base.of(tenant).tasks.rescue("test", lease_s=1) == (0, 0, 0)
