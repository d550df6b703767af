"""An endpoint: one model somewhere, asked once. The seam the client is written against.

`providers` fills it in through the model library, which takes seconds to import: this file does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from chimera.agents.models.prices import Tokens

NEXT_STEP = "check CHIMERA_MODEL and CHIMERA_MODEL_URL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request to a model.

    Attributes:
        schema: a JSON Schema of type object that the answer must fit, or None for text.
        max_tokens: always sent: the answer can never cost more than was reserved.
        idempotency_key: sent as `Idempotency-Key`; the same for every try of one call, in any run.
        traceparent: sent under that name, unless "": the span that the call is made within.
    """

    prompt: str
    system: str | None
    schema: Mapping[str, Any] | None
    max_tokens: int
    temperature: float | None
    seed: int | None
    timeout_s: float
    idempotency_key: str
    traceparent: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back."""

    text: str
    tokens: Tokens
    request_id: str
    truncated: bool
    """The model was cut off at `max_tokens`."""


class CallFailed(Exception):
    """One try failed.

    Args:
        reason: for people.
        sent: the endpoint may have done (and charged) the work.
        retryable: the same call may succeed later.
        retry_after_s: what the endpoint asked for, or None.
    """

    def __init__(self, reason: str, sent: bool, retryable: bool, retry_after_s: float | None = None) -> None:
        super().__init__(reason, sent, retryable, retry_after_s)
        self.reason, self.sent, self.retryable, self.retry_after_s = reason, sent, retryable, retry_after_s

    def __str__(self) -> str:
        return self.reason


class Endpoint(Protocol):
    """Where calls go: the seam the client is written against."""

    name: str
    """The model's name without its provider."""
    provider: str
    """The provider, or "" at an endpoint of one's own."""
    url: str

    async def ask(self, ask: Ask) -> Reply:
        """One try.

        Raises:
            CallFailed: see there.
        """
        ...

    async def close(self) -> None:
        """Give the connections back; again is no error."""
        ...
