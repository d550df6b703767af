"""Accepted actions reach a real receiver once, or again under the same key, whatever dies in between."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from chimera.core.action import Action, ActionStatus, HttpAction
from chimera.runtime.base import Base, TenantStores, base_of
from chimera.runtime.courier import OF_TENANT
from chimera.serving.local.redis_server import RedisServer
from chimera.store.actions import ActionRecord
from tests.relay import Relay
from tests.runtime.couriers import allowing, delivering, kill, until
from tests.runtime.receiver import Receiver, receiving
from tests.store import drive

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


def hook(receiver: Receiver, **fields: Any) -> HttpAction:
    return HttpAction(**{"url": receiver.url, "body": {"said": "it"}, **fields})


async def accepted(
    base: Base, tenant: str, receiver: Receiver, *actions: Action, mission_id: str = "m1"
) -> TenantStores:
    return await drive.accept_with(base, tenant, actions or [hook(receiver)], mission_id)


async def first(stores: TenantStores) -> ActionRecord:
    (record,) = await stores.actions.get_many(["m1.0/0"])
    return record


async def test_an_accepted_action_is_sent_once_with_its_key(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    action = hook(receiver, method="PUT", headers={"X-Of": "us", "Content-Type": "application/vnd.x+json"})
    stores = await accepted(base, tenant, receiver, action)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    (call,) = receiver.calls
    assert (call.method, call.path, call.body) == ("PUT", "/hook", {"said": "it"})
    assert call.key == f"{tenant}/m1.0/0"
    assert (call.headers["x-of"], call.headers["content-type"]) == ("us", "application/vnd.x+json")
    assert call.headers["user-agent"].startswith("chimera/")
    record = await first(stores)
    assert (record.answer, record.tries, record.lapses) == ("200: ok", 1, 0)


async def test_a_body_is_sent_only_where_there_is_one(base: Base, tenant: str, receiver: Receiver) -> None:
    texts: list[Any] = [None, False, []]
    actions = [hook(receiver, body=body) for body in texts]
    stores = await accepted(base, tenant, receiver, *actions)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=3)
    bodies = {call.key[-1]: call.body for call in receiver.calls}
    assert bodies == {"0": None, "1": False, "2": []}
    lengths = {call.key[-1]: call.headers.get("content-length", "0") for call in receiver.calls}
    assert lengths["0"] == "0"


class Stuck(httpx.AsyncBaseTransport):
    """Comes to the moment before the send, and no further."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("nothing comes after that")


