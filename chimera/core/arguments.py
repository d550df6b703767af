"""How events become the arguments of a tool on an MCP server: a template in JSON. Pure.

Any text in it may hold placeholders: ``{kind}``, ``{details.confidence}``. A text that is nothing but one
keeps the value's type; else it is put into the text. ``{{`` and ``}}`` stand for braces. A member whose
placeholder has no value in an event is left out.

A list that takes an item for each event is written ``{"$each": ITEM}``; such a template sends many events
in a call, any other one event a call::

    {"score": {"name": "{kind}", "session": "{mission_id}", "about": "{event}"}}
    {"tenant": "{tenant}", "scores": {"$each": {"id": "{id}", "name": "{kind}"}}}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chimera.core.event import KINDS, Event

EACH = "$each"
FIELDS = (
    *("id", "v", "tenant", "epoch", "seq", "at", "kind", "meaning", "by"),
    *("mission_id", "task_id", "details", "event"),
)
"""What stands for itself: `meaning` is the kind's in words, `event` the whole."""
OF_CALL = ("tenant", "count")
"""What may stand outside of `$each` where a call carries many events."""
MAX_DEPTH = 20
_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_ABSENT = object()


def event_id(tenant: str, event: Event) -> str:
    """The id that names an event for ever, however often it is delivered: ``TENANT/EPOCH/SEQ``."""
    return f"{tenant}/{event.epoch}/{event.seq}"


@dataclass(frozen=True)
class Arguments:
    """A template that was read.

    Attributes:
        batched: a call carries many events.
    """

    template: Mapping[str, Any]
    batched: bool

    @classmethod
    def parse(cls, text: str) -> Arguments:
        """From JSON. ValueError says what is wrong with it."""
        try:
            template = json.loads(text)
        except (ValueError, RecursionError) as exc:
            raise ValueError(f"it is no JSON ({exc}): write an object, as docs/mcp.md shows") from exc
        if not isinstance(template, dict) or EACH in template:
            raise ValueError("write a JSON object whose members are the tool's arguments")
        inside, outside = set[str](), set[str]()
        for name, each in _names(template, each=False):
            (inside if each else outside).add(name)
        batched = _has_each(template)
        if batched and (wrong := sorted(outside - set(OF_CALL))):
            raise ValueError(
                f"{{{wrong[0]}}} is of one event, and the call carries many: put it into {EACH}, or use "
                "{tenant} and {count}"
            )
        if not batched and "count" in outside:
            raise ValueError(f"{{count}} is of a call with many events: there is no {EACH}")
        if not {"id", "event"} & (inside if batched else outside):
            raise ValueError(
                "put {id} or {event} somewhere: by its id the server knows an event that comes again"
            )
        return cls(template, batched)

    def of(self, tenant: str, events: Sequence[Event]) -> dict[str, Any]:
        """The arguments of a call with these events; with one where it is not batched."""
        shown = [_shown(tenant, event) for event in events]
        outer = {"tenant": tenant, "count": len(events)} if self.batched else shown[0]
        return {name: _sound(value) for name, value in _filled(self.template, outer, shown).items()}

    def misfits(self, schema: Mapping[str, Any]) -> list[str]:
        """Where it cannot fit a tool's input schema, in words: by the names of its members alone."""
        properties, required = schema.get("properties"), schema.get("required")
        properties = properties if isinstance(properties, dict) else {}
        required = required if isinstance(required, list) else []
        found = [
            f"the tool needs {name!r}, which is not there" for name in required if name not in self.template
        ]
        if schema.get("additionalProperties") is False:
            found += [f"the tool takes no {name!r}" for name in self.template if name not in properties]
        return found


@dataclass(frozen=True)
class Kinds:
    """Which kinds of events are wanted; with no pattern, all."""

    patterns: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Kinds:
        """``"mission.*, task.accepted"``. ValueError names a pattern that fits no kind."""
        patterns = tuple(filter(None, (part.strip() for part in text.split(","))))
        for pattern in patterns:
            if not any(_fits(pattern, kind) for kind in KINDS):
                raise ValueError(
                    f"no event is of kind {pattern!r}: write `task.accepted`, or `task.*` for all of them"
                )
        return cls(patterns)

    def wants(self, kind: str) -> bool:
        """Whether an event of this kind is wanted."""
        return not self.patterns or any(_fits(pattern, kind) for pattern in self.patterns)


