"""Traces: by what id a mission's log lines and model calls are known to whoever traces its requests.

As W3C Trace Context has it: a trace is 32 hexadecimal digits, a span 16, and ``traceparent`` carries both in
a header. Who submits with one is followed; any other mission has a trace of its own, which its name gives: so
nothing need be stored of it, and every process finds the same.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

HEADER = "traceparent"
LONGEST = 128
"""Characters of a header that is looked at: later versions may have more than the 55 of today's."""

_SHAPE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = "01"


@dataclass(frozen=True, slots=True)
class Trace:
    """A mission's trace.

    Attributes:
        trace_id: 32 hexadecimal digits.
        flags: 2 hexadecimal digits, passed on as they came: whether whoever began the trace samples it.
    """

    trace_id: str
    flags: str = _SAMPLED

    def parent(self, span_id: str) -> str:
        """The ``traceparent`` of a call that is made within a span of it."""
        return f"00-{self.trace_id}-{span_id}-{self.flags}"


def accepted(header: str | None) -> str:
    """A ``traceparent`` as it may be kept; "" for none, and for what is none: it refuses no request."""
    return header if header is not None and len(header) <= LONGEST and _read(header) is not None else ""


def of_mission(tenant: str, mission_id: str, traceparent: str = "") -> Trace:
    """Its trace: the one that it was submitted within, or its own."""
    given = _read(traceparent)
    return given or Trace(_digits(32, "trace", tenant, mission_id))


def span(tenant: str, *work: str | int) -> str:
    """The span of a piece of work, which its name gives: as of an attempt its task, round and number."""
    return _digits(16, "span", tenant, *work)


def _read(header: str) -> Trace | None:
    found = _SHAPE.fullmatch(header)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # "ff" is no version, and only later ones may have more to say; ids of zeros alone are none.
    if version == "ff" or (version == "00" and more) or not trace_id.strip("0") or not span_id.strip("0"):
        return None
    return Trace(trace_id, flags)


def _digits(count: int, *names: str | int) -> str:
    return hashlib.sha256("\0".join(map(str, names)).encode()).hexdigest()[:count]
