"""How often Redis is asked: what the driver sends, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio.connection import AbstractConnection


@contextmanager
def trips() -> Iterator[Callable[[], int]]:
    """Counts what all connections of this process send meanwhile: a pipeline is one."""
    sent = 0
    really = AbstractConnection.send_packed_command

    async def counted(self: AbstractConnection, *args: Any, **more: Any) -> None:
        nonlocal sent
        sent += 1
        await really(self, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AbstractConnection, "send_packed_command", counted)
        yield lambda: sent
