"""Connections to Redis, and the one place where the driver's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import redis
from redis import asyncio as aioredis
from redis import exceptions as driver
from redis.backoff import NoBackoff

from chimera.errors import (
    ConfigurationError,
    CorruptRecord,
    QueueFull,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
)
from chimera.settings import Settings
from chimera.store import keys

# The driver's annotations cannot know that answers are decoded: each would be `bytes | str`. Behind
# these names they are Any; every record is checked where it is read.
Redis: TypeAlias = Any
SyncRedis: TypeAlias = Any

MINIMUM = (7, 0)


def url(settings: Settings) -> str:
    """The Redis URL of the environment, its password filled in.

    Raises:
        ConfigurationError: none is set.
    """
    if settings.redis_url is None:
        raise ConfigurationError(
            "no Redis is named: set CHIMERA_REDIS_URL, or start a local fleet with `chimera up`"
        )
    return settings.redis_url.get_secret_value()


def connect(settings: Settings, *, blocking: bool = False) -> Redis:
    """A client for asyncio.

    Driver retries are off: a script whose reply was lost must be repeated by us, under the same
    operation id. A client for blocking reads has no socket timeout of its own.
    """
    pool = aioredis.BlockingConnectionPool.from_url(
        url(settings),
        **_options(settings),
        socket_timeout=None if blocking else 5,
        retry=aioredis.retry.Retry(NoBackoff(), 0),
        # A burst of callers waits for a connection instead of opening thousands.
        max_connections=1_000 if blocking else 32,
        timeout=10,
    )
    return aioredis.Redis.from_pool(pool)


def connect_sync(settings: Settings) -> SyncRedis:
    """A client for a thread of its own (the heartbeat)."""
    return redis.Redis.from_url(
        url(settings),
        **_options(settings),
        socket_timeout=5,
        retry=redis.retry.Retry(NoBackoff(), 0),
    )


def _options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"decode_responses": True, "socket_connect_timeout": 3}
    if settings.redis_password is not None:
        options["password"] = settings.redis_password.get_secret_value()
    return options


@contextmanager
def translated() -> Iterator[None]:
    """Raise the most specific of our errors for whatever the driver raises."""
    try:
        yield
    except driver.TimeoutError as exc:
        raise StoreTimeout("Redis did not answer in time; the write may have happened") from exc
    except driver.OutOfMemoryError as exc:
        raise QueueFull("the store is full: it takes no new work until some is done") from exc
    except driver.AuthenticationError as exc:
        raise StoreUnavailable("Redis refuses the password: check CHIMERA_REDIS_URL") from exc
    except (
        driver.ConnectionError,
        driver.BusyLoadingError,
        driver.ReadOnlyError,
        driver.ClusterDownError,
    ) as exc:
        raise StoreUnavailable(
            f"Redis cannot be used ({exc}): check that it runs and that CHIMERA_REDIS_URL names it"
        ) from exc
    except driver.ResponseError as exc:
        if "OOM" in str(exc):
            raise QueueFull("the store is full: it takes no new work until some is done") from exc
        raise StoreError(f"Redis refused a command: {exc}") from exc
    except (KeyError, ValueError, TypeError) as exc:
        raise CorruptRecord(f"a record in Redis cannot be read: {exc!r}") from exc


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended.

    The driver swallows a cancellation that meets it at the wrong moment (seen with redis-py 8.1),
    and the task goes on as if nothing had been said: so it is said again until it is heard.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.2)


async def prepare(redis: Redis) -> None:
    """Check that Redis is one we can live on, and that its layout is ours.

    Raises:
        ConfigurationError: too old, evicting, or laid out by another version; with the next step.
    """
    with translated():
        server = await redis.info("server")
        version = str(server.get("redis_version", "0.0"))
        if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM:
            raise ConfigurationError(f"Redis {version} is too old: 7.0 or Valkey is needed")
        policy = (await redis.info("memory")).get("maxmemory_policy", "noeviction")
        if policy != "noeviction":
            raise ConfigurationError(
                f"Redis may evict keys (maxmemory-policy {policy}): set it to noeviction"
            )
        await redis.set(keys.SCHEMA, keys.SCHEMA_VERSION, nx=True)
        found = await redis.get(keys.SCHEMA)
    if found != keys.SCHEMA_VERSION:
        raise ConfigurationError(
            f"this Redis holds layout {found}, this Chimera reads layout {keys.SCHEMA_VERSION}: "
            "use the Chimera that wrote it until its missions are done, or name another Redis"
        )
