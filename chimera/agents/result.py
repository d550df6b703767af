"""What an agent returned, as the JSON that is handed in: the same rules with a fleet and without."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic_core import PydanticSerializationError, to_json

from chimera.core.depth import MAX_DEPTH, too_deep
from chimera.errors import AgentCrashed


def as_json(agent: str, result: Any, most_bytes: int) -> str:
    """The result as JSON.

    Args:
        agent: whose result it is, for the error.
        most_bytes: CHIMERA_MAX_RESULT_BYTES.
    Raises:
        AgentCrashed: it is no JSON value, is nested deeper than `MAX_DEPTH`, or has more bytes than that.
    """
    try:
        text = to_json(result)
        if len(text) <= most_bytes:
            # It writes NaN, and numbers beyond a double: whoever read the record would fail over it for ever.
            value = orjson.loads(text)
            if too_deep(value, text):
                raise ValueError(f"it has more than {MAX_DEPTH} levels")
    except (PydanticSerializationError, ValueError) as exc:
        raise AgentCrashed(
            agent,
            f"nothing, but its result is no JSON value ({exc}): "
            "return text, numbers, lists, dicts or a pydantic model",
        ) from exc
    if len(text) > most_bytes:
        raise AgentCrashed(
            agent,
            f"nothing, but its result has {len(text):,} bytes, over the limit of {most_bytes:,}: "
            "return less, or raise CHIMERA_MAX_RESULT_BYTES",
        )
    return text.decode()
