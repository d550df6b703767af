"""The gateway's door: the fleet's port outlives whoever answers on it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from chimera.errors import BackendError, ConfigurationError
from chimera.serving import door
from chimera.serving.local import environment
from chimera.serving.local.listener import Listener
from chimera.serving.local.ports import LOOPBACK, free_port, is_free
from chimera.serving.local.state import StateDir
from chimera.settings import NOT_SETTINGS, Settings

REPLICA = """
import asyncio, os, sys
from chimera.serving import door

async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

async def main():
    async with door.opened(app, sys.argv[1]):
        print("open", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


class App:
    """Answers with its name; `/hold` only once it is let go, `/stream` a line and then nothing for ever."""

    def __init__(self, name: str = "app") -> None:
        self.name = name
        self.asked, self.let_go, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.size = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/deaf":  # answers without a look at the body
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": self.name.encode()})
            return
        if scope["path"] == "/hold":
            self.asked.set()
            await self.let_go.wait()
        while (message := await receive())["type"] == "http.request":
            self.size += len(message["body"])
            if not message["more_body"]:
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": self.name.encode(), "more_body": True})
        if scope["path"] == "/stream":
            self.asked.set()
            try:
                assert (await receive())["type"] == "http.disconnect"
            finally:
                self.left.set()
            return
        await send({"type": "http.response.body", "body": b""})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "door"


@pytest.fixture
async def listener(path: Path) -> AsyncIterator[Listener]:
    found = Listener(LOOPBACK, free_port(), path)
    found.open()
    yield found
    found.close()


@asynccontextmanager
async def client(listener: Listener) -> AsyncIterator[httpx.AsyncClient]:
    url = f"http://{LOOPBACK}:{listener._port}"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as found:
        yield found


@asynccontextmanager
async def replica(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process that answers at the door with its pid, until it is killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", REPLICA, str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"open\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_who_calls_while_the_gateway_is_replaced_waits_and_is_answered(
    listener: Listener, path: Path
) -> None:
    async with client(listener) as calls:
        async with replica(path) as first:
            assert (await calls.get("/")).text == str(first.pid)
            os.kill(first.pid, signal.SIGKILL)
            await first.wait()
        waiting = [asyncio.create_task(calls.get("/")) for _ in range(20)]
        async with replica(path) as second:
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        # The connection that the first one had kept open broke with it; a new one never does.
        broken = [one for one in answers if isinstance(one, Exception)]
        assert len(broken) <= 1
        assert {one.text for one in answers if isinstance(one, httpx.Response)} == {str(second.pid)}


async def test_a_door_that_closes_ends_what_is_under_way_and_refuses_nobody(
    listener: Listener, path: Path
) -> None:
    old, new = App("old"), App("new")
    async with client(listener) as calls, door.opened(old, str(path)) as closing:
        held = asyncio.create_task(calls.get("/hold"))
        await old.asked.wait()
        async with door.opened(new, str(path)):
            closed = asyncio.create_task(closing.close())
            while closing._server.servers[0].is_serving():  # noqa: ASYNC110 (nothing tells of it)
                await asyncio.sleep(0.01)
            assert {(await calls.get("/")).text for _ in range(20)} == {"new"}
            old.let_go.set()
            assert (await held).text == "old"
            await closed
            assert not closing.is_open


async def test_a_stream_is_cut_when_the_door_has_closed(
    listener: Listener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "GRACE_S", 1)
    app = App()
    async with (
        asyncio.timeout(20),
        client(listener) as calls,
        door.opened(app, str(path)) as closing,
        calls.stream("GET", "/stream") as response,
    ):
        chunks = response.aiter_bytes()
        assert await anext(chunks) == b"app"
        await closing.close()
        await app.left.wait()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(chunks)


async def test_the_app_hears_of_a_client_that_leaves(listener: Listener, path: Path) -> None:
    app = App()
    async with client(listener) as calls, door.opened(app, str(path)):
        async with calls.stream("GET", "/stream"):
            await app.asked.wait()
        async with asyncio.timeout(10):
            await app.left.wait()


async def test_a_large_body_comes_whole(listener: Listener, path: Path) -> None:
    app = App()
    async with client(listener) as calls, door.opened(app, str(path)):
        size = 64 << 20
        assert (await calls.post("/", content=bytes(size))).text == "app"
        assert app.size == size


BEGINNINGS = {
    "nothing": b"",
    "a head that does not end": b"GET / HTTP/1.1\r\nHost: hub\r\nX-Part: ",
    "a body that nobody waits for": b"POST /deaf HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000000\r\n\r\n",
    "a second head that does not end": b"GET / HTTP/1.1\r\nHost: hub\r\n\r\nGET / HTTP/1.1\r\nX-Part: ",
}


@pytest.mark.parametrize("what", BEGINNINGS)
async def test_who_sends_no_whole_head_is_not_waited_for(
    what: str, listener: Listener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HEAD_S", 0.3)
    async with asyncio.timeout(20), door.opened(App(), str(path)):
        reader, writer = await asyncio.open_connection(LOOPBACK, listener._port)
        writer.write(BEGINNINGS[what])
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            if BEGINNINGS[what]:
                writer.write(b"x")  # silence is not what ends it
            await asyncio.sleep(0.05)
        with suppress(ConnectionError):  # what was on its way when the door closed it
            await ended
        writer.close()


OVERLONG = {
    "a head": b"GET / HTTP/1.1\r\nHost: hub\r\nX-Part: ",
    "many headers": b"GET / HTTP/1.1\r\nHost: hub\r\n",
    "what follows a body": b"POST / HTTP/1.1\r\nHost: hub\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Part: ",
}


@pytest.mark.parametrize("what", OVERLONG)
async def test_a_head_has_an_end_and_so_has_what_follows_a_body(
    what: str, listener: Listener, path: Path
) -> None:
    app = App()
    part = b"X-Part: x\r\n" * 400 if what == "many headers" else b"x" * 4_000
    async with asyncio.timeout(20), door.opened(app, str(path)):
        reader, writer = await asyncio.open_connection(LOOPBACK, listener._port)
        writer.write(OVERLONG[what])
        ended = asyncio.create_task(reader.read())
        sent = 0
        while not ended.done():
            writer.write(part)
            sent += len(part)
            await asyncio.sleep(0.001)
        with suppress(ConnectionError):
            assert await ended == b""
        assert sent > door.HEAD_BYTES
        writer.close()


async def test_a_head_may_be_large_and_a_body_that_nobody_reads_larger(
    listener: Listener, path: Path
) -> None:
    large = {f"X-Part-{number}": "x" * 1_000 for number in range(50)}
    async with asyncio.timeout(20), client(listener) as calls, door.opened(App(), str(path)):
        for _ in range(3):
            assert (await calls.get("/", headers=large)).text == "app"
            assert (await calls.post("/deaf", content=bytes(8 << 20))).text == "app"


class Flood:
    """Answers without end, until its caller is gone."""

    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            await asyncio.sleep(0)
        self.left.set()


async def test_who_reads_nothing_of_an_answer_is_cut_and_who_reads_slowly_is_not(
    listener: Listener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "UNREAD_S", 0.5)
    app = Flood()
    async with asyncio.timeout(30), door.opened(app, str(path)):
        reader, writer = await asyncio.open_connection(LOOPBACK, listener._port, limit=1 << 12)
        writer.write(b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n")
        for _ in range(15):
            assert await reader.readexactly(1 << 20)
            await asyncio.sleep(0.1)
        assert not app.left.is_set()
        await app.left.wait()
        writer.close()


async def test_a_body_and_an_answer_may_take_longer_than_a_head(
    listener: Listener, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "HEAD_S", 0.2)
    slow_app = App()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10):
            await asyncio.sleep(0.05)
            yield b"part"

    async with asyncio.timeout(20), client(listener) as calls, door.opened(slow_app, str(path)):
        assert (await calls.post("/", content=body())).text == "app"
        assert slow_app.size == 40
        async with calls.stream("GET", "/stream") as response:
            chunks = response.aiter_bytes()
            assert await anext(chunks) == b"app"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await anext(chunks)
            assert not slow_app.left.is_set()


async def test_the_port_is_the_fleets_alone_and_free_after_it(listener: Listener, path: Path) -> None:
    port = listener._port
    with pytest.raises(ConfigurationError, match=f"port {port} on {LOOPBACK} is taken.*CHIMERA_HTTP_PORT"):
        Listener(LOOPBACK, port, path.with_name("other")).open()
    with pytest.raises(ConfigurationError, match="CHIMERA_HTTP_HOST"):
        Listener("203.0.113.1", port, path.with_name("other")).open()  # an address of documents
    async with client(listener) as calls, door.opened(App(), str(path)):
        assert (await calls.get("/")).status_code == 200
        listener.close()
        listener.close()
        assert (await calls.get("/")).status_code == 200
    assert is_free(LOOPBACK, port)
    assert not os.access(path, os.F_OK)


async def test_nobody_borrows_from_a_fleet_that_has_gone(listener: Listener, path: Path) -> None:
    listener.close()
    with pytest.raises(BackendError, match="the fleet is going"):
        await asyncio.to_thread(door.borrow, str(path))


async def test_what_is_lent_goes_to_no_child(listener: Listener, path: Path) -> None:
    with await asyncio.to_thread(door.borrow, str(path)) as lent:
        assert lent.getsockname() == (LOOPBACK, listener._port)
        assert not lent.get_inheritable()
        assert lent.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


async def test_a_door_leaves_the_process_signals_alone(listener: Listener, path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    async with client(listener) as calls, door.opened(App(), str(path)) as opened:
        assert (await calls.get("/")).status_code == 200  # it runs by now, in the main thread
        assert signal.getsignal(signal.SIGTERM) is before
        assert isinstance(opened._server, uvicorn.Server)


def test_a_fleet_tells_its_replicas_where_the_door_is(tmp_path: Path) -> None:
    state = StateDir(tmp_path)
    state.prepare()
    told = environment.of_hub(
        Settings(state_dir=tmp_path), state, redis_url="", model_url="", model_api_key=""
    )
    assert told[door.DOOR] == str(state.door)
    assert door.DOOR in NOT_SETTINGS
    assert stat.S_IMODE(state.door.parent.stat().st_mode) == 0o700
    assert len(str(state.door)) < 108
    state.forget()
