"""What agents made, for a person to read: text as text, JSON laid out, nothing hidden, nothing endless. Pure.

Whoever made it may be hostile. It is never HTML: templates escape it. Beside that, characters that show
nothing or turn the order of what is shown (NUL, controls, marks of direction) stand as their numbers,
⟦U+202E⟧, so that what is approved is what is read; and it is cut where it grows beyond what a page shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field

from chimera.core.views import View

SHOWN_CHARS = 200_000
"""Of one payload; the rest is in its download."""
FOLDED_LINES, FOLDED_CHARS = 24, 2_000
"""A longer payload is folded until somebody opens it."""
HEAD_CHARS = 160
"""Of its beginning, on one line of a table."""
DEEPEST_INDENT = 32
"""What lies deeper is laid out no further in: else the spaces alone would be most of it."""

_UNSEEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # controls, but for tab and line feed
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # marks of direction; no width
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f"  # halves of a character, annotations, tags
    "]|\r"
)


class Payload(View):
    """One input, result or body as it is shown."""

    kind: Literal["text", "json"] = Field(description="A string as it is; anything else as JSON, laid out.")
    text: str = Field(description="What is shown: characters that show nothing stand as ⟦U+XXXX⟧.")
    chars: int = Field(description="Characters of the whole, as laid out; of one that is cut those so far.")
    lines: int = Field(description="Lines of what is shown.")
    cut: bool = Field(description="There is more than is shown: the download has it.")

    @property
    def long(self) -> bool:
        """Whether it is folded at first."""
        return self.lines > FOLDED_LINES or self.chars > FOLDED_CHARS

    @property
    def head(self) -> str:
        """Its beginning, for one line."""
        return line(self.text, HEAD_CHARS)

    @property
    def folded(self) -> bool:
        """Whether its head is not all of it."""
        return self.cut or self.head != self.text


def payload(value: Any, most: int = SHOWN_CHARS) -> Payload:
    """A value of JSON as it is shown."""
    if isinstance(value, str):
        text, cut, chars = value[:most], len(value) > most, len(value)
    else:
        text, cut = laid_out(value, most)
        chars = len(text)
    shown = seen(text)
    return Payload(
        kind="text" if isinstance(value, str) else "json",
        text=shown,
        chars=chars,
        lines=shown.count("\n") + 1,
        cut=cut,
    )


def seen(text: str) -> str:
    """The text with everything in it to be seen."""
    return _UNSEEN.sub(_named, text.replace("\r\n", "\n"))


def line(text: str, most: int) -> str:
    """The same on one line, shortened."""
    flat = " ".join(seen(text[: most * 4]).split())
    return flat if len(flat) <= most and len(text) <= most * 4 else f"{flat[: most - 1]}…"


def laid_out(value: Any, most: int) -> tuple[str, bool]:
    """A value as JSON over several lines, and whether it was cut: at any depth, in bounded time."""
    parts: list[str] = []
    size = 0
    for part in _parts(value):
        parts.append(part[: most - size])
        size += len(part)
        if size > most:
            return "".join(parts), True
    return "".join(parts), False


def _named(found: re.Match[str]) -> str:
    return f"⟦U+{ord(found[0]):04X}⟧"


@dataclass(slots=True)
class _Open:
    """A list or object that is being laid out."""

    rest: Iterator[Any]
    close: str
    begun: bool = False


def _parts(value: Any) -> Iterator[str]:
    # By hand, for the standard library's goes as deep as its stack, and a hostile document deeper.
    opened: list[_Open] = []

    def begin(one: Any) -> str:
        if isinstance(one, dict) and one:
            opened.append(_Open(iter(one.items()), "}"))
            return "{"
        if isinstance(one, list | tuple) and one:
            opened.append(_Open(iter(one), "]"))
            return "["
        if isinstance(one, str):
            return _quoted(one)
        return "{}" if isinstance(one, dict) else "[]" if isinstance(one, list | tuple) else json.dumps(one)

    yield begin(value)
    while opened:
        top = opened[-1]
        try:
            one = next(top.rest)
        except StopIteration:
            opened.pop()
            yield "\n" + _indent(len(opened)) + top.close
            continue
        yield (",\n" if top.begun else "\n") + _indent(len(opened))
        top.begun = True
        if top.close == "}":
            name, one = one
            yield f"{_quoted(str(name))}: "
        yield begin(one)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _indent(depth: int) -> str:
    return "  " * min(depth, DEEPEST_INDENT)
