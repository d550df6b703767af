"""Answers that quote: a schema whose strings must be copied from a text.

In an `output_schema`, a string may say where it is copied from::

    sentence: {type: string, x-copy-from: input.text, x-copy-unit: sentence}

Before the call, that becomes an `enum` of the sentences (or words, or lines) of this task's own
text, which an endpoint with structured output can only choose from. It is how even a very small
model quotes without inventing; larger ones make fewer mistakes with it. What it chooses is its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

SOURCE, UNIT = "x-copy-from", "x-copy-unit"
MOST = 16
"""Choices of one enum: a grammar pays for each of them at every token the model would rather not say."""

FENCE = re.compile(r"^(```|~~~).*?(^\1|\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+#|>]|\d+\.))")
NOT_PROSE = re.compile(r"^\s*(?:#|\||!?\[|<|\.\. |:)")
BULLET = re.compile(r"^(?:[-*+>]|\d+\.)\s+")
END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`*\"(])")
WORD = re.compile(r"[^\W\d_][\w-]{3,19}")
COMMON = frozenset(
    re.findall(
        r"\w+",
        """
        about above after again also another because been before being below between both cannot could does
        done down during each either else even ever every from further have having here into itself just
        like made make makes many more most much must need needs never only other others over same several
        should since some such than that their them then there these they this those through under unless
        until upon used uses using very well were what when where whether which while whom whose will with
        within without would your yours https http
        """,
    )
)


def sentences(text: str) -> list[str]:
    """The sentences of a text's prose, 25 to 200 characters: no headings, tables, badges or code.

    A text without prose is quoted by the line.
    """
    found: list[str] = []
    for block in BLOCK.split(FENCE.sub("\n\n", text)):
        if NOT_PROSE.match(block):
            continue
        prose = BULLET.sub("", " ".join(block.split()))
        found += [
            part for part in END.split(prose) if 25 <= len(part) <= 200 and len(WORD.findall(part)) >= 3
        ]
    return list(dict.fromkeys(found))[:MOST] or [line for line in lines(text) if len(line) >= 20]


def words(text: str) -> list[str]:
    """The telling words of a text, in their order: four letters and more, common ones left out."""
    found: dict[str, str] = {}
    for word in WORD.findall(FENCE.sub("\n", text)):
        if word.lower() not in COMMON:
            found.setdefault(word.lower(), word)
    return list(found.values())[:MOST]


def lines(text: str) -> list[str]:
    """The lines of a text, without Markdown's marks, up to 80 characters each."""
    stripped = (line.strip().strip("#*=-|> ").strip() for line in text.splitlines())
    return list(dict.fromkeys(line for line in stripped if 2 < len(line) <= 80))[:MOST]


UNITS: dict[str, Callable[[str], list[str]]] = {"sentence": sentences, "word": words, "line": lines}


def narrow(schema: Any, lookup: Callable[[str], Any]) -> Any:
    """The schema for one task: each `x-copy-from` replaced by the choices its text offers.

    A text that offers none leaves the plain string: the judge will see what comes of it.
    """
    if isinstance(schema, list):
        return [narrow(item, lookup) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    plain = {key: narrow(value, lookup) for key, value in schema.items() if key not in {SOURCE, UNIT}}
    if SOURCE not in schema:
        return plain
    source = lookup(str(schema[SOURCE]))
    choices = UNITS[schema.get(UNIT, "sentence")](source) if isinstance(source, str) else []
    return {"type": "string", "enum": choices} if choices else plain


def problems(schema: Any, place: str = "output_schema") -> list[str]:
    """What is wrong with the copying a schema asks for, one line each."""
    if isinstance(schema, list):
        return [found for item in schema for found in problems(item, place)]
    if not isinstance(schema, Mapping):
        return []
    found = [wrong for key, value in schema.items() for wrong in problems(value, f"{place}.{key}")]
    if UNIT in schema and schema[UNIT] not in UNITS:
        found.append(f"{place}: {UNIT} is one of {', '.join(UNITS)}")
    if UNIT in schema and SOURCE not in schema:
        found.append(f"{place}: {UNIT} needs {SOURCE}, for example input.text")
    return found


def without_repeats(value: Any, schema: Any) -> Any:
    """Drop repeated items where the schema says `uniqueItems`, which no endpoint's grammar can state."""
    if not isinstance(schema, Mapping):
        return value
    if isinstance(value, Mapping):
        fields = schema.get("properties", {})
        return {key: without_repeats(item, fields.get(key)) for key, item in value.items()}
    if isinstance(value, list):
        items = [without_repeats(item, schema.get("items")) for item in value]
        if schema.get("uniqueItems") is True:
            items = [item for at, item in enumerate(items) if item not in items[:at]]
        return items
    return value
