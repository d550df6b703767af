"""A worker's process with its own login reaches its tenant's queue, and nothing else: not by any command on
any key, raw or in a script, of its own tenant or of another.

What is tried runs in a process of its own, that knows a worker's login and nothing more.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from chimera.runtime.base import Base
from chimera.runtime.users import reconcile
from chimera.settings import Settings
from chimera.store import keys
from chimera.store.keys import OWNED, PLAIN, TenantKeys
from chimera.store.rights import RIGHTS
from chimera.store.scripts import Scripts, SyncScripts, digest, source
from chimera.store.users import as_role
from tests.store.test_repeats import CASES, Case, state
from tests.store.test_rights import COULD, SCRIPTS

Attempt = list[Any]
"""The number of a login, and a command."""


async def tried(logins: list[Settings], attempts: list[Attempt]) -> list[str]:
    """What Redis answered a process that made these attempts."""
    urls = [one.redis_url.get_secret_value() for one in logins if one.redis_url]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.store.intruder"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin"},
    )
    told = json.dumps({"logins": urls, "attempts": attempts}).encode()
    said, _ = await asyncio.wait_for(process.communicate(told), 60)
    assert process.returncode == 0
    return list(json.loads(said))


def every_key(tenant: str) -> Iterator[tuple[str, str]]:
    """(name, key) of all that a tenant has."""
    of = TenantKeys(tenant)
    yield from ((name, getattr(of, name)) for name in PLAIN)
    yield from ((name, of.of(name, "m1.0")) for name in OWNED)


CLASSES: dict[str, tuple[str, ...]] = {
    "read a hash": ("HGET", "KEY", "f"),
    "read a list": ("LLEN", "KEY"),
    "read a set": ("ZRANGE", "KEY", "0", "1"),
    "write a hash": ("HSET", "KEY", "f", "v"),
    "count": ("INCRBY", "KEY", "1"),
    "push": ("RPUSH", "KEY", "v"),
    "pop": ("LPOP", "KEY"),
    "wait and pop": ("BLPOP", "KEY", "0.01"),
    "wait and pop many": ("BLMPOP", "0.01", "1", "KEY", "LEFT"),
    "add": ("ZADD", "KEY", "1", "v"),
    "take out": ("ZREM", "KEY", "v"),
    "take a field out": ("HDEL", "KEY", "f"),
    "let run out": ("EXPIRE", "KEY", "1000"),
    "append": ("XADD", "KEY", "*", "f", "v"),
    "read a string": ("GET", "KEY"),
    "write a string": ("SET", "KEY", "v"),
    "remove": ("DEL", "KEY"),
    "unlink": ("UNLINK", "KEY"),
    "rename": ("RENAME", "KEY", "KEY"),
    "trim": ("XTRIM", "KEY", "MAXLEN", "0"),
    "take an entry out": ("XDEL", "KEY", "0-1"),
    "read entries": ("XRANGE", "KEY", "-", "+"),
    "type": ("TYPE", "KEY"),
    "dump": ("DUMP", "KEY"),
    "copy": ("COPY", "KEY", "KEY", "REPLACE"),
    "run a script": ("EVAL", "return 1", "1", "KEY"),
    "look from a script": ("EVALSHA", digest("read_results"), "1", "KEY", "m1", "0", "1", "1"),
}
READS = {"HGET", "LLEN", "ZRANGE"}
RAW = {
    "HGET",
    "LLEN",
    "ZRANGE",
    "HSET",
    "INCRBY",
    "RPUSH",
    "LPOP",
    "BLPOP",
    "ZADD",
    "ZREM",
    "HDEL",
    "EXPIRE",
    "EVALSHA",
}


def may(name: str, command: str) -> bool:
    """What a worker may do to a key of its own tenant: written down here once more, apart from the rights."""
    family = {**PLAIN, **OWNED}[name][0]
    if family == "q":
        return command in RAW
    if name in {"mission", "spec", "quota", "commit"}:
        return command in READS
    return (name, command) in {
        ("answers", "BLMPOP"),
        ("log", "XADD"),
        ("sequence", "INCRBY"),
    }


async def test_a_worker_does_to_its_own_keys_what_it_needs_and_nothing_more(base: Base, tenant: str) -> None:
    wanted, attempts = [], []
    for name, key in every_key(tenant):
        for said, command in CLASSES.items():
            attempts.append([0, *(key if word == "KEY" else word for word in command)])
            wanted.append((said, name, may(name, command[0])))
    answers = await tried([as_role(base.settings, "worker", tenant)], attempts)
    for (said, name, allowed), answer in zip(wanted, answers, strict=True):
        assert (answer != "NOPERM") is allowed, f"{said} {name}: {answer}"
    assert len(wanted) > 1_500


@pytest.mark.parametrize("other", ["other", "{tenant}b", "{tenant}-2", "{first}", "chimera:fleet"])
async def test_a_worker_reaches_no_key_of_another_tenant(base: Base, tenant: str, other: str) -> None:
    """However alike their names are."""
    other = other.format(tenant=tenant, first=tenant[:-1])
    of_other = TenantKeys(other)
    await base.redis.hset(of_other.of("task", "m1.0"), "status", "READY")
    before = await state(base, other)
    attempts = [
        [0, *(key if word == "KEY" else word for word in command)]
        for _, key in (*every_key(other), ("root", of_other.root))
        for command in CLASSES.values()
    ]
    answers = await tried([as_role(base.settings, "worker", tenant)], attempts)
    assert set(answers) == {"NOPERM"}
    assert await state(base, other) == before
    await base.redis.delete(of_other.of("task", "m1.0"))


SHARED = (
    keys.SCHEMA,
    keys.TENANTS,
    keys.API_KEYS,
    keys.AGENTS,
    keys.ARCHIVE,
    keys.RETENTION,
    keys.REMOVED,
    keys.SPARES,
    keys.spare_bell("s"),
    keys.leader("governor"),
    keys.last_term("governor"),
    "something",
)
SERVER: tuple[tuple[str, ...], ...] = (
    ("KEYS", "*"),
    ("SCAN", "0"),
    ("RANDOMKEY",),
    ("DBSIZE",),
    ("FLUSHALL",),
    ("FLUSHDB",),
    ("SWAPDB", "0", "1"),
    ("CONFIG", "GET", "requirepass"),
    ("CONFIG", "SET", "maxmemory", "1"),
    ("ACL", "LIST"),
    ("ACL", "GETUSER", "default"),
    ("ACL", "SETUSER", "default", "nopass"),
    ("ACL", "WHOAMI"),
    ("SCRIPT", "FLUSH"),
    ("SCRIPT", "KILL"),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LIST"),
    ("FUNCTION", "FLUSH"),
    ("FCALL", "f", "0"),
    ("EVAL", "while true do end", "0"),
    ("EVAL_RO", "return 1", "0"),
    ("DEBUG", "SLEEP", "1"),
    ("MONITOR",),
    ("CLIENT", "LIST"),
    ("CLIENT", "KILL", "TYPE", "normal"),
    ("CLIENT", "PAUSE", "1000"),
    ("INFO",),
    ("SLOWLOG", "GET"),
    ("LATENCY", "LATEST"),
    ("MEMORY", "USAGE", "x"),
    ("CLUSTER", "INFO"),
    ("REPLICAOF", "NO", "ONE"),
    ("SHUTDOWN", "NOSAVE"),
    ("BGREWRITEAOF",),
    ("SAVE",),
    ("MODULE", "LIST"),
    ("WAIT", "1", "1"),
    ("MULTI",),
    ("SUBSCRIBE", "chimera:missions:x"),
    ("PSUBSCRIBE", "*"),
    ("PUBSUB", "CHANNELS"),
    ("OBJECT", "HELP"),
    ("SORT", "x"),
    ("COMMAND",),
)


async def test_a_worker_reaches_nothing_of_the_fleet_or_the_server(base: Base, tenant: str) -> None:
    attempts: list[Attempt] = [[0, *command] for command in SERVER]
    attempts += [
        [0, *(key if word == "KEY" else word for word in command)]
        for key in SHARED
        for command in CLASSES.values()
    ]
    answers = await tried([as_role(base.settings, "worker", tenant)], attempts)
    # DEBUG is refused to everybody, before rights are looked at.
    refused = {"NOPERM", next(said for said in answers if "DEBUG command not allowed" in said)}
    assert [one for one in zip(answers, attempts, strict=True) if one[0] not in refused] == []
    assert await base.redis.ping()


async def test_a_worker_speaks_on_its_own_channels_and_hears_none(base: Base, tenant: str) -> None:
    spoken = [keys.MISSIONS, keys.REVIEWS, keys.LOAD, keys.MONEY]
    silent = [keys.ERRANDS, keys.USERS]
    attempts: list[Attempt] = [[0, "PUBLISH", keys.channel(one, tenant), ""] for one in spoken]
    attempts += [[0, "PUBLISH", keys.channel(one, f"{tenant}2"), ""] for one in spoken]
    attempts += [[0, "PUBLISH", one, tenant] for one in (*spoken, "x", f"{keys.MISSIONS}:*")]
    attempts += [[0, "PUBLISH", keys.channel(one, tenant), ""] for one in silent]
    answers = await tried([as_role(base.settings, "worker", tenant)], attempts)
    assert answers[: len(spoken)] == ["ok"] * len(spoken)
    assert set(answers[len(spoken) :]) == {"NOPERM"}


class Caught(Exception):
    """Instead of running a script."""


async def commands_of(one: Case, base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch) -> list[Attempt]:
    """The commands by which a case runs its script, caught before they are sent."""
    caught: list[Attempt] = []

    def command(name: str, keys_: Any, *args: Any) -> None:
        words = [word.decode() if isinstance(word, bytes) else word for word in (*keys_, *args)]
        caught.append(["EVALSHA", digest(name), len(keys_), *words])
        raise Caught

    async def run(_: Any, name: str, keys_: Any, *args: Any) -> None:
        command(name, keys_, *args)

    async def run_each(_: Any, name: str, calls: Any) -> None:
        keys_, args = calls[0]
        command(name, keys_, *args)

    call = await one.stage(base, tenant)
    with monkeypatch.context() as patched:
        patched.setattr(Scripts, "run", run)
        patched.setattr(Scripts, "run_each", run_each)
        patched.setattr(SyncScripts, "run", lambda _, name, keys_, *args: command(name, keys_, *args))
        with pytest.raises(Caught):
            await call(base, tenant)
    return caught


async def test_no_script_takes_a_worker_further_than_its_own_rights(
    base: Base, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each script of the fleet, with the arguments of a call that would go through for whoever may make it: a
    worker of its tenant goes no further than its rights, a worker of another tenant nowhere."""
    for name in SCRIPTS:
        await base.redis.script_load(source(name))
    logins, attempts = [as_role(base.settings, "worker", tenant)], []
    about: list[tuple[Case, str, bool]] = []
    for number, one in enumerate(CASES):
        mine = f"{tenant}-{number}"
        await base.tenants.add(mine)
        logins.append(as_role(base.settings, "worker", mine))
        for command in await commands_of(one, base, mine, monkeypatch):
            attempts += [[0, *command], [len(logins) - 1, *command]]
            about += [(one, mine, False), (one, mine, True)]
    await reconcile(base)
    before = {mine: await state(base, mine) for _, mine, _ in about}
    answers = await tried(logins, attempts)
    through = RIGHTS["worker"].scripts | set(COULD["worker"].split())
    for (one, mine, own), answer in zip(about, answers, strict=True):
        if not own:
            assert answer == "NOPERM", f"{one.script} {one.name} of another tenant: {answer}"
        elif one.script in through:
            assert answer == "ok", f"{one.script} {one.name}: {answer}"
        if own:
            after = await state(base, mine)
            changed = {key for key in before[mine].keys() | after if before[mine].get(key) != after.get(key)}
            assert {key.partition("}:")[2][0] for key in changed} <= {"q", "r"}, f"{one.script}: {changed}"
    refused = {one.script for (one, _, own), said in zip(about, answers, strict=True) if own and said != "ok"}
    assert refused == set(SCRIPTS) - through
    for _, mine, _ in about:
        await base.tenants.remove(mine)
