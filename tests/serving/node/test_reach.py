"""Containers start in any order: whoever waits says for what, and hears of its own end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket

import pytest

from chimera.errors import BackendError
from chimera.serving.local.ports import LOOPBACK, free_port
from chimera.serving.node import reach
from chimera.serving.node.reach import Patience, reason, seen_from, until_asked


async def test_a_reason_is_said_when_it_is_new_and_again_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reach, "RETRY_S", 0)
    said: list[str] = []
    waiting = Patience(said.append)
    for why in ("away", "away", "full", "full", "away"):
        await waiting.wait(why)
    assert said == ["away", "full", "away"]
    monkeypatch.setattr(reach, "SAY_S", -1)
    await waiting.wait("away")
    assert said == ["away", "full", "away", "away"]


async def test_the_own_address_is_that_from_which_the_other_is_reached() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        assert await seen_from(LOOPBACK, server.getsockname()[1]) == LOOPBACK


async def test_why_nobody_is_reached_is_said_in_a_few_words() -> None:
    with pytest.raises(ConnectionRefusedError) as refused:
        await seen_from(LOOPBACK, free_port())
    assert reason(refused.value) == "Connection refused"
    with pytest.raises(socket.gaierror) as unknown:
        await seen_from("no-such-host.invalid", 1)
    assert reason(unknown.value)
    assert "Errno" not in reason(unknown.value)
    assert reason(TimeoutError()) == "no answer"


async def test_sigterm_ends_what_runs_and_lets_it_clean_up() -> None:
    ended: list[str] = []

    async def living() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    try:
        await until_asked(living())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
    assert ended == ["cleaned up"]


async def test_what_fails_by_itself_fails_as_it_is() -> None:
    async def living() -> None:
        raise BackendError("Ray has ended")

    try:
        with pytest.raises(BackendError, match="Ray has ended"):
            await until_asked(living())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)
