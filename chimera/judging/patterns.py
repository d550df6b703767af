"""Patterns from tenants run on RE2: linear in the text, whatever the pattern.

The hub is shared, and Python's `re` may backtrack for hours on a few hundred characters. RE2 has no
back-references and no look-around; such a pattern is refused at submit.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import re2  # type: ignore[import-untyped]  # the wheel carries no types

MAX_PROGRAM_BYTES = 1 << 20


def _options() -> Any:
    options = re2.Options()
    options.max_mem = MAX_PROGRAM_BYTES
    options.log_errors = False
    return options


@lru_cache(maxsize=2_048)
def compiled(pattern: str) -> Any:
    """The RE2 program of a pattern.

    Raises:
        ValueError: not RE2 syntax, or over `MAX_PROGRAM_BYTES` once compiled.
    """
    try:
        return re2.compile(pattern, _options())
    except re2.error as exc:
        reason = exc.args[0].decode(errors="replace") if isinstance(exc.args[0], bytes) else exc.args[0]
        raise ValueError(
            f"pattern {pattern!r} does not compile ({reason}); "
            "the syntax is RE2: no back-references, no look-around"
        ) from exc


def found(pattern: str, text: str) -> bool:
    """Whether the pattern occurs anywhere in the text. Lone surrogates match nothing in particular."""
    return compiled(pattern).search(text.encode("utf-8", "replace").decode()) is not None
