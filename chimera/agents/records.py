"""Records as JSON: what is kept or written down of a call."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import orjson


def as_text(record: Any) -> str:
    """A dataclass, or a dict, as JSON, its parts too."""
    try:
        return orjson.dumps(record).decode()
    except orjson.JSONEncodeError:
        # Half of a surrogate pair, or a number of more than 64 bits: an endpoint may send either.
        return json.dumps(record if isinstance(record, dict) else asdict(record))
