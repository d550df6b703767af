"""How often Redis is asked: what the driver sends, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from chimera.runtime.base import Base


@contextmanager
def trips(base: Base) -> Iterator[Callable[[], int]]:
    """Counts what the base's connections send meanwhile: a pipeline is one."""
    sent = 0
    connection = base.redis.connection_pool.connection_class
    really = connection.send_packed_command

    async def counted(self: Any, *args: Any, **more: Any) -> None:
        nonlocal sent
        sent += 1
        await really(self, *args, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connection, "send_packed_command", counted)
        yield lambda: sent
