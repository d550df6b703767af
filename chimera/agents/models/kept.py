"""Replies kept for re-runs: how a call is named within its work, and a reply as text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from chimera.agents.models.endpoint import Reply
from chimera.agents.models.prices import Tokens
from chimera.agents.records import as_text

UNUSABLE = ""
"""Kept in place of a reply that could not be used: a re-run asks anew."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A reply that an earlier run paid for, and the model that gave it."""

    model: str
    reply: Reply

    def text(self) -> str:
        """As it is stored."""
        return as_text(self)


def load(text: str) -> Kept:
    """What `Kept.text` wrote."""
    stored = json.loads(text)
    reply = stored["reply"]
    return Kept(stored["model"], Reply(**reply | {"tokens": Tokens(**reply["tokens"])}))


_canonical = json.JSONEncoder(sort_keys=True, default=str).encode
"""Other text of the same parts would be another name: calls under way at an upgrade would be paid again."""


def request_name(request: Sequence[Any]) -> str:
    """Names a request by all that the answer depends on; equal for equal requests.

    Args:
        request: model, prompt, system, schema, max_tokens, temperature, seed.
    """
    return digest(request)


def call_id(work: str, name: str, ordinal: int) -> str:
    """Names one call for ever: the same for each try of it, and for its re-run after a crash.

    Args:
        work: see `ModelClient.idempotency_key`.
        name: the agent's own key, or `request_name`.
        ordinal: 1 for the first call of that name in an attempt.
    """
    return digest([work, name, ordinal])


def digest(parts: Sequence[Any]) -> str:
    """128 bits, as hex."""
    return sha256(_canonical(parts).encode()).hexdigest()[:32]
