"""The actors' event loop, uvloop in a thread: an exit that is not its own does not end it."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from chimera.core.brake import BrakeState
from chimera.runtime.base import Base
from chimera.runtime.crew import Crew, watch
from chimera.serving.actors import GovernorActor
from chimera.serving.loop import LoopThread
from chimera.store import keys
from chimera.store.brakes import BrakeStore, Look
from chimera.store.keys import TenantKeys
from tests.redis_fixtures import base, redis_server, settings, tenant

__all__ = ["base", "redis_server", "settings", "tenant"]


async def leaves() -> None:
    sys.exit("no input")


async def interrupted() -> None:
    raise KeyboardInterrupt


def in_a_task(make: Callable[[], Any]) -> None:
    held.append(asyncio.ensure_future(make()))


held: list[Any] = []
"""asyncio itself keeps no task alive."""
EXITS: dict[str, Callable[[], Any]] = {
    "a callback": lambda: sys.exit("no input"),
    "a task": lambda: in_a_task(leaves),
    "an interrupted task": lambda: in_a_task(interrupted),
}


def ended(loop: LoopThread, over: threading.Event) -> None:
    """Wait for the loop's end."""
    assert over.wait(20)
    assert loop._thread is not None
    loop._thread.join(20)
    assert not loop.alive


@pytest.mark.parametrize("what", EXITS)
def test_the_loop_goes_on_when_something_in_it_exits(what: str) -> None:
    over = threading.Event()
    ticks: list[str] = []

    async def main() -> None:
        running = asyncio.get_running_loop()
        for number in range(3):
            behind = asyncio.Event()
            running.call_soon(EXITS[what])
            running.call_soon(ticks.append, f"neighbour {number}")
            running.call_later(0.02, behind.set)
            await behind.wait()
        ticks.append("main")

    loop = LoopThread("under test")
    with capture_logs() as logs:
        loop.run(main(), then=over.set)
        ended(loop, over)
        for one in held:
            one.exception()  # it is nobody else's to ask
        held.clear()
    assert ticks == ["neighbour 0", "neighbour 1", "neighbour 2", "main"]
    assert loop.error is None
    assert [line["event"] for line in logs] == ["loop.exit_refused"] * 3


def test_what_is_said_to_a_loop_that_is_only_just_started_is_heard() -> None:
    for _ in range(50):
        over, heard = threading.Event(), asyncio.Event()
        loop = LoopThread("under test")
        loop.run(heard.wait(), then=over.set)
        loop.soon(heard.set)
        ended(loop, over)


def test_who_leaves_within_an_attempt_ends_it_on_this_loop_too() -> None:
    over = threading.Event()
    caught: list[BaseException] = []

    async def attempt() -> None:
        with Crew():
            helper = asyncio.create_task(leaves(), name="helper")
            await asyncio.wait({helper})
            await asyncio.Event().wait()

    async def main() -> None:
        watch(asyncio.get_running_loop())
        try:
            await attempt()
        except SystemExit as exc:
            caught.append(exc)
        await asyncio.sleep(0)  # and is not cancelled any more

    loop = LoopThread("under test")
    loop.run(main(), then=over.set)
    ended(loop, over)
    assert loop.error is None
    assert [str(exc) for exc in caught] == ["no input"]


def test_an_actor_that_leaves_itself_ends_and_says_so() -> None:
    over = threading.Event()
    loop = LoopThread("under test")
    with capture_logs() as logs:
        loop.run(leaves(), then=over.set)
        ended(loop, over)
    assert loop.error == "SystemExit: no input"
    assert [line["event"] for line in logs] == ["actor.failed"]


async def test_the_governors_actor_moves_brakes_and_asks_its_canary(base: Base, tenant: str) -> None:
    store = BrakeStore(base.redis)
    await base.redis.delete(keys.CANARY, *await base.redis.keys(f"{{{keys.CANARY}}}:*"))
    settings = base.settings.model_copy(
        update={"brake_plan": "86.4", "brake_floor_usd": 0, "brake_short_s": 10, "brake_long_s": 20}
    )
    await base.redis.hset(TenantKeys(tenant).burn, int(time.time()) // 5, 10**6)
    actor = asyncio.create_task(GovernorActor._main(object.__new__(GovernorActor), settings))
    try:
        async with asyncio.timeout(60):
            while (await store.canary()).said != "refused" or not await frozen(base, tenant):  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.05)  # nothing tells of it
    finally:
        actor.cancel()
        await asyncio.gather(actor, return_exceptions=True)
        await base.redis.delete(keys.CANARY, *await base.redis.keys(f"{{{keys.CANARY}}}:*"))


async def frozen(base: Base, tenant: str) -> bool:
    look = (await BrakeStore(base.redis).look([tenant], short_s=10, long_s=20))[tenant]
    return isinstance(look, Look) and look.brake.state is BrakeState.FROZEN


def test_a_loop_that_something_holds_does_not_answer() -> None:
    loop, held_up, let_go, over = LoopThread("test"), threading.Event(), threading.Event(), threading.Event()

    async def hold() -> None:
        held_up.set()
        let_go.wait(20)

    loop.run(hold(), then=over.set)
    assert held_up.wait(20)
    assert loop.alive
    assert not loop.answers(0.05)
    let_go.set()
    ended(loop, over)
    assert not loop.answers(0.05)


def test_a_loop_that_turns_answers() -> None:
    loop, over = LoopThread("test"), threading.Event()
    until = asyncio.Event()

    async def wait() -> None:
        await until.wait()

    loop.run(wait(), then=over.set)
    assert loop.answers(20)
    loop.soon(until.set)
    ended(loop, over)
