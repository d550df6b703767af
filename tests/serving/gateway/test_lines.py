"""Missions that come as lines: stored as they come, refused by the line, in bounded memory."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.client import Client
from chimera.errors import AlreadyExists, FleetUnavailable, InvalidRequest, PayloadTooLarge
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from chimera.store.blobs import SEGMENT
from chimera.store.uploads import unfinished
from tests.serving.gateway.conftest import MISSION

SPEC = {name: value for name, value in MISSION.items() if name != "inputs"}
LINES = {"Content-Type": "application/x-ndjson"}


def body(*lines: Any, spec: Any = SPEC) -> bytes:
    return b"".join(
        line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n" for line in (spec, *lines)
    )


async def post(http: httpx.AsyncClient, content: Any, **headers: str) -> httpx.Response:
    return await http.post("/v1/missions", content=content, headers={**LINES, **headers})


def stored(base: Base, tenant: str) -> list[str]:
    """Folders and files of a tenant in the blob store."""
    root = Path(base.settings.blob_location) / tenant
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


async def test_each_line_behind_the_first_is_an_input(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    items = [{"n": number, "text": "ü\n🚀"} for number in range(2 * SEGMENT + 3)]
    sent = body(*items[:5], b"  \n", *items[5:]).rstrip(b"\n")  # an empty line, and none at the end

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 777):
            yield sent[start : start + 777]

    response = await post(http, pieces())
    assert response.status_code == 201, response.text
    view = response.json()
    assert view["total_tasks"] == len(items)
    assert response.headers["Location"] == f"/v1/missions/{view['mission_id']}"
    found = [item async for item in base.blobs.iter_inputs(tenant, view["mission_id"], len(items))]
    assert found == items
    assert await unfinished(base.blobs, tenant) == []


async def test_the_same_key_gives_the_same_mission_however_the_inputs_come(
    http: httpx.AsyncClient, base: Base, tenant: str
) -> None:
    items = list(range(SEGMENT + 1))
    first = await post(http, body(*items), **{"Idempotency-Key": "k"})
    again = await post(http, body(*items), **{"Idempotency-Key": "k"})
    whole = await http.post("/v1/missions", json={**SPEC, "inputs": items}, headers={"Idempotency-Key": "k"})
    assert [one.status_code for one in (first, again, whole)] == [201, 200, 200]
    assert len({one.json()["mission_id"] for one in (first, again, whole)}) == 1
    other = await post(http, body(*items[:-1], 7), **{"Idempotency-Key": "k"})
    assert (other.status_code, other.json()["type"]) == (409, "urn:chimera:problem:already-exists")
    assert {path.partition("/")[0] for path in stored(base, tenant)} == {first.json()["mission_id"]}


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        (body(*range(1_500), b"{oops\n", *range(9)), 422, r"line 1502 \(inputs\[1500\]\): no JSON"),
        (body(1, b"\n", b'"' + b"x" * 300_000 + b'"\n', 2), 413, r"line 4 \(inputs\[1\]\) has 300,002 bytes"),
        (body(1, b'"' + b"x" * 3_000_000 + b'"\n'), 413, "line 3 has"),
        (body(1, b"[" * 300 + b"]" * 300 + b"\n"), 422, r"line 3 \(inputs\[1\]\): it cannot be stored"),
        (body(), 422, "there are none"),
        (b"", 422, "the mission is missing"),
        (b"\n\n", 422, "the mission is missing"),
        (b"{no\n1\n", 422, "line 1: no JSON"),
        (body(1, spec=[]), 422, "valid dictionary"),
        (body(1, spec=MISSION), 422, "inputs: they follow the mission"),
        (body(1, spec={**SPEC, "gaol": 1}), 422, "gaol: there is no such field; did you mean goal"),
        (body(1, spec={**SPEC, "agent": "nobody"}), 422, "no agent is named 'nobody'"),
        (
            body(1, spec={**SPEC, "plan": {"strategy": "dag", "nodes": [{"name": "a"}]}}),
            422,
            "a dag plan has none",
        ),
    ],
)
async def test_what_cannot_be_taken_is_named_by_its_line_and_leaves_nothing(
    http: httpx.AsyncClient, base: Base, tenant: str, content: bytes, status: int, said: str
) -> None:
    response = await post(http, content)
    problem = response.json()
    assert response.status_code == status, response.text
    assert re.search(said, " ".join([problem["detail"], *problem.get("problems", ())])), problem
    assert stored(base, tenant) == []
    assert await base.of(tenant).missions.list_ids() == []


async def test_a_stream_has_limits_of_its_own(base: Base, tenant: str, key: str) -> None:
    limits = {"max_inputs": 1_200, "max_request_bytes": 2_000, "max_stream_bytes": 200_000}
    small = replace(base, settings=base.settings.model_copy(update=limits))
    headers = {"Authorization": f"Bearer {key}"}
    transport = httpx.ASGITransport(create_app(Hub(small)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as http:
        assert (await post(http, body(*range(1_200)))).status_code == 201
        over = await post(http, body(*range(1_201)))
        assert over.status_code == 422
        assert "over the limit of 1,200" in over.json()["problems"][0]
        long = await post(http, body(*("x" * 1_000 for _ in range(300))))
        assert (long.status_code, long.json()["setting"]) == (413, "CHIMERA_MAX_STREAM_BYTES")


async def test_an_upload_that_breaks_off_leaves_nothing_behind(
    url: str, base: Base, tenant: str, key: str
) -> None:
    _, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
    head = (
        "POST /v1/missions HTTP/1.1\r\nHost: hub\r\nContent-Type: application/x-ndjson\r\n"
        f"Authorization: Bearer {key}\r\nContent-Length: 10000000\r\n\r\n"
    )
    writer.write(head.encode() + body(*range(5 * SEGMENT)))
    await writer.drain()
    async with asyncio.timeout(10):
        while len(stored(base, tenant)) < 5:  # noqa: ASYNC110 (segments, and the note: nothing tells)
            await asyncio.sleep(0.01)
        writer.close()
        while stored(base, tenant):  # noqa: ASYNC110 (nothing tells of it)
            await asyncio.sleep(0.01)
    assert await base.of(tenant).missions.list_ids() == []


class Repeated:
    """Inputs that can be gone through again."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.count))


