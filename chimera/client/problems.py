"""Problem documents (RFC 9457) turned back into the errors that they were made from."""

from __future__ import annotations

from typing import Any

from chimera import errors
from chimera.core.views import Problem, problem_fields, problem_kind, problem_member
from chimera.errors import (
    BackendError,
    ChimeraError,
    Conflict,
    Forbidden,
    NotFound,
    RefusalKind,
    Rejected,
    StoreUnavailable,
    Unauthorized,
)


def error_of(problem: Problem) -> ChimeraError:
    """The error a problem document was made from, its fields rebuilt."""
    known = _KINDS.get(problem.kind)
    if known is None:
        # A newer hub's kind: the status says which family it belongs to.
        family = _FAMILIES.get(problem.status, BackendError if problem.status >= 500 else Rejected)
        return family(problem.detail or problem.title)
    names = problem_fields(known)
    sent = problem.model_dump()
    if not names:
        return known(problem.detail or problem.title)
    if any(problem_member(name) not in sent for name in names):
        return _bare(known)(problem.detail or problem.title)
    return known(*(_field(name, sent[problem_member(name)]) for name in names))


def _bare(known: type[ChimeraError]) -> type[ChimeraError]:
    """The nearest ancestor that is one sentence: for a document that lost the error's fields."""
    return next(cls for cls in known.__mro__ if issubclass(cls, ChimeraError) and not problem_fields(cls))


def _field(name: str, value: Any) -> Any:
    if name == "kind":
        return RefusalKind(value)
    return tuple(value) if isinstance(value, list) else value


_KINDS: dict[str, type[ChimeraError]] = {
    problem_kind(error): error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, ChimeraError)
}
_FAMILIES: dict[int, type[ChimeraError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    503: StoreUnavailable,
}
