"""For commands of the operator: one question to the fleet's Redis, which needs no key and no hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from chimera.cli.hub import local_fleet, run
from chimera.errors import ConfigurationError

if TYPE_CHECKING:
    from chimera.settings import Settings
    from chimera.store.connection import Redis

T = TypeVar("T")


def at_store(question: Callable[[Redis, Settings], Awaitable[T]]) -> T:
    """Ask the Redis of CHIMERA_REDIS_URL, else the local fleet's.

    Raises:
        ConfigurationError: there is neither.
    """
    from pydantic import SecretStr

    from chimera import settings
    from chimera.store.connection import connect, prepare

    environment = settings.load()
    if environment.redis_url is None:
        if (fleet := local_fleet(environment)) is None:
            raise ConfigurationError(
                "this asks the fleet's Redis: set CHIMERA_REDIS_URL to it, or start a local fleet with "
                "`chimera up`"
            )
        environment = environment.model_copy(update={"redis_url": SecretStr(fleet.redis_url)})

    async def conversation() -> T:
        redis = connect(environment)
        try:
            await prepare(redis)
            return await question(redis, environment)
        finally:
            await redis.aclose()

    return run(conversation())
