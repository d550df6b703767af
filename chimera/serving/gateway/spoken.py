"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "code", "param"}}``, and more.

Each is a problem document besides, as every error of the API is. OpenAI's libraries raise a type of their own
by the status, and try again after 408, 409, 429 and 5xx unless `x-should-retry` says no. So it is said.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import Response

from chimera import errors
from chimera.agents.models.chat import ChatRefused
from chimera.agents.models.endpoint import CallFailed
from chimera.agents.models.relay import Refused
from chimera.core.views import problem_fields, problem_kind, problem_member
from chimera.errors import BudgetExceeded, ChimeraError, InvalidRequest, RefusalKind
from chimera.serving.gateway.problems import RETRY_AFTER_S, STATUS, document, nearest

PATIENCE_S = 60.0
"""Nobody waits longer within a call: after a refusal that lasts longer it is not tried again."""
INVALID, LIMITED, MONEY, SERVER = (
    "invalid_request_error",
    "rate_limit_error",
    "insufficient_quota",
    "server_error",
)

CODES: dict[type[ChimeraError], tuple[int, str, str]] = {
    errors.InvalidRequest: (400, INVALID, "invalid_request"),
    errors.Unauthorized: (401, INVALID, "invalid_api_key"),
    errors.Forbidden: (403, INVALID, "permission_denied"),
    errors.NotFound: (404, INVALID, "not_found"),
    errors.RequestTimeout: (408, INVALID, "request_timeout"),
    errors.LeaseLost: (409, INVALID, "lease_lost"),
    errors.Conflict: (409, INVALID, "conflict"),
    errors.PayloadTooLarge: (413, INVALID, "payload_too_large"),
    errors.RateLimited: (429, LIMITED, "rate_limit_exceeded"),
    errors.ModelUnavailable: (502, SERVER, "upstream_unavailable"),
    errors.ConfigurationError: (500, SERVER, "configuration"),
    errors.CorruptRecord: (500, SERVER, "corrupt_record"),
    errors.HubBusy: (503, SERVER, "busy"),
    errors.StoreError: (503, SERVER, "unavailable"),
}
"""What is not here has the status of its problem document."""
FOR_GOOD = (errors.Conflict, errors.ModelUnavailable, errors.ConfigurationError)
"""The same again would be refused again."""
CLIENTS_OWN = frozenset({400, 404, 413, 422})
"""Statuses of the endpoint that its caller's request is to blame for."""


@dataclass(frozen=True, slots=True)
class Spoken:
    """An error for an OpenAI client.

    Attributes:
        retry: whether the same call may succeed soon.
        retry_after_s: then after this; None: the client's own pause.
        more: further members of the error.
    """

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    retry: bool = False
    retry_after_s: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    said: ChimeraError | None = None
    """What the problem document says besides; None: a failure of the endpoint."""

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        error = {**self.more, "message": self.message, "type": self.type, "code": self.code}
        return {"error": {**error, "param": self.param}}

    def response(self, request: str) -> Response:
        """As an answer to a request of that id."""
        headers = {"x-should-retry": "true" if self.retry else "false"}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(math.ceil(self.retry_after_s))
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.status == 408:
            headers["Connection"] = "close"
        known = nearest(self.said or errors.ModelUnavailable())
        names = () if self.said is None else problem_fields(known)
        own = {problem_member(name): getattr(self.said, name) for name in names}
        fields, title = {**own, **self.body}, STATUS[known][1]
        return document(problem_kind(known), self.status, title, self.message, fields, request, headers)


def spoken(error: ChimeraError | CallFailed | ChatRefused) -> Spoken:
    """One of our errors."""
    if isinstance(error, ChatRefused):
        status = 404 if error.code == "model_not_found" else 400
        said = errors.NotFound() if status == 404 else InvalidRequest(error.message)
        return Spoken(status, str(error), INVALID, error.code, error.param or None, said=said)
    if isinstance(error, Refused):
        return _said(error)
    if isinstance(error, CallFailed):
        timed_out = isinstance(error.__cause__, TimeoutError)
        status, code = (504, "upstream_timeout") if timed_out else (502, "upstream_failed")
        return Spoken(status, f"the model's endpoint: {error}", SERVER, code, retry=error.retryable)
    if isinstance(error, BudgetExceeded):
        return _over_budget(error)
    known = next((cls for cls in type(error).__mro__ if cls in CODES), None)
    if known is None:
        status = STATUS[nearest(error)][0]
        return Spoken(status, str(error), SERVER if status >= 500 else INVALID, "failed", said=error)
    status, kind, code = CODES[known]
    retry = status in {408, 429, 503} and not isinstance(error, FOR_GOOD)
    after = getattr(error, "retry_after_s", 0.0) or RETRY_AFTER_S if retry else None
    return Spoken(status, str(error), kind, code, retry=retry, retry_after_s=after, said=error)


def _over_budget(error: BudgetExceeded) -> Spoken:
    """402 where it can never fit: a client would try a 429 again. Else 429, after the reset."""
    hopeless = error.kind is RefusalKind.EXHAUSTED
    after = error.retry_after_s or RETRY_AFTER_S
    figures = ("limit", "settled", "held", "left", "amount", "fits")
    more = {"level": error.level, **{f"{one}_microusd": getattr(error, f"{one}_microusd") for one in figures}}
    more["kind"] = error.kind.value
    more["resets_in_s"] = error.retry_after_s if error.kind is RefusalKind.WINDOW else None
    return Spoken(
        402 if hopeless else 429,
        str(error),
        MONEY,
        "budget_exceeded" if hopeless else f"budget_{error.kind.value}",
        retry=not hopeless and after <= PATIENCE_S,
        retry_after_s=None if hopeless else after,
        more=more,
        said=error,
    )


def _said(error: Refused) -> Spoken:
    """What the endpoint answered: as it is where its caller is to blame, else as a failure behind us."""
    said = error.said or {}
    if error.status in CLIENTS_OWN:
        return Spoken(
            error.status,
            str(said.get("message") or error)[:2_000],
            str(said.get("type") or INVALID),
            str(said.get("code") or "upstream_refused"),
            None if said.get("param") is None else str(said["param"])[:200],
        )
    if error.status == 429:
        return Spoken(
            429,
            f"the model's endpoint: {error}",
            LIMITED,
            "upstream_rate_limited",
            retry=error.retryable,
            retry_after_s=error.retry_after_s,
        )
    status, code = (504, "upstream_timeout") if error.status in {408, 504} else (502, "upstream_failed")
    # What it says of our key, or of our account with it, is not the client's to read.
    message = "it refused this gateway's own key" if error.status in {401, 402, 403} else str(error)
    return Spoken(status, f"the model's endpoint: {message}", SERVER, code, retry=error.retryable)
