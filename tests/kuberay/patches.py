"""JSON patches (RFC 6902) as an API server of Kubernetes takes them: pure, all operations or none."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any


class Unprocessable(ValueError):
    """The patch does not fit the document: an API server answers 422, and nothing is changed."""


def apply(document: Mapping[str, Any], operations: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The document with the operations done, in order; the given one stays as it is.

    A `replace` of a member that is missing sets it: so does a real API server, and Ray relies on it.

    Raises:
        Unprocessable: a path leads nowhere, a `test` fails, or the operation is another than add, replace,
            remove and test.
    """
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    for operation in operations:
        try:
            _apply(changed, operation)
        except (KeyError, IndexError, TypeError, ValueError) as exc:
            raise Unprocessable(f"{operation.get('op')} of {operation.get('path')}: {exc!r}") from exc
    return changed


def _apply(document: Any, operation: Mapping[str, Any]) -> None:
    *way, last = (
        part.replace("~1", "/").replace("~0", "~") for part in str(operation["path"]).split("/")[1:]
    )
    for part in way:
        document = document[int(part)] if isinstance(document, list) else document[part]
    if isinstance(document, list):
        _in_list(document, last, operation)
    else:
        _in_object(document, last, operation)


def _in_object(target: dict[str, Any], name: str, operation: Mapping[str, Any]) -> None:
    match operation["op"]:
        case "add" | "replace":
            target[name] = operation["value"]
        case "remove":
            del target[name]
        case "test":
            _see_that(target[name] == operation["value"], f"it is {target[name]!r}")
        case other:
            raise ValueError(f"no operation {other!r}")


def _in_list(target: list[Any], place: str, operation: Mapping[str, Any]) -> None:
    match operation["op"]:
        case "add":
            target.insert(len(target) if place == "-" else int(place), operation["value"])
        case "replace":
            target[int(place)] = operation["value"]
        case "remove":
            del target[int(place)]
        case "test":
            _see_that(target[int(place)] == operation["value"], f"it is {target[int(place)]!r}")
        case other:
            raise ValueError(f"no operation {other!r}")


def _see_that(true: bool, otherwise: str) -> None:
    if not true:
        raise ValueError(otherwise)
