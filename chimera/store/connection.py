"""Connections to Redis, and the one place where the driver's errors become ours."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import hiredis
import redis
from redis import asyncio as aioredis
from redis import exceptions as driver
from redis._parsers.hiredis import NOT_ENOUGH_DATA
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from chimera.errors import (
    ChimeraError,
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
    pool.connection_class = _leaving_replicas(_lean(pool.connection_class))
    return aioredis.Redis.from_pool(pool)


async def ask(redis: Redis, commands: Sequence[tuple[str | int | float, ...]]) -> list[Any]:
    """The answers of many reads, as the server gives them, in one round trip.

    The driver's pipeline costs several times what such reads cost the server; of the lists that people page
    through, and of what is shelved, that would be the most of it.

    Raises:
        redis.exceptions.RedisError: one of them failed; it is named.
    """
    pool = redis.connection_pool
    connection = await pool.get_connection()
    answers: list[Any] = []
    failed: driver.ResponseError | None = None
    try:
        packed = [hiredis.pack_command((*one,)) for one in commands]  # type: ignore[arg-type]  # (of any length)
        await connection.send_packed_command(packed)
        for number, command in enumerate(commands, 1):
            try:
                answers.append(await connection.read_response())
            except driver.ResponseError as exc:  # all answers are read, so that the next reader finds its own
                redis.pipeline().annotate_exception(exc, number, command)
                failed = failed or exc
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)
    if failed is not None:
        raise failed
    return answers


def connect_sync(settings: Settings) -> SyncRedis:
    """A client for a thread of its own (the heartbeat).

    A connection that has gone dead must be found out while there is time to renew over another.
    """
    client = redis.Redis.from_url(
        url(settings),
        **_options(settings),
        socket_timeout=min(5.0, max(0.5, settings.lease_s * 2 / 3)),
        retry=redis.retry.Retry(NoBackoff(), 0),
    )
    pool = client.connection_pool
    pool.connection_class = _leaving_replicas_sync(pool.connection_class)
    return client


def _leaving_replicas(connection: Any) -> Any:
    """A connection that closes when its server says it is a replica now.

    After a failover the old primary may live on as a replica, while the name in the URL leads to the new
    one: only a new connection finds that.
    """

    class Connection(connection):  # type: ignore[misc]  # (its base is chosen when it runs)
        async def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*args, **options)
            except _REPLICA:
                await self.disconnect(nowait=True)
                raise

    return Connection


_HIGH_WATER = 65_536
"""Bytes on their way into a socket beyond which asyncio lets writers wait; its default."""


def _lean(connection: Any) -> Any:
    """A connection that packs a command in one go, and waits for the socket only when it has to.

    A script call carries thousands of arguments. The driver joins them one by one in Python, and makes a task
    and a timer of each write, though nearly all of them go straight into the socket. So with the answers of a
    pipeline: it makes a timer for each, though most came together with the first.
    """

    class Connection(connection):  # type: ignore[misc]  # (its base is chosen when it runs)
        def pack_command(self, *args: Any) -> list[bytes]:
            name = args[0].encode().split() if isinstance(args[0], str) else [args[0]]
            return [hiredis.pack_command((*name, *args[1:]))]

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            if self._writer is None or self._writer.transport.is_closing():
                await super().send_packed_command(command, check_health)
                return
            self._writer.writelines([command] if isinstance(command, bytes) else command)
            if self._writer.transport.get_write_buffer_size() > _HIGH_WATER:
                await super().send_packed_command(b"", check_health=False)

        async def read_response(self, *args: Any, **options: Any) -> Any:
            if args or options or not self.is_connected:
                return await super().read_response(*args, **options)
            answer = self._parser._reader.gets()
            if answer is NOT_ENOUGH_DATA:
                return await super().read_response()
            if isinstance(answer, hiredis.PushNotification):
                await self._parser.handle_push_response(answer)
                return await self.read_response()
            if isinstance(answer, driver.ResponseError):
                raise answer
            if isinstance(answer, driver.ConnectionError):
                await self.disconnect(nowait=True)
                raise answer
            return answer

    return Connection


def _leaving_replicas_sync(connection: Any) -> Any:
    class Connection(connection):  # type: ignore[misc]  # (its base is chosen when it runs)
        def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return super().read_response(*args, **options)
            except _REPLICA:
                self.disconnect()
                raise

    return Connection


_REPLICA = (driver.ReadOnlyError, driver.MasterDownError)


def _options(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {
        "decode_responses": True,
        "socket_connect_timeout": 3,
        # A new connection greets and no more: each further word costs a round trip, just when time is short.
        "driver_info": None,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if settings.redis_password is not None:
        options["password"] = settings.redis_password.get_secret_value()
    return options


_AWAY = {
    "BUSY": "a long script holds it: it comes back by itself, or after SCRIPT KILL",
    "LOADING": "it is still loading its data",
    "READONLY": "it is a replica: CHIMERA_REDIS_URL must lead to the primary",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "UNBLOCKED": "it has just become a replica",
    "NOREPLICAS": "too few replicas are in its reach: see its min-replicas-to-write",
    "CLUSTERDOWN": "its cluster is down",
    "TRYAGAIN": "its cluster is moving slots",
    "MISCONF": "it cannot write to its disk: make room there, and see its log",
}
"""Answers that mean "not now", by their first word: what is the matter."""

FULL = "the store is full: it takes no new work until some is done"


@contextmanager
def translated() -> Iterator[None]:
    """Raise the most specific of our errors for whatever the driver raises.

    The driver swallows a cancellation that meets it at the wrong moment (seen with redis-py 8.1, whose writes
    Python 3.11's `wait_for` watches), and its caller would go on as if nothing had been said. So whoever is
    cancelled in here is so when the call is over, whatever became of it.
    """
    before = _cancellations()
    try:
        yield
    except (driver.RedisError, KeyError, ValueError, TypeError, RecursionError) as exc:
        if _cancellations() > before:
            raise asyncio.CancelledError from exc
        raise _translation(exc) from exc
    if _cancellations() > before:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """How often the task that asks has been told to end; 0 in threads without an event loop."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return 0
    return task.cancelling() if task is not None else 0


def _translation(exc: Exception) -> ChimeraError:
    match exc:
        case driver.TimeoutError():
            return StoreTimeout("Redis did not answer in time; the write may have happened")
        case driver.AuthenticationError():
            return StoreUnavailable(
                "Redis refuses the login: check CHIMERA_REDIS_URL. Users of roles, which a restart of Redis "
                "takes, are made again within seconds by whoever has the operator's login"
            )
        case driver.RedisError():
            return _ours(exc)
        case RecursionError():  # a worker may hand in whatever text it likes
            return CorruptRecord("a record in Redis cannot be read: it is nested too deeply")
    return CorruptRecord(f"a record in Redis cannot be read: {exc!r}")


_IN_PIPELINE = " of pipeline caused error: ("
"""What the driver writes between a command of a pipeline and Redis' answer to it, which it quotes."""


def _code(exc: driver.RedisError) -> str:
    """The first word of Redis' answer, which says what kind of refusal it is."""
    answer = str(exc).rpartition(_IN_PIPELINE)[2].lstrip("'\"")
    return getattr(exc, "status_code", None) or answer.partition(" ")[0]


def _ours(exc: driver.RedisError) -> ChimeraError:
    code = _code(exc)
    if code == "OOM":
        return QueueFull(FULL)
    if code in _AWAY:
        return StoreUnavailable(f"Redis cannot be used now: {_AWAY[code]} ({exc})")
    if isinstance(exc, driver.ConnectionError):
        return StoreUnavailable(
            f"Redis cannot be used ({exc}): check that it runs and that CHIMERA_REDIS_URL names it"
        )
    if code == "NOPERM" or "ACL failure in script" in str(exc):
        return StoreError(f"Redis forbids its user a command or a key: {exc}")
    if "WRONGTYPE" in str(exc) or "user_script" in str(exc):
        # What a script trips over is what it reads.
        return CorruptRecord(f"a record in Redis cannot be read: {exc}")
    return StoreError(f"Redis refused a command: {exc}")


AGAIN_S = 5.0
"""Longer than any task here needs on its way out."""


async def end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended. What they do on their way out is not cut short.

    To cancel them again would do that, and leave open whatever they were about to close. Only those that are
    not gone after `AGAIN_S` are told again, for a library may have swallowed what was said.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=AGAIN_S)


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
        found = await redis.get(keys.SCHEMA)
        if found is None:  # a store that is full already must not keep us from starting
            await redis.set(keys.SCHEMA, keys.SCHEMA_VERSION, nx=True)
            found = await redis.get(keys.SCHEMA)
    _see_that_it_is_ours(found)


async def check_layout(redis: Redis) -> None:
    """The part of `prepare` for whoever may only read which layout it is.

    Raises:
        ConfigurationError: another version's.
        StoreUnavailable: nobody has laid it out yet.
    """
    with translated():
        found = await redis.get(keys.SCHEMA)
    if found is None:
        raise StoreUnavailable("no hub has used this Redis yet")
    _see_that_it_is_ours(found)


def _see_that_it_is_ours(found: str) -> None:
    if found != keys.SCHEMA_VERSION:
        raise ConfigurationError(
            f"this Redis holds layout {found}, this Chimera reads layout {keys.SCHEMA_VERSION}: "
            "use the Chimera that wrote it until its missions are done, or name another Redis"
        )


async def remarks(redis: Redis) -> list[str]:
    """What of this Redis may lose or refuse work, with the next step; [] when nothing does."""
    with translated():
        persistence, memory = await redis.info("persistence"), await redis.info("memory")
    found = []
    if not persistence["aof_enabled"]:
        found.append("Redis keeps no append-only file, so a crash of it loses missions: set appendonly yes")
    if not memory["maxmemory"]:
        found.append("Redis has no maxmemory, so a full machine ends it: set one, and work waits instead")
    return found
