"""Payloads for people's eyes: text that whoever wrote it meant to be anything, shown as what it is. Pure.

Inputs, results and feedback are a stranger's. Templates escape them; here they are cut to a length, and what
is there and cannot be seen, or turns the text around, is made visible.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

SHORT = 160
"""Characters on one line of a table."""
LONG = 20_000
"""Characters of one payload on a page of its own; the whole of it is one link away."""

_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
"""Controls, what has no width, and what sets the direction of the text around it."""


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload as it is shown.

    Attributes:
        line: its beginning on one line.
        text: more of it, laid out; at most `LONG` characters.
        chars: how long it is laid out, in all.
        folded: `line` is not all of it.
        cut: `text` is not all of it.
    """

    line: str
    text: str
    chars: int
    folded: bool
    cut: bool


def payload(value: Any, *, short: int = SHORT, most: int = LONG) -> Payload:
    """A value as it is shown: a text as it is, everything else as JSON."""
    whole = value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
    flat = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    line = " ".join(seen(flat[: 4 * short]).split())
    folded = len(line) > short or len(flat) > 4 * short
    return Payload(
        line=line[: short - 1] + "…" if folded else line,
        text=seen(whole[:most]),
        chars=len(whole),
        folded=folded or "\n" in whole.strip(),
        cut=len(whole) > most,
    )


def seen(text: str) -> str:
    """The same with what cannot be seen made visible, as its number: ``\\u202e``."""
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
