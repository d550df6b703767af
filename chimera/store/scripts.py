"""Loads the Lua transitions, runs them, and turns their refusals into errors.

Each begins with a line for Redis, so that what forbids a script (a full store, a replica, a disk that cannot
be written) forbids it before its first write. ``flags=allow-oom`` lets it run in a full store: what ends
or frees work carries it, what begins work does not (`chimera.store.room`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoPermissionError, NoScriptError

from chimera.errors import ChimeraError, LeaseLost, StoreTimeout, StoreUnavailable
from chimera.store.connection import Redis, SyncRedis, translated

_INCLUDE = re.compile(r"^--- include (\w+)$", re.MULTILINE)


class Refusal(IntEnum):
    """Every negative code a script answers with."""

    LOST = -1
    """Not the holder any more; or not in the state the request needs."""
    MISSING = -2
    """There is no such thing, or it is final."""
    OVERDUE = -3
    """The attempt's time is up."""
    STALE = -4
    """The mission's state moved on."""
    OLD_TERM = -5
    """A newer leader acts."""
    NO_RESULT = -6
    """There is nothing to accept."""
    OVER_LIMIT = -7
    """A limit refuses the spend."""
    FULL = -8
    """The tenant has as much as its quota allows."""
    NO_COST = -9
    """A call's cost can be none: its hold was charged whole."""
    SHORT = -10
    """The tenant must draw from the fleet's ledger first."""
    SUSPENDED = -11
    """The tenant is suspended, or was removed."""
    ELSEWHERE = -12
    """The tenant's workers are kept by another: the hub, or its spoke."""


class OldTerm(Exception):
    """A newer leader acts: this one must stop."""


def under_term(answer: Any) -> Any:
    """The answer of a script that acts under a term.

    Raises:
        OldTerm: it was refused, for a newer leader acts.
    """
    if answer == Refusal.OLD_TERM:
        raise OldTerm
    return answer


@cache
def source(name: str) -> str:
    """A script's whole text, its includes spliced in."""
    root = files("chimera.store") / "lua"
    text = (root / f"{name}.lua").read_text(encoding="utf-8")
    return _INCLUDE.sub(
        lambda match: (root / "include" / f"{match[1]}.lua").read_text(encoding="utf-8"), text
    )


@cache
def digest(name: str) -> str:
    """Under which a server remembers the script."""
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest()


class Scripts:
    """Runs scripts by name. A flushed script cache heals itself: the text is sent again."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def run(self, name: str, keys: Sequence[str], *args: str | bytes | int | float) -> Any:
        """Run ``lua/<name>.lua`` and give its raw answer."""
        with translated():
            try:
                return await self._redis.evalsha(digest(name), len(keys), *keys, *args)
            except NoScriptError:
                # The text itself runs in one step: a flush between loading and running cannot come.
                with _bringing():
                    return await self._redis.eval(source(name), len(keys), *keys, *args)

    async def run_many(
        self, name: str, keys: Sequence[str], calls: Sequence[Sequence[str | int]]
    ) -> list[Any]:
        """Run it once for each list of arguments, in one round trip: each call is a step of its own.

        Returns and raises as `run_each`.
        """
        return await self.run_each(name, [(keys, args) for args in calls])

    async def run_each(
        self, name: str, calls: Sequence[tuple[Sequence[str], Sequence[str | int]]]
    ) -> list[Any]:
        """The same, each call with its own keys.

        Returns the raw answers; of a call that failed for what it found there, the error.

        Raises:
            StoreUnavailable, StoreTimeout: the store is away; some may have run.
        """
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for keys, args in calls:
                    pipe.evalsha(digest(name), len(keys), *keys, *args)
                answers = await pipe.execute(raise_on_error=False)
        return [
            await self._again(name, keys, args) if isinstance(answer, Exception) else answer
            for (keys, args), answer in zip(calls, answers, strict=True)
        ]

    async def _again(self, name: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """What failed amid others, alone: a flushed cache heals so, and its error is its own."""
        try:
            return await self.run(name, keys, *args)
        except (StoreUnavailable, StoreTimeout):
            raise
        except ChimeraError as exc:
            return exc


class SyncScripts:
    """The same, for a thread of its own."""

    def __init__(self, redis: SyncRedis) -> None:
        self._redis = redis

    def run(self, name: str, keys: Sequence[str], *args: str | int | float) -> Any:
        """Run ``lua/<name>.lua`` and give its raw answer."""
        with translated():
            try:
                return self._redis.evalsha(digest(name), len(keys), *keys, *args)
            except NoScriptError:
                with _bringing():
                    return self._redis.eval(source(name), len(keys), *keys, *args)


@contextmanager
def _bringing() -> Iterator[None]:
    """A worker may run scripts, and bring none (`chimera.store.rights`): they come back without it."""
    try:
        yield
    except NoPermissionError as exc:
        if "'eval'" not in str(exc):
            raise
        raise StoreUnavailable(
            "Redis has forgotten its scripts, and this user may bring none: whoever keeps the users of Redis "
            "loads them again within seconds"
        ) from exc


def lease_lost(task_id: str, token: int, answer: Sequence[Any]) -> LeaseLost:
    """The error of an answer ``{-1, holder, since_ms, status}``."""
    return LeaseLost(task_id, token, str(answer[1]), int(answer[2]), str(answer[3]))
