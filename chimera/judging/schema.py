"""The `schema` policy: the result fits a JSON Schema 2020-12.

Confidence: 1.0 when it fits, 0.0 when it does not; feedback names the first places that do not.

A tenant's schema runs in the shared hub, so everything it can ask for is bounded: size and depth
(`chimera.core.judge`), no reference outside itself, patterns on RE2, `uniqueItems` by hash, and a
budget of steps that a recursive or doubling schema runs out of. Running out is `JudgeFailed`.
Formats are asserted; one that is not known here is refused at submit rather than ignored.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import date, datetime, time
from itertools import islice
from time import monotonic
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from jsonschema import Draft202012Validator, FormatChecker, SchemaError, ValidationError
from jsonschema.validators import extend
from referencing import Registry
from referencing.exceptions import Unresolvable

from chimera.core.judge import SchemaPolicy
from chimera.core.verdict import Opinion
from chimera.judging.patterns import compiled, found
from chimera.judging.policy import TIME_LIMIT_S, JudgeFailed, Submission

MAX_STEPS = 500_000
MAX_ERRORS = 5
MAX_SHOWN = 200

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


class _Spent(Exception):
    """The budget of steps, or the time, ran out."""


class _Steps:
    def __init__(self, left: int) -> None:
        self.left = left
        self.until = monotonic() + TIME_LIMIT_S

    def take(self, count: int) -> None:
        self.left -= count
        # Not every step is as long: one pattern may take a second on a long text.
        if self.left < 0 or monotonic() > self.until:
            raise _Spent


_steps: ContextVar[_Steps] = ContextVar("steps")


def _size(value: Any) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _counted(keyword: Keyword) -> Keyword:
    """A keyword that pays for what it looks at before it looks."""

    def run(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        _steps.get().take(1 + _size(instance) // 64 + _size(value) // 16)
        yield from keyword(validator, value, instance, schema) or ()

    return run


def _pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not found(pattern, instance):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(
    validator: Any, patterns: dict[str, Any], instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, subschema in patterns.items():
        _steps.get().take(len(instance))
        for name, value in instance.items():
            if found(pattern, name):
                yield from validator.descend(value, subschema, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, allowed: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    patterns = schema.get("patternProperties", {})
    _steps.get().take(len(instance) * (1 + len(patterns)))
    for name, value in instance.items():
        if name in schema.get("properties", {}) or any(found(pattern, name) for pattern in patterns):
            continue
        if allowed is False:
            yield ValidationError(f"{name!r} is not expected here")
        else:
            yield from validator.descend(value, allowed, path=name)


def _unique_items(validator: Any, unique: bool, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if unique and validator.is_type(instance, "array"):
        seen = {json.dumps(_canonical(item), sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("the items are not all different")


def _canonical(value: Any) -> Any:
    """JSON Schema's equality as identity: 1 and 1.0 are one number, True and 1 are not."""
    if isinstance(value, dict):
        return {name: _canonical(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_canonical(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


_extend: Any = extend  # untyped in its stubs
_Validator: Any = _extend(
    Draft202012Validator,
    {
        name: _counted(keyword)
        for name, keyword in {
            **Draft202012Validator.VALIDATORS,
            "pattern": _pattern,
            "patternProperties": _pattern_properties,
            "additionalProperties": _additional_properties,
            "uniqueItems": _unique_items,
        }.items()
    },
)

_formats = FormatChecker(formats=())


def _format(name: str, check: Callable[[str], object]) -> None:
    """Register a format: `check` raises ValueError, or returns False, for what does not fit."""

    def fits(value: object) -> bool:
        return not isinstance(value, str) or check(value) is not False

    _formats.checkers[name] = (fits, ValueError)


_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,9})?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)"
_HOST = r"(?i)^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$"


def _date(value: str) -> bool:
    date.fromisoformat(value)
    return found(r"^\d{4}-\d\d-\d\d$", value)


def _date_time(value: str) -> bool:
    datetime.fromisoformat(value[:19])
    return found(rf"^\d{{4}}-\d\d-\d\d[Tt ]{_TIME}$", value)


def _time(value: str) -> bool:
    time.fromisoformat(value[:8])
    return found(rf"^{_TIME}$", value)


