"""The replay against the real scripts: after any requests it yields every figure that the ledger has."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from chimera.core.audit import drifts
from chimera.core.replay import Replay
from chimera.runtime.base import Base, open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests.store import clock
from tests.store.test_ledger_model import _tenants, begun, steps_


async def compared(base: Base, tenant: str) -> int:
    """How many figures agree; all of them must."""
    stores = base.of(tenant)
    checked = 0
    async for cut in stores.cuts.take():
        # On the tests' clock a hold is corrected long after the store's own would have forgotten it.
        replay = Replay(keep=True)
        async for _, event in stores.recorder.read():
            if event.seq <= cut.seq:
                replay.take(event)
        assert replay.wrong == [], "no grant was over a limit, each hold ended once"
        # The tests' clock is the scripts' alone.
        found = drifts(replay, cut.model_copy(update={"at": replay.at or cut.at}))
        assert found.drifts == ()
        checked += found.checked
    return checked


async def play(url: str, state_dir: Path, steps: list[tuple[Any, ...]]) -> None:
    base = await open_base(load(redis_url=url, state_dir=state_dir))
    try:
        tenant = f"replay{next(_tenants)}"
        played = await begun(base, tenant)
        with clock.set_by_hand():
            for kind, *rest in (("new term",), *steps):
                await getattr(played, "do_" + kind.replace(" ", "_"))(*rest)  # without looking at each step
            assert await compared(base, tenant)
            await played.end()
            assert await compared(base, tenant)
    finally:
        await base.close()


@given(steps=steps_.map(lambda parts: [one for part in parts for one in part]))
@settings(max_examples=40, deadline=None)
def test_the_replay_is_the_ledger(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]
) -> None:
    asyncio.run(play(redis_server.url, tmp_path_factory.getbasetemp(), steps))
