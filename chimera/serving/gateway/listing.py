"""Lists in which one record may be damaged: it is named, in the answer and the log, beside the others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from pydantic import ValidationError

from chimera.core.views import Damaged, View
from chimera.errors import CorruptRecord, NotFound
from chimera.serving.gateway.auth import Caller
from chimera.store.damage import apart
from chimera.store.tasks import mission_of

V = TypeVar("V", bound=View)


async def listed(
    caller: Caller, ids: Sequence[str], read: Callable[[Sequence[str]], Awaitable[Mapping[str, V]]]
) -> tuple[tuple[V, ...], tuple[Damaged, ...]]:
    """The views of missions or tasks, in the order asked, and which of them cannot be read.

    Args:
        read: gives the views of those that are there, by id.
    """

    async def legible(some: Sequence[str]) -> Mapping[str, V]:
        try:
            return await read(some)
        except NotFound as exc:
            raise CorruptRecord(f"it is listed, but {exc}") from exc
        except ValidationError as exc:
            raise CorruptRecord(f"it cannot be shown: {exc}") from exc

    views, damaged = await apart(ids, legible)
    for identity, exc in damaged.items():
        mission_id = mission_of(identity)
        task_id = identity if identity != mission_id else ""
        caller.hub.bulkhead.name(exc, caller.tenant, mission_id, task_id)
    return tuple(views.values()), tuple(Damaged(id=one, detail=str(exc)) for one, exc in damaged.items())
