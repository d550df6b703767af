"""A Redis that restarts has forgotten its users: all are refused until they are made again, then go on."""

from __future__ import annotations

import asyncio

import pytest

from chimera.core.mission import MissionStatus
from chimera.serving.local.redis_server import RedisServer
from chimera.store.users import user_of
from tests.chaos.world import TENANT, Part, World, until
from tests.store import drive

pytestmark = pytest.mark.chaos


def refused(part: Part) -> bool:
    """Whether a process has said that Redis takes its login no more."""
    said = part.said("store.unavailable")
    return any("refuses the login" in str(line.fields) for line in said)


async def test_services_and_workers_come_back_by_themselves_when_their_users_are_back(
    world: World, redis: RedisServer
) -> None:
    parts = [await world.up("hub"), await world.up("worker")]
    gate = world.gate()
    await world.submit(drive.spec(agent="gated", inputs=[str(gate)] * 4))
    await until(lambda: world.held_by("worker"), "the worker holds tasks")
    await world.users.stop()
    await asyncio.to_thread(redis.kill)
    await asyncio.to_thread(redis.start)
    assert await world.base.redis.execute_command("ACL USERS") == ["default"]

    async def all_are_refused() -> bool:
        return all(map(refused, parts))

    await until(all_are_refused, "every process is refused")
    assert all(part.process.is_alive() for part in parts)
    world.users.start()
    gate.touch()
    mission = await world.final()
    assert mission.status is MissionStatus.COMPLETED
    await world.committed_once(4)
    assert user_of("worker", TENANT) in await world.base.redis.execute_command("ACL USERS")
    assert all(part.process.is_alive() for part in parts), "nobody had to be replaced"
    # Logins were refused, and nothing else: no role lacks a right.
    assert {entry["reason"] for entry in await world.base.redis.acl_log()} <= {"auth"}
    assert not any(event.details.get("crash") for event in await world.events("task.rescued"))


async def test_a_tenant_that_comes_has_a_user_before_its_worker_gives_up(world: World) -> None:
    hub, other = await world.up("hub"), "late"
    worker = world.begin("worker", "late-worker", tenant=other)
    await worker.says("worker.ready")

    async def is_refused() -> bool:
        return refused(worker)

    await until(is_refused, "a worker of no tenant is refused")
    await world.base.tenants.add(other)
    await world.submit(drive.spec(agent="echo", inputs=[1, 2]), "m1", other)

    async def over() -> bool:
        return (await world.base.of(other).missions.get("m1")).status is MissionStatus.COMPLETED

    await until(over, "its mission is done")
    await world.base.tenants.remove(other)

    async def user_is_gone() -> bool:
        return user_of("worker", other) not in await world.base.redis.execute_command("ACL USERS")

    await until(user_is_gone, "its user goes with it")
    assert hub.process.is_alive()