def _uri(value: str) -> bool:
    return bool(urlsplit(value).scheme) and not found(r"[\s<>\"{}|\\^`]", value)


_format("date", _date)
_format("date-time", _date_time)
_format("time", _time)
_format("email", lambda value: found(r"^[^@\s]+@[^@\s]+$", value))
_format("hostname", lambda value: len(value) <= 253 and found(_HOST, value))
_format("ipv4", ipaddress.IPv4Address)
_format("ipv6", ipaddress.IPv6Address)
_format("uri", _uri)
_format("uuid", lambda value: len(value) == 36 and UUID(value) is not None)
_format("regex", compiled)


class SchemaJudge:
    """Holds one schema, checked and ready. Safe to use from many threads."""

    def __init__(self, spec: SchemaPolicy, *, max_steps: int = MAX_STEPS) -> None:
        """Raises ValueError, with the place, for a schema that cannot be run."""
        check_schema(spec.json_schema)
        self.max_steps = max_steps
        self._validator = _Validator(spec.json_schema, registry=Registry(), format_checker=_formats)

    def judge(self, submission: Submission, max_steps: int | None = None) -> Opinion:
        """Within `max_steps`, its own bound by default; `JudgeFailed` when it takes more."""
        token = _steps.set(_Steps(self.max_steps if max_steps is None else max_steps))
        try:
            errors = list(islice(self._validator.iter_errors(submission.result), MAX_ERRORS))
        except _Spent:
            raise JudgeFailed(
                "schema", f"the schema takes over {self.max_steps:,} steps, or {TIME_LIMIT_S:g} s, on it"
            ) from None
        except RecursionError:
            raise JudgeFailed("schema", "the schema refers to itself without end") from None
        except Unresolvable as exc:
            raise JudgeFailed("schema", f"a $ref leads nowhere: {exc}") from exc
        finally:
            _steps.reset(token)
        if not errors:
            return Opinion(policy="schema", confidence=1.0)
        said = [f"{error.json_path}: {_short(error.message)}" for error in errors]
        return Opinion(
            policy="schema",
            confidence=0.0,
            feedback="the result does not fit its schema: " + "; ".join(said),
            details={"errors": said},
        )


def check_schema(schema: dict[str, Any] | bool) -> None:
    """Refuse what is no JSON Schema 2020-12, or asks for what is not run here.

    Raises:
        ValueError: the message names the place.
    """
    try:
        Draft202012Validator.check_schema(schema, format_checker=FormatChecker(formats=()))
    except SchemaError as exc:
        raise ValueError(f"{exc.json_path}: {_short(exc.message)}") from exc
    keywords: set[str] = set()
    _check_keywords(schema, "$", keywords)
    if {"unevaluatedProperties", "patternProperties"} <= keywords:
        raise ValueError("unevaluatedProperties and patternProperties are not supported together")


# Where a schema holds schemas: by name, in a list, or directly.
_BY_NAME = ("properties", "patternProperties", "$defs", "dependentSchemas")
_IN_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_DIRECT = (
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "unevaluatedItems",
    "contains",
    "not",
    "if",
    "then",
    "else",
)


def _check_keywords(schema: Any, place: str, keywords: set[str]) -> None:
    if not isinstance(schema, dict):
        return
    keywords.update(schema)
    known = sorted(_formats.checkers)
    if (name := schema.get("format")) is not None and name not in known:
        raise ValueError(f"{place}.format: {name!r} is not known here; known: {', '.join(known)}")
    for pattern in (*filter(None, [schema.get("pattern")]), *schema.get("patternProperties", {})):
        try:
            compiled(pattern)
        except ValueError as exc:
            raise ValueError(f"{place}: {exc}") from exc
    for key in _BY_NAME:
        for name, inner in schema.get(key, {}).items():
            _check_keywords(inner, f"{place}.{key}.{name}", keywords)
    for key in _IN_LIST:
        for at, inner in enumerate(schema.get(key, [])):
            _check_keywords(inner, f"{place}.{key}[{at}]", keywords)
    for key in _DIRECT:
        _check_keywords(schema.get(key), f"{place}.{key}", keywords)


def _short(text: str) -> str:
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