async def test_a_courier_that_dies_before_it_sends_is_followed_by_one_that_does(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    ready = allowing(base, receiver, action_timeout_s=0.5)
    stores = await accepted(base, tenant, receiver)
    stuck = Stuck()
    async with delivering(ready, "dies", transport=stuck) as (courier,):
        await stuck.reached.wait()
        await kill(courier)
    assert (await first(stores)).courier == "dies"
    async with delivering(ready, "lives"):
        await until(stores, base, DONE=1)
    assert len(receiver.calls) == 1
    assert (await first(stores)).lapses == 1


async def test_a_killed_courier_that_had_sent_is_followed_by_a_second_send_under_the_same_key(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    ready = allowing(base, receiver, action_timeout_s=1.0)
    stores = await accepted(base, tenant, receiver)
    receiver.silent = True
    assert ready.settings.redis_url is not None
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.runtime.courier_alone"),
        cwd=ROOT,
        env={
            **os.environ,
            "CHIMERA_REDIS_URL": ready.settings.redis_url.get_secret_value(),
            "CHIMERA_ACTION_HOSTS": receiver.host,
            "CHIMERA_ACTION_TIMEOUT_S": "1.0",
            "CHIMERA_LEASE_S": "0.6",
            "CHIMERA_HEARTBEAT_S": "0.1",
        },
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await receiver.arrived(1)
    finally:
        process.kill()
        await process.wait()
    receiver.silent = False
    async with delivering(ready, "lives"):
        await until(stores, base, DONE=1)
    assert [call.key for call in receiver.calls] == [f"{tenant}/m1.0/0"] * 2
    assert (await first(stores)).lapses == 1, "the second send is not hidden"


async def test_a_courier_that_comes_back_late_is_refused(base: Base, tenant: str, receiver: Receiver) -> None:
    stores = await accepted(base, tenant, receiver)
    (late,) = await drive.errands(stores, "late", lease_s=0)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    assert not await drive.report(stores, late, "failed", courier="late")
    assert (await first(stores)).status is ActionStatus.DONE


async def test_many_couriers_send_each_action_once(base: Base, tenant: str, receiver: Receiver) -> None:
    ready = allowing(base, receiver)
    names = [f"m{number}" for number in range(6)]
    for name in names:
        stores = await accepted(base, tenant, receiver, *[hook(receiver)] * 10, mission_id=name)
    async with delivering(ready, "c1", "c2", "c3"):
        for name in names:
            await until(stores, base, name, DONE=10)
    counted = Counter(call.key for call in receiver.calls)
    assert (len(counted), set(counted.values())) == (60, {1})


async def test_a_receiver_that_stumbles_is_tried_again_under_the_same_key(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    receiver.answers.extend([(500, ""), (503, ""), (408, "")])
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    assert len(receiver.calls) == 4
    assert len({call.key for call in receiver.calls}) == 1
    assert (await first(stores)).tries == 4
    assert (await drive.kinds(stores)).count("action.retried") == 3


async def test_a_receiver_that_says_when_is_heeded(base: Base, tenant: str, receiver: Receiver) -> None:
    receiver.answers.append((429, "Retry-After: 2\r\n"))
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    refused, taken = receiver.calls
    # Without its word the pause would be a second at most.
    assert 2.0 <= taken.at - refused.at < 6.0


@pytest.mark.parametrize("when", ["soon", "Mon, 01 Jan 2024 00:00:00 +99999999999999", "9" * 400])
async def test_what_a_receiver_says_of_later_undoes_no_acceptance(
    base: Base, tenant: str, receiver: Receiver, when: str
) -> None:
    receiver.answers.append((200, f"Date: Mon, 01 Jan 2024 00:00:00 GMT\r\nRetry-After: {when}\r\n"))
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    assert len(receiver.calls) == 1


@pytest.mark.parametrize("status", [400, 404, 410, 422])
async def test_a_refusal_for_good_is_not_tried_again(
    base: Base, tenant: str, receiver: Receiver, status: int
) -> None:
    receiver.answers.append((status, ""))
    receiver.body = "no such\n   hook"
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, FAILED=1)
    assert len(receiver.calls) == 1
    assert (await first(stores)).answer == f"{status}: no such hook"


async def test_a_redirect_is_not_followed(base: Base, tenant: str, receiver: Receiver) -> None:
    receiver.answers.append((307, f"Location: http://127.0.0.1:{receiver.port}/elsewhere\r\n"))
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, FAILED=1)
    assert [call.path for call in receiver.calls] == ["/hook"]
    assert "redirects to" in (await first(stores)).answer


async def test_a_host_that_is_allowed_no_more_gets_nothing(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver, action_hosts="hooks.example.com")):
        await until(stores, base, FAILED=1)
    assert receiver.calls == []
    answer = (await first(stores)).answer
    assert f"add {receiver.host} to CHIMERA_ACTION_HOSTS" in answer


async def test_what_is_no_action_fails_and_holds_up_no_other(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    stores = await accepted(base, tenant, receiver, hook(receiver), hook(receiver))
    await base.redis.hset(stores.actions.keys.of("action", "m1.0/0"), "action", '{"kind": "shell"}')
    async with delivering(allowing(base, receiver)):
        await until(stores, base, FAILED=1, DONE=1)
    assert [call.key for call in receiver.calls] == [f"{tenant}/m1.0/1"]


async def test_after_its_last_try_an_action_fails_and_a_person_retries_it(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    receiver.answers.extend([(503, "")] * 2)
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver, action_tries=2)):
        await until(stores, base, FAILED=1)
        assert (await first(stores)).answer == "503: ok"
        await stores.actions.retry("m1", ["m1.0/0"], "op", by="eve")
        await until(stores, base, DONE=1, FAILED=0)
    assert len({call.key for call in receiver.calls}) == 1
    assert len(receiver.calls) == 3


