"""What befalls a Redis besides its death, done to a real server of a test's own, and undone.

Each is a context manager: inside it the server answers what its name says.
"""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

from redis import asyncio as aioredis
from redis.exceptions import ResponseError

from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.local.redis_server import RedisServer

BUSY_AFTER_MS = 100
DIRECTIVES = {
    # A script that runs longer than this lets others hear BUSY.
    "busy-reply-threshold": str(BUSY_AFTER_MS),
    # With a rule for snapshots, one that fails forbids writes (MISCONF); this one makes none by itself.
    "save": '"86400 1000000000"',
}
"""What a server needs for all of them."""

Trouble = Callable[[RedisServer], AbstractAsyncContextManager[None]]


def client(server: RedisServer) -> Any:
    """A plain connection."""
    return aioredis.Redis.from_url(server.url, decode_responses=True)


@asynccontextmanager
async def read_only(server: RedisServer) -> AsyncIterator[None]:
    """READONLY: it has become the replica of a primary that nobody finds."""
    async with client(server) as redis:
        await redis.replicaof(LOOPBACK, free_port())
        yield
        await redis.replicaof("NO", "ONE")


@asynccontextmanager
async def masterless(server: RedisServer) -> AsyncIterator[None]:
    """MASTERDOWN: so has this one, and it serves nothing old either."""
    async with client(server) as redis:
        await redis.config_set("replica-serve-stale-data", "no")
        await redis.replicaof(LOOPBACK, free_port())
        yield
        await redis.replicaof("NO", "ONE")


@asynccontextmanager
async def busy(server: RedisServer) -> AsyncIterator[None]:
    """BUSY: a script that does not end."""
    async with client(server) as redis, client(server) as other:
        script = asyncio.ensure_future(redis.eval("while true do end", 0))
        await _until(other, "BUSY")
        yield
        await other.script_kill()
        await asyncio.gather(script, return_exceptions=True)


@asynccontextmanager
async def diskless(server: RedisServer) -> AsyncIterator[None]:
    """MISCONF: its last snapshot could not be written, for a folder stands in its place."""
    place = str(server.directory / "dump.rdb")
    with suppress(FileNotFoundError):
        os.unlink(place)
    os.mkdir(place)
    async with client(server) as redis:
        await _snapshot(redis)
        yield
        os.rmdir(place)
        await _snapshot(redis)


@asynccontextmanager
async def full(server: RedisServer) -> AsyncIterator[None]:
    """OOM: it has more than it may have."""
    async with client(server) as redis:
        before = (await redis.config_get("maxmemory"))["maxmemory"]
        await redis.config_set("maxmemory", (await redis.info("memory"))["used_memory"] // 2)
        yield
        await redis.config_set("maxmemory", before)


@asynccontextmanager
async def flushed(server: RedisServer) -> AsyncIterator[None]:
    """NOSCRIPT: it forgets its scripts, again and again."""

    over = asyncio.Event()  # asked, not cancelled: the driver may swallow a cancellation

    async def forget() -> None:
        async with client(server) as redis:
            while not over.is_set():
                await redis.script_flush()
                await asyncio.sleep(0)

    forgetting = asyncio.ensure_future(forget())
    try:
        yield
    finally:
        over.set()
        await forgetting


AWAY: dict[str, Trouble] = {
    "READONLY": read_only,
    "MASTERDOWN": masterless,
    "BUSY": busy,
    "MISCONF": diskless,
}
"""Those in which nothing can be written, by the first word of the answer."""


async def _snapshot(redis: Any) -> None:
    before = (await redis.info("persistence"))["rdb_last_bgsave_status"]
    await redis.bgsave()
    while True:
        persistence = await redis.info("persistence")
        if not persistence["rdb_bgsave_in_progress"] and persistence["rdb_last_bgsave_status"] != before:
            return
        await asyncio.sleep(0.01)  # another process writes it


async def _until(redis: Any, code: str) -> None:
    while True:
        try:
            await redis.set("trouble", "1")
        except ResponseError as exc:
            if str(exc).startswith(code):
                return
            raise
        await asyncio.sleep(0.01)


async def fill(server: RedisServer, share: float = 1.0) -> None:
    """Take a share of its memory, or all that is left, as somebody else's keys would."""
    async with client(server) as redis:
        for size in (64 << 10, 4 << 10, 64):
            try:
                while await taken(server) < share:
                    await redis.set(f"foreign:{uuid.uuid4().hex}", "x" * size)
            except ResponseError:
                continue  # no room for one of this size


async def refuses(server: RedisServer) -> bool:
    """Whether it has no room for even one more key of moderate size."""
    async with client(server) as redis:
        try:
            await redis.set("foreign:one more", "x" * (64 << 10))
        except ResponseError:
            return True
    return False


async def clear(server: RedisServer, pattern: str = "foreign:*") -> None:
    """Remove keys by hand."""
    async with client(server) as redis:
        async for key in redis.scan_iter(match=pattern, count=1_000):
            await redis.unlink(key)


async def taken(server: RedisServer) -> float:
    """The share of its memory in use."""
    async with client(server) as redis:
        memory = await redis.info("memory")
    return float(memory["used_memory"] - memory["mem_not_counted_for_evict"]) / float(memory["maxmemory"])


def cluster() -> dict[str, str]:
    """Directives of a cluster's only node."""
    return {"cluster-enabled": "yes", "cluster-port": str(free_port())}


async def serve_all_slots(server: RedisServer) -> None:
    """Give the only node every slot, and wait until the cluster stands."""
    async with client(server) as redis:
        await redis.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16_383)
        async with asyncio.timeout(20):
            while (await redis.execute_command("CLUSTER INFO"))["cluster_state"] != "ok":  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.02)  # the server decides it in its own time
