"""Prompt templates: names in braces, and nothing else.

A template may name ``{goal}``, ``{input}``, ``{inputs}``, ``{feedback}``, ``{data}``, or a field
of one of these: ``{input.path}``, ``{data.audience}``. A brace is written ``{{`` or ``}}``. There is
no attribute access, no index, no format specification and no expression: a value is looked up in
dicts only, so a template can reach nothing but the task's own data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from chimera.core.task import TaskContext

ROOTS = ("goal", "input", "inputs", "feedback", "data")
WITH_FIELDS = ("input", "inputs", "data")
TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
NAME = re.compile(r"[a-z]+(\.[A-Za-z0-9_-]+)*")


def problems(template: str) -> tuple[str, ...]:
    """What is wrong with a template, one sentence each; empty when nothing is."""
    found = []
    for match in TOKEN.finditer(template):
        if match[0] in {"{{", "}}"}:
            continue
        if match[1] is None:
            found.append(f"a single {match[0]!r} at character {match.start() + 1}: write it twice")
        elif not NAME.fullmatch(match[1]) or not _known(match[1]):
            known = ", ".join(f"{{{root}}}" for root in ROOTS)
            found.append(f"{match[0]} is no placeholder: there are {known}, {{input.field}} and {{data.key}}")
    return tuple(found)


def render(template: str, context: TaskContext) -> str:
    """Fill a template in.

    A string stands as it is, what is missing or empty as nothing, anything else as JSON. What was filled in
    is not looked at again: braces in an input stay braces.

    Raises:
        ValueError: the template has `problems`.
    """
    if wrong := problems(template):
        raise ValueError("; ".join(wrong))

    def fill(match: re.Match[str]) -> str:
        return match[0][0] if match[1] is None else shown(value_at(context, match[1]))

    return TOKEN.sub(fill, template)


def value_at(context: TaskContext, path: str) -> Any:
    """What a dotted path names in a task's context, or None."""
    root, *fields = path.split(".")
    value: Any = {name: getattr(context, name) for name in ROOTS}.get(root)
    for name in fields:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def shown(value: Any) -> str:
    """A value as it stands in a prompt."""
    if value is None or value in ({}, ()):
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "\n".join(shown(item) for item in value)
    return json.dumps(value, ensure_ascii=False, default=str)


def _known(name: str) -> bool:
    root, dot, _ = name.partition(".")
    return root in (WITH_FIELDS if dot else ROOTS)