async def test_nobody_at_home_is_tried_again_and_then_fails(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    async with receiving() as gone:
        pass
    stores = await accepted(base, tenant, gone)
    async with delivering(allowing(base, gone, action_tries=2)):
        await until(stores, base, FAILED=1)
    record = await first(stores)
    assert (record.tries, record.answer.startswith("no answer: ConnectError")) == (2, True)


async def test_an_answer_that_never_comes_is_a_try(base: Base, tenant: str, receiver: Receiver) -> None:
    receiver.silent = True
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver, action_timeout_s=0.4)):
        await receiver.arrived(1)
        receiver.silent = False
        await until(stores, base, DONE=1)
    assert len(receiver.calls) == 2
    events = [e.details async for _, e in stores.recorder.read() if e.kind == "action.retried"]
    assert events[0]["answer"] == "no answer: none within 0.4 s"


async def test_one_receivers_cookie_never_travels_with_anothers_request(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    receiver.answers.append((500, "Set-Cookie: who=first; Path=/\r\n"))
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    assert all("cookie" not in call.headers for call in receiver.calls)


async def test_of_a_long_answer_only_the_beginning_is_kept(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    receiver.body = "x" * 3_000_000
    stores = await accepted(base, tenant, receiver)
    async with delivering(allowing(base, receiver)):
        await until(stores, base, DONE=1)
    assert len((await first(stores)).answer) < 1_100


async def test_a_silent_receiver_holds_up_no_other_tenant(
    base: Base, tenant: str, receiver: Receiver
) -> None:
    other = f"{tenant}-other"
    await base.tenants.add(other)
    try:
        async with receiving() as slow:
            slow.silent = True
            ready = allowing(base, receiver, action_hosts=f"{receiver.host},{slow.host}", action_timeout_s=20)
            for name in ("m1", "m2"):
                await accepted(base, tenant, slow, *[hook(slow)] * 12, mission_id=name)
            async with delivering(ready, "dies") as (courier,):
                await slow.arrived(OF_TENANT)
                stores = await accepted(base, other, receiver)
                await until(stores, base, DONE=1)
                assert len(slow.calls) == OF_TENANT
                await kill(courier)
    finally:
        await base.tenants.remove(other)


async def test_a_report_whose_answer_was_lost_sends_nothing_again(
    base: Base, tenant: str, receiver: Receiver, redis_server: RedisServer
) -> None:
    stores = await accepted(base, tenant, receiver, *[hook(receiver)] * 4)
    async with Relay(redis_server.port) as relay:
        url = f"redis://:{redis_server.password}@127.0.0.1:{relay.port}/0"
        far = base_of(allowing(base, receiver).settings.model_copy(update={"redis_url": SecretStr(url)}))

        def cut(_call: object) -> None:
            relay.cut_next_answer = True

        receiver.arriving = cut
        try:
            async with delivering(far):
                await until(stores, base, DONE=4)
        finally:
            await far.close()
    assert relay.cuts >= 1
    assert sorted(Counter(call.key for call in receiver.calls).values()) == [1] * 4


async def test_a_courier_that_stops_lets_a_send_end(base: Base, tenant: str, receiver: Receiver) -> None:
    stores = await accepted(base, tenant, receiver)
    stopping: list[asyncio.Task[None]] = []
    async with delivering(allowing(base, receiver)) as (courier,):
        receiver.arriving = lambda _call: stopping.append(asyncio.create_task(courier.stop()))
        await receiver.arrived(1)
        await asyncio.gather(*stopping)
        assert (await first(stores)).status is ActionStatus.DONE
        await courier.stop()
        assert not courier.running
