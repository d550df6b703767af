"""How a view becomes a response: serialised once, by its own model."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query, Response
from pydantic import BaseModel

from chimera.errors import InvalidRequest

Limit = Annotated[int, Query(ge=1, le=100, description="Most items of the page.")]
After = Annotated[str, Query(max_length=64, description="`next` of the page before.")]
POSITION_DIGITS = 15
"""No list is as long as that; the store counts no further than 19."""
MAX_OPERATION = 255
Operation = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=MAX_OPERATION,
        description="The same key again changes nothing and gives the same answer.",
    ),
]


def answer(view: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A view as JSON."""
    return Response(view.model_dump_json(), status, headers, "application/json")


def position(after: str) -> int:
    """The position that a page's `next` stands for.

    Raises:
        InvalidRequest: it is none of ours.
    """
    if not after:
        return 0
    if not after.isdecimal() or len(after) > POSITION_DIGITS:
        raise InvalidRequest(f"after={after!r} is no position: take it from `next` of the page before")
    return int(after)