def parse_headers(text: str) -> dict[str, str]:
    """Headers from a JSON object. ValueError says what is wrong, and never what a value is."""
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError('it is no JSON: write an object, {"Authorization": "Bearer …"}') from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError('write a JSON object of texts, {"Authorization": "Bearer …"}')
    for name, value in found.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ValueError("one of its names cannot name a header")
        if name.lower() in _OURS or name.lower().startswith("mcp-"):
            raise ValueError(f"the header {name} is set by the protocol: leave it out")
        if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", value):
            raise ValueError(f"the header {name} must be one line of printable ASCII, no space at its ends")
    return found


_OURS = frozenset({"accept", "content-type", "content-length", "host", "connection", "transfer-encoding"})


def _fits(pattern: str, kind: str) -> bool:
    return kind == pattern or (pattern.endswith(".*") and kind.startswith(pattern[:-1]))


def _has_each(node: Any) -> bool:
    if isinstance(node, dict):
        return EACH in node or any(map(_has_each, node.values()))
    return isinstance(node, list) and any(map(_has_each, node))


def _names(node: Any, *, each: bool, depth: int = 0) -> Iterator[tuple[str, bool]]:
    """Every placeholder, less what follows its dot, and whether it stands in `$each`. Raises ValueError."""
    if depth > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep: make it flatter")
    if isinstance(node, dict):
        if EACH in node:
            if each or len(node) > 1:
                raise ValueError(f"{EACH} stands alone in its object, and not in another {EACH}")
            each = True
        for value in node.values():
            yield from _names(value, each=each, depth=depth + 1)
    elif isinstance(node, list):
        for value in node:
            yield from _names(value, each=each, depth=depth + 1)
    elif isinstance(node, str):
        for token in _TOKEN.finditer(node):
            if token[0] in "{}":
                raise ValueError(f"{node!r} has a brace of no placeholder: write {{{{ or }}}} for a brace")
            if token[1] is not None:
                yield _known(token[1]), each


def _known(name: str) -> str:
    first, *more = name.split(".")
    if first not in {*FIELDS, *OF_CALL} or (more and (first != "details" or not all(more))):
        raise ValueError(
            f"there is no placeholder {{{name}}}: use {', '.join(FIELDS)}, and details.NAME for one of "
            f"the details"
        )
    return first


def _shown(tenant: str, event: Event) -> dict[str, Any]:
    # As the model would be dumped, in a fifth of its time: there are many.
    said = {
        "v": event.v,
        "tenant": tenant,
        "epoch": event.epoch,
        "seq": event.seq,
        "at": event.at.isoformat().replace("+00:00", "Z"),
        "kind": event.kind,
        "by": event.by,
        "mission_id": event.mission_id,
        "task_id": event.task_id,
        "details": event.details,
        "id": event_id(tenant, event),
    }
    return {**said, "meaning": KINDS.get(event.kind, ""), "event": said}


def _filled(node: Any, values: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> Any:
    if isinstance(node, dict):
        if EACH in node:
            return [_filled(node[EACH], event, ()) for event in events]
        made = {name: _filled(value, values, events) for name, value in node.items()}
        return {name: value for name, value in made.items() if value is not _ABSENT}
    if isinstance(node, list):
        items = (_filled(value, values, events) for value in node)
        return [item for item in items if item is not _ABSENT]
    return _text(node, values) if isinstance(node, str) else node


def _text(text: str, values: Mapping[str, Any]) -> Any:
    alone = _TOKEN.fullmatch(text)
    if alone is not None and alone[1] is not None:
        return _value(alone[1], values)

    def put(token: re.Match[str]) -> str:
        if token[1] is None:
            return token[0][0]
        value = _value(token[1], values)
        if isinstance(value, str):
            return value
        return "" if value is _ABSENT else json.dumps(value, ensure_ascii=False)

    return _TOKEN.sub(put, text)


def _sound(value: Any) -> Any:
    """What can travel: half a surrogate pair and figures that JSON has not, as recorders may hold, cannot."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_sound(name): _sound(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_sound(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _value(path: str, values: Mapping[str, Any]) -> Any:
    found: Any = values
    for name in path.split("."):
        found = found.get(name, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    return _ABSENT if found is None else found