async def test_a_client_sends_inputs_as_they_come(url: str, base: Base, tenant: str, key: str) -> None:
    told: list[int] = []

    async def some() -> AsyncIterator[int]:
        for number in range(20_000):
            yield number

    async with Client(url, key) as client:
        mission = await client.submit(SPEC, inputs=some(), sent=told.append)
        assert mission.total_tasks == 20_000
        assert told == sorted(told)
        assert told[-1] == 20_000
        assert len(told) > 1
        first = await client.submit(SPEC, inputs=Repeated(3), idempotency_key="k")
        listed = await client.submit({**SPEC, "inputs": [0, 1, 2]}, idempotency_key="k")
        assert listed.mission_id == first.mission_id
        with pytest.raises(AlreadyExists):
            await client.submit(SPEC, inputs=(n for n in range(4)), idempotency_key="k")
        with pytest.raises(PayloadTooLarge, match=r"line 10002 \(inputs\[10000\]\)"):
            await client.submit(SPEC, inputs=("x" * (300_000 if n == 10_000 else 9) for n in range(20_000)))
        with pytest.raises(InvalidRequest, match=r"inputs\[1\] is no JSON value"):
            await client.submit(SPEC, inputs=iter([1, object()]))


async def test_inputs_that_can_be_gone_through_once_are_sent_once(key: str) -> None:
    tries = 0

    def away(request: httpx.Request) -> httpx.Response:
        nonlocal tries
        tries += 1
        raise httpx.ConnectError("away")

    async with Client("http://hub", key, retries=1, transport=httpx.MockTransport(away)) as client:
        with pytest.raises(FleetUnavailable):
            await client.submit(SPEC, inputs=Repeated(3))
        assert tries == 2
        with pytest.raises(FleetUnavailable):
            await client.submit(SPEC, inputs=iter([1]))
        assert tries == 3


PEAK = """
import asyncio, resource, sys, time
import httpx
from chimera.runtime.base import open_base
from chimera.serving.gateway import Hub, create_app
from chimera.settings import load

async def main(key, counts):
    base = await open_base(load())
    transport = httpx.ASGITransport(create_app(Hub(base)))
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-ndjson"}
    longest = 0.0

    async def beat():
        nonlocal longest
        last = time.thread_time()  # its own: others may have the processor meanwhile
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now

    async def body(count):
        yield b'{"goal": "g", "agent": "echo", "budget_usd": "1"}\\n'
        for start in range(0, count, 500):
            yield b"".join(b'{"n": %d, "text": "%s"}\\n' % (n, b"x" * 200) for n in range(start, start + 500))

    async with httpx.AsyncClient(transport=transport, base_url="http://hub", headers=headers) as http:
        for count in counts:
            task = asyncio.create_task(beat())
            longest = 0.0
            response = await http.post("/v1/missions", content=body(count), timeout=None)
            task.cancel()
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(response.status_code, response.json()["total_tasks"], peak, longest)
    await base.close()

asyncio.run(main(sys.argv[1], [5_000, 50_000]))
"""


async def test_ten_times_the_inputs_take_no_more_memory(base: Base, key: str) -> None:
    """And of 50,000 inputs, 11 MiB, no slice holds the event loop for long: a JSON document does, for all."""
    redis_url = base.settings.redis_url
    assert redis_url is not None
    environment = {
        "CHIMERA_REDIS_URL": redis_url.get_secret_value(),
        "CHIMERA_STATE_DIR": str(base.settings.state_dir),
    }
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", PEAK, key],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    few, many = (line.split() for line in done.stdout.splitlines() if line.startswith("201"))
    assert (few[1], many[1]) == ("5000", "50000")
    # Kibibytes at the peak: 11 MiB more inputs, and not 4 MiB more memory.
    assert int(many[2]) - int(few[2]) < 4_096, done.stdout
    assert float(many[3]) < 0.25, done.stdout
