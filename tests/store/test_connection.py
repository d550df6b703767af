"""What Redis must be, and what its absence looks like."""

from __future__ import annotations

import asyncio
import re
import ssl
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pytest
import trustme
from redis import exceptions as driver

from chimera.errors import ConfigurationError, CorruptRecord, StoreTimeout, StoreUnavailable
from chimera.runtime.base import Base, base_of, open_base
from chimera.serving.local.ports import free_port
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from chimera.store import keys
from chimera.store.connection import ask, connect_sync, end, prepare, translated
from tests.relay import Relay
from tests.store import drive


async def test_a_layout_of_another_version_is_refused_with_the_next_step(base: Base) -> None:
    await base.redis.set(keys.SCHEMA, "999")
    try:
        with pytest.raises(ConfigurationError, match=r"layout 999.*name another Redis"):
            await prepare(base.redis)
    finally:
        await base.redis.set(keys.SCHEMA, keys.SCHEMA_VERSION)


async def test_a_redis_that_may_evict_is_refused(base: Base) -> None:
    await base.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(ConfigurationError, match="set it to noeviction"):
            await prepare(base.redis)
    finally:
        await base.redis.config_set("maxmemory-policy", "noeviction")


async def test_a_redis_that_is_not_there_is_named() -> None:
    with pytest.raises(StoreUnavailable, match="CHIMERA_REDIS_URL"):
        await open_base(load(redis_url=f"redis://127.0.0.1:{free_port()}/0"))


async def test_a_wrong_password_is_said(base: Base) -> None:
    url = base.settings.redis_url
    assert url is not None
    wrong = base_of(load(redis_url=url.get_secret_value().replace("redis://:", "redis://:no")))
    with pytest.raises(StoreUnavailable, match="refuses the login"):
        await prepare(wrong.redis)
    await wrong.close()


async def test_many_reads_have_their_answers_in_order(base: Base, tenant: str) -> None:
    key = f"{{{tenant}}}:x"
    for number in range(3_000):
        await base.redis.rpush(key, f"{number} {'x' * 100}")
    answers = await ask(base.redis, [("LRANGE", key, at, at + 1) for at in range(2_999)])
    assert [[one.split()[0] for one in pair] for pair in answers] == [
        [str(at), str(at + 1)] for at in range(2_999)
    ]
    assert await ask(base.redis, [("HGETALL", f"{key}y"), ("LLEN", key)]) == [{}, 3_000]


async def test_a_read_that_fails_amid_others_is_named_and_nobody_is_given_its_answers(
    base: Base, tenant: str
) -> None:
    key = f"{{{tenant}}}:x"
    await base.redis.set(key, "here")
    reads = [("GET", key), ("HGETALL", key), ("GET", key)]
    for _ in range(40):  # more than there are connections
        with pytest.raises(CorruptRecord, match=rf"# 2 \(HGETALL {re.escape(key)}\)"), translated():
            await ask(base.redis, reads)
        assert await base.redis.strlen(key) == 4


async def test_a_reader_that_is_cancelled_leaves_no_answers_to_the_next(base: Base, tenant: str) -> None:
    key = f"{{{tenant}}}:x"
    await base.redis.set(key, "x" * 100_000)
    for _ in range(40):
        reading = asyncio.create_task(ask(base.redis, [("GET", key)] * 20))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        assert await base.redis.strlen(key) == 100_000


def test_no_redis_named_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="chimera up"):
        base_of(load())


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """A server's TLS context for 127.0.0.1, and the file of the authority that signed it."""
    authority, trusted = trustme.CA(), tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(trusted))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, trusted


async def test_rediss_speaks_tls_and_checks_the_server_against_the_authority_named(
    redis_server: RedisServer, authority: tuple[ssl.SSLContext, Path], tenant: str
) -> None:
    context, trusted = authority
    async with Relay(redis_server.port, tls=context) as relay:
        url = f"rediss://:{redis_server.password}@127.0.0.1:{relay.port}/0"
        settings = load(redis_url=f"{url}?ssl_ca_certs={quote(str(trusted))}")
        base = await open_base(settings)
        await base.tenants.add(tenant)
        await base.tenants.remove(tenant)
        await base.close()
        # The heartbeat's thread connects by itself.
        assert await asyncio.to_thread(lambda: connect_sync(settings).ping())
        with pytest.raises(StoreUnavailable, match="certificate"):
            await open_base(load(redis_url=url))


async def test_over_the_older_protocol_everything_reads_the_same(base: Base, tenant: str) -> None:
    url = base.settings.redis_url
    assert url is not None
    older = base_of(load(redis_url=f"{url.get_secret_value()}?protocol=2"))
    stores = await drive.begin(older, tenant, drive.spec(inputs=[1, 2]))
    (one, other) = await drive.claim(stores, 2)
    await drive.hand_in(stores, one, {"of": 1})
    for held in await drive.review(stores):
        await drive.judge(stores, held)
    await drive.hand_in(stores, other, {"of": 2})
    ids = [one.task_id, other.task_id]
    assert await stores.tasks.get_many(ids) == await base.of(tenant).tasks.get_many(ids)
    await older.close()


@pytest.mark.parametrize("outcome", [None, driver.TimeoutError("late"), KeyError("gone")])
async def test_a_cancellation_that_the_driver_swallows_is_heard_when_the_call_is_over(
    outcome: Exception | None,
) -> None:
    went_on = False

    async def call() -> None:
        nonlocal went_on
        with translated():
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            if outcome is not None:
                raise outcome
        went_on = True

    calling = asyncio.create_task(call())
    await asyncio.sleep(0)
    await end(calling)
    assert calling.cancelled()
    assert not went_on


async def test_calls_on_the_way_out_of_a_cancelled_task_are_not_cancelled_again(base: Base) -> None:
    heard: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            with translated():
                heard.append(await base.redis.echo("closing"))
            with suppress(StoreTimeout), translated():
                raise driver.TimeoutError
            heard.append("closed")

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    await end(working)
    assert working.cancelled()
    assert heard == ["closing", "closed"]


async def test_what_a_cancelled_task_does_on_its_way_out_is_not_cut_short() -> None:
    done, go_on = [], asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await go_on.wait()
            done.append("closed")

    working = asyncio.create_task(work())
    await asyncio.sleep(0)
    ending = asyncio.create_task(end(working))
    await asyncio.sleep(0.5)  # a slow machine's time to close connections
    go_on.set()
    await ending
    assert done == ["closed"]
