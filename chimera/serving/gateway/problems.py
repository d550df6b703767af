"""Errors on the wire: one table from our exceptions to HTTP, written as RFC 9457 documents."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from chimera import errors
from chimera.core.mission import MissionSpec
from chimera.core.views import problem_fields, problem_kind, problem_member
from chimera.errors import ChimeraError, InvalidRequest

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_PROBLEMS = 50

STATUS: dict[type[ChimeraError], tuple[int, str]] = {
    errors.NotFound: (404, "Not found"),
    errors.Conflict: (409, "Conflict"),
    errors.InvalidTransition: (409, "Not possible in this state"),
    errors.LeaseLost: (409, "Lease lost"),
    errors.StaleVerdict: (409, "The mission moved on"),
    errors.AlreadyExists: (409, "Exists already"),
    errors.Rejected: (422, "Refused"),
    errors.InvalidRequest: (422, "Invalid request"),
    errors.RateLimited: (429, "Too many requests"),
    errors.BudgetExceeded: (402, "Budget exceeded"),
    errors.QueueFull: (503, "No room for more work now"),
    errors.QuotaReached: (429, "The quota is reached"),
    errors.PayloadTooLarge: (413, "Too large"),
    errors.RequestTimeout: (408, "Too slow"),
    errors.Unauthorized: (401, "A key is needed"),
    errors.Forbidden: (403, "Not allowed"),
    errors.StoreUnavailable: (503, "The store is away"),
    errors.BlobsUnavailable: (503, "The blob store is away or full"),
    errors.StoreTimeout: (503, "The store did not answer in time"),
    errors.CorruptRecord: (500, "A record cannot be read"),
    errors.StoreError: (500, "The store failed"),
    errors.FleetUnavailable: (503, "The fleet is away"),
    errors.HubBusy: (503, "Too many calls at once"),
    errors.AgentCrashed: (502, "An agent failed"),
    errors.ModelUnavailable: (502, "The model is away"),
    errors.AnswerUnusable: (502, "The model's answer cannot be used"),
    errors.BackendError: (502, "A part behind the API failed"),
    errors.ConfigurationError: (500, "Wrong configuration"),
    errors.ChimeraError: (500, "Failed"),
}
"""Every error: its HTTP status and title. A subclass that is not here counts as its nearest ancestor."""

RETRY_AFTER_S = 2.0
"""For a 503 whose error does not say when to come back."""


def install(app: FastAPI) -> None:
    """Let every error of the app leave as a problem document."""

    @app.exception_handler(ChimeraError)
    async def ours(request: Request, exc: ChimeraError) -> Response:
        response = of_error(exc, request_id(request.scope))
        if response.status_code >= 500:
            log.warning("http.failed", path=request.url.path, status=response.status_code, error=str(exc))
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, exc: RequestValidationError) -> Response:
        names = tuple(MissionSpec.model_fields) if request.url.path == "/v1/missions" else ()
        return of_error(invalid_request(exc.errors(), exc.body, names), request_id(request.scope))

    @app.exception_handler(HTTPException)
    async def plain(request: Request, exc: HTTPException) -> Response:
        detail = {
            404: f"there is no path {request.url.path}: /docs lists them all",
            405: f"{request.method} is not possible on {request.url.path}: /docs lists what is",
        }.get(exc.status_code, str(exc.detail))
        kind = {404: "no-such-path", 405: "no-such-method"}.get(exc.status_code, "http")
        return document(
            kind, exc.status_code, str(exc.detail), detail, {}, request_id(request.scope), exc.headers
        )


def of_error(error: ChimeraError, request: str) -> Response:
    """The problem document of one of our errors, with the fields it is made from."""
    known = nearest(error)
    status, title = STATUS[known]
    names = problem_fields(known)
    fields = {problem_member(name): getattr(error, name) for name in names}
    headers = {}
    if status in {429, 503}:
        seconds = getattr(error, "retry_after_s", 0.0) or RETRY_AFTER_S
        headers["Retry-After"] = str(math.ceil(seconds))
    if status == 408:
        headers["Connection"] = "close"  # what may still come of it is not waited for
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    detail = error.summary if isinstance(error, InvalidRequest) else str(error)
    return document(problem_kind(known), status, title, detail, fields, request, headers)


def nearest(error: ChimeraError) -> type[ChimeraError]:
    """The class of an error, or its nearest ancestor, that has a status."""
    return next(cls for cls in type(error).__mro__ if cls in STATUS)


def internal(request: str) -> Response:
    """For what we did not expect: says nothing of the inside, and where to look."""
    detail = f"an error in Chimera itself; its log has the cause under request_id {request}"
    return document("internal", 500, "Internal error", detail, {}, request)


def document(
    kind: str,
    status: int,
    title: str,
    detail: str,
    fields: Mapping[str, Any],
    request: str,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem document. `fields` stand beside the standard's members, and never over them."""
    body = {
        **fields,
        "type": f"urn:chimera:problem:{kind}",
        "title": title,
        "status": status,
        "detail": detail,
        "request_id": request,
    }
    return Response(orjson.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def request_id(scope: Mapping[str, Any]) -> str:
    """The id the envelope gave this request."""
    return str(scope.get("state", {}).get("request_id", ""))


def invalid_request(
    found: Sequence[Mapping[str, Any]], body: Any, names: Sequence[str] = ()
) -> InvalidRequest:
    """pydantic's findings as lines of ``place: what is wrong``; `names` are fields to suggest."""
    found = [one for one in found if not _follows(one, found)]
    lines = tuple(_line(one, body, names) for one in found[:MAX_PROBLEMS])
    if len(found) > MAX_PROBLEMS:
        lines = (*lines, f"and {len(found) - MAX_PROBLEMS:,} more")
    many = f"{len(found):,} things are wrong" if len(found) > 1 else "one thing is wrong"
    return InvalidRequest(f"the request cannot be taken: {many}; nothing was changed", lines)


def _follows(one: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """A list that is too short only because pydantic left its wrong items out."""
    loc = one["loc"]
    return one["type"] == "too_short" and any(
        other["loc"][: len(loc)] == loc and other is not one for other in found
    )


def place(loc: Sequence[int | str], body: Any) -> str:
    """``("plan", "dag", "nodes", 2)`` → ``plan.nodes[2]``: pydantic's union tags are left out."""
    text = ""
    for index, part in enumerate(loc):
        if isinstance(part, int):
            text += f"[{part}]"
            body = body[part] if isinstance(body, list) and part < len(body) else None
            continue
        last = index == len(loc) - 1
        if isinstance(body, dict) and part not in body and not last and part in body.values():
            continue
        text += f".{part}" if text else part
        body = body.get(part) if isinstance(body, dict) else None
    return text


def _line(one: Mapping[str, Any], body: Any, names: Sequence[str]) -> str:
    source, *loc = one["loc"]
    if one["type"] == "json_invalid":
        return (
            f"body: no JSON, {one['ctx']['error']} at character {loc[0]}; `chimera mission submit` reads YAML"
        )
    if not loc and source == "body" and one["type"] == "missing":
        return "body: a JSON object is needed, with Content-Type: application/json"
    where = place(loc, body) if source == "body" else f"{source} parameter {'.'.join(map(str, loc))}"
    return f"{where or 'body'}: {_sentence(one, loc, names)}"


def _sentence(one: Mapping[str, Any], loc: Sequence[int | str], names: Sequence[str]) -> str:
    context = one.get("ctx", {})
    match one["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            near = difflib.get_close_matches(str(loc[-1]), names, n=1)
            hint = f"; did you mean {near[0]}?" if near and len(loc) == 1 else ""
            return f"there is no such field{hint}"
        case "literal_error" | "enum":
            return f"must be one of {context['expected']}"
        case "union_tag_invalid":
            return f"must have {context['discriminator']} one of {context['expected_tags']}"
    message = str(one["msg"]).removeprefix("Value error, ").replace("valid tuple", "valid list")
    given = one.get("input")
    shown = (
        f" (it is {given!r})"
        if isinstance(given, int | float) or (isinstance(given, str) and len(given) <= 80)
        else ""
    )
    return message + shown
