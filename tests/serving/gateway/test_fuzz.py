"""Whatever is sent that the OpenAPI document allows, or nearly does: no route answers 500."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from chimera.core.scope import ALL, FLEET
from chimera.core.verdict import Decision
from chimera.runtime.base import Base
from chimera.serving.gateway.auth import FOR
from tests.keys import key_of
from tests.serving.gateway.conftest import Fleet, submitted

EXAMPLES = 8
"""Of each operation, kind of data and choice of ids."""
SEND_S = 20


@pytest.fixture
async def victim(base: Base, tenant: str) -> AsyncIterator[str]:
    """A tenant that may be changed and removed by whatever is sent."""
    await base.tenants.add(f"{tenant}-victim")
    yield f"{tenant}-victim"
    await base.tenants.remove(f"{tenant}-victim")


@pytest.mark.unmeasured
@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.timeout(300)
async def test_no_route_answers_500(
    app: FastAPI, http: httpx.AsyncClient, base: Base, tenant: str, victim: str, fleet: Fleet, mode: Any
) -> None:
    finished = await submitted(http)
    await fleet.do(finished)
    asks = await submitted(http, inputs=["c"])
    await fleet.do(asks, Decision.ESCALATE)
    open_key = (await base.api_keys.create(tenant, uuid.uuid4().hex, by="t")).record.key_id
    ids = {"mission_id": finished, "task_id": f"{asks}.0", "key_id": open_key, "name": victim}
    keys = {"tenant": await key_of(base, tenant, *ALL), "fleet": await key_of(base, FLEET, *ALL)}
    loop = asyncio.get_running_loop()
    failed: dict[str, str] = {}
    answers = Counter[int]()

    def needed(path: str) -> dict[str, str]:
        return {name: value for name, value in ids.items() if f"{{{name}}}" in path}

    async def send(case: Any, key: str) -> httpx.Response:
        asked = case.as_transport_kwargs(base_url="http://hub")
        headers = {name: value for name, value in asked.pop("headers", {}).items() if name.isascii()}
        headers["Authorization"] = f"Bearer {key}"
        body = {name: asked[name] for name in ("json", "data", "content") if asked.get(name) is not None}
        if "data" in body and not isinstance(body["data"], dict):
            body["content"] = body.pop("data")
        params = asked.get("params")
        if case.path == "/v1/events":  # a tenant's events would go on for ever
            params = {**(params or {}), "follow": "false"}
        async with asyncio.timeout(SEND_S):
            return await http.request(asked["method"], asked["url"], params=params, headers=headers, **body)

    def probe(operation: Any, key: str, real: bool) -> Callable[[], None]:
        @seed(1)
        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def run(case: Any) -> None:
            if real:
                case.path_parameters = {**(case.path_parameters or {}), **needed(operation.path)}
            # In time: should the loop be gone, this thread would wait for ever, and whoever joins it.
            response = asyncio.run_coroutine_threadsafe(send(case, key), loop).result(2 * SEND_S)
            if response.status_code >= 500:
                failed.setdefault(f"{case.method} {case.path}", f"{response.text} after {case!r}")
            answers[response.status_code] += 1

        run_all: Callable[[], None] = run
        return run_all

    schema = schemathesis.openapi.from_dict(app.openapi())
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # (the app's own document is no faulty one)
        of = operation.definition.raw.get(FOR, "tenant")
        for who in ("tenant", "fleet") if of == "both" else (of,):
            for real in (False, True) if "{" in operation.path else (False,):
                with suppress(Unsatisfiable):  # what takes nothing can be sent nothing wrong
                    await asyncio.to_thread(probe(operation, keys[who], real))
    assert failed == {}
    assert answers.total() >= 200
    assert answers[422] if mode is GenerationMode.NEGATIVE else answers[200]
