"""Harm to Redis from inside: each is held for a while, and surely ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from chimera.errors import StoreError
from chimera.settings import Settings
from chimera.store.connection import Redis, connect, translated

SLOWEST_S = 0.25
NOBODY = ("127.0.0.1", "1")
"""A master that never answers."""
MEND_S, AGAIN_S = 60.0, 0.2


async def flush(settings: Settings) -> None:
    """Forget all scripts."""
    async with _admin(settings) as redis:
        await redis.script_flush()


async def cut(settings: Settings) -> None:
    """Cut every connection, replies under way included."""
    async with _admin(settings) as redis:
        for kind in ("normal", "pubsub"):
            await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def slow(settings: Settings, lasts_s: float, chance: float) -> None:
    """Let every command wait, for uneven times."""
    uneven = random.Random(chance)  # nosec B311 (to be repeated, not to be secret)
    until = time.monotonic() + lasts_s
    async with _admin(settings) as redis:
        while time.monotonic() < until:
            wait_s = uneven.uniform(0.02, SLOWEST_S)
            await redis.execute_command("CLIENT", "PAUSE", round(wait_s * 1000), "ALL")
            await asyncio.sleep(wait_s + uneven.uniform(0.0, 0.1))


async def read_only(settings: Settings, lasts_s: float) -> None:
    """Make it a replica of nobody, which refuses writes; then a master again, with its data."""
    try:
        async with _admin(settings) as redis:
            await redis.execute_command("REPLICAOF", *NOBODY)
        await asyncio.sleep(lasts_s)
    finally:
        await _surely(settings, lambda redis: redis.execute_command("REPLICAOF", "NO", "ONE"))


async def full(settings: Settings, lasts_s: float) -> None:
    """Let maxmemory be what is used already; then what it was."""
    async with _admin(settings) as redis:
        before = (await redis.config_get("maxmemory"))["maxmemory"]
        used = (await redis.info("memory"))["used_memory"]
    try:
        async with _admin(settings) as redis:
            await redis.config_set("maxmemory", used)
        await asyncio.sleep(lasts_s)
    finally:
        await _surely(settings, lambda redis: redis.config_set("maxmemory", before))


@asynccontextmanager
async def _admin(settings: Settings) -> AsyncIterator[Redis]:
    redis = connect(settings)
    try:
        with translated():
            yield redis
    finally:
        await redis.aclose()


async def _surely(settings: Settings, mend: Callable[[Redis], Awaitable[object]]) -> None:
    """Do it, however often it takes: another fault may have taken Redis away meanwhile."""
    deadline = time.monotonic() + MEND_S
    while True:
        try:
            async with _admin(settings) as redis:
                await mend(redis)
            return
        except StoreError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(AGAIN_S)
