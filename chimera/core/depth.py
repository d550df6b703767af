"""How deeply a document is nested: no more than all who read it can follow. Pure.

What writes JSON goes 254 levels deep, what reads it 200, with what stands around a document: between the two
lies what could be stored and never be read again.
"""

from __future__ import annotations

from typing import Any

MAX_DEPTH = 100
"""Levels of lists and objects in one document."""


def too_deep(value: Any, text: bytes) -> bool:
    """Whether a value of JSON is nested deeper than `MAX_DEPTH`.

    Args:
        text: the same, as JSON: where it opens no more brackets than that, the value is not looked at.
    """
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return False
    level, depth = [value], 0
    while level := [one for one in level if isinstance(one, dict | list | tuple)]:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return False
