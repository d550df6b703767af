"""For commands of the operator: one question to the fleet's Redis, which needs no key and no hub."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from chimera.cli.hub import local_fleet, run
from chimera.errors import FleetUnavailable

if TYPE_CHECKING:
    from chimera.runtime.base import Base
    from chimera.settings import Settings
    from chimera.store.connection import Redis

T = TypeVar("T")


def at_store(question: Callable[[Redis, Settings], Awaitable[T]]) -> T:
    """Ask the Redis of CHIMERA_REDIS_URL, else the local fleet's.

    Raises:
        FleetUnavailable: there is neither.
    """
    return at_base(lambda base: question(base.redis, base.settings))


def at_base(question: Callable[[Base], Awaitable[T]]) -> T:
    """The same, of all that stands on it. Raises as `at_store` does."""
    from chimera import settings
    from chimera.runtime.base import base_of
    from chimera.store.connection import prepare

    environment = settings.load()
    if environment.redis_url is None:
        if (chosen := of_local_fleet(environment)) is None:
            raise FleetUnavailable(
                "this asks the fleet's Redis: set CHIMERA_REDIS_URL to it, or start a local fleet with "
                "`chimera up`"
            )
        environment = chosen

    async def conversation() -> T:
        base = base_of(environment)
        try:
            await prepare(base.redis)
            return await question(base)
        finally:
            await base.close()

    return run(conversation())


def of_local_fleet(environment: Settings) -> Settings | None:
    """Settings with the operator's login to the local fleet's Redis; None where no fleet runs."""
    from pydantic import SecretStr

    from chimera.serving.local.environment import with_users
    from chimera.serving.local.state import StateDir

    if (fleet := local_fleet(environment)) is None:
        return None
    known = {"redis_url": SecretStr(fleet.redis_url), "redis_users": fleet.redis_users}
    return with_users(environment.model_copy(update=known), StateDir(fleet.directory))


def operator() -> str:
    """Who acts, for the record: the user of this machine."""
    try:
        return f"operator:{getpass.getuser()}"
    except (OSError, KeyError):  # no name belongs to the user id, as in some containers
        return "operator"
