"""Trace ids: what is taken from a caller, what a mission has of its own, and what is passed on."""

from __future__ import annotations

import re

import pytest

from chimera.core import trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_a_mission_goes_on_in_the_trace_it_was_submitted_within() -> None:
    given = trace.accepted(f"00-{TRACE}-{SPAN}-00")
    found = trace.of_mission("acme", "m1", given)
    assert found == trace.Trace(TRACE, "00")
    assert found.parent("b7ad6b7169203331") == f"00-{TRACE}-b7ad6b7169203331-00"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-01-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"cc-{TRACE}-{SPAN}-01-{'x' * 100}",
    ],
)
def test_what_is_no_traceparent_is_taken_for_none(header: str | None) -> None:
    assert trace.accepted(header) == ""


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    assert trace.of_mission("acme", "m1", trace.accepted(f"cc-{TRACE}-{SPAN}-01-new")).trace_id == TRACE


def test_any_other_mission_has_a_trace_of_its_own_which_every_process_finds() -> None:
    own = trace.of_mission("acme", "m1")
    assert own == trace.of_mission("acme", "m1", "nonsense")
    assert re.fullmatch("[0-9a-f]{32}", own.trace_id)
    assert own.trace_id not in {trace.of_mission("acme", "m2").trace_id, trace.of_mission("b", "m1").trace_id}


def test_each_attempt_is_a_span_of_its_own() -> None:
    spans = {trace.span("acme", "m1.0", 0, attempt) for attempt in (1, 2)} | {
        trace.span("acme", "m1.1", 0, 1)
    }
    assert len(spans) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in spans)
