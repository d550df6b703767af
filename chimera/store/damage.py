"""Reading many records of which one may be damaged: the others are read, and the damage is named."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from chimera.errors import CorruptRecord

T = TypeVar("T")


async def apart(
    ids: Sequence[str], read: Callable[[Sequence[str]], Awaitable[Mapping[str, T]]]
) -> tuple[dict[str, T], dict[str, CorruptRecord]]:
    """What can be read of these, in the order asked, and of each that cannot the error.

    All are read together, as if nothing were wrong; where that fails, half of them at a time, so that a few
    damaged ones cost a few calls more.

    Args:
        read: gives those that are there, by id.
    Raises:
        ChimeraError: whatever `read` raises that is no `CorruptRecord`.
    """
    if not ids:
        return {}, {}
    try:
        return dict(await read(ids)), {}
    except CorruptRecord as exc:
        if len(ids) == 1:
            return {}, {ids[0]: exc}
    middle = len(ids) // 2
    found, damaged = await apart(ids[:middle], read)
    more, worse = await apart(ids[middle:], read)
    return found | more, damaged | worse
