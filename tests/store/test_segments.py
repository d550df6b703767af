"""A segment of the archive: it comes back as it was, or not at all."""

from __future__ import annotations

import json
import sys
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chimera.errors import CorruptRecord
from chimera.store.segments import contents_of, decode, encode, head_size
from tests.store.history import events, written

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def test_a_segment_gives_back_its_events_and_says_what_it_holds() -> None:
    lines = events(10, first=5, missions=3)
    contents, body = encode(written(lines), "ab" * 32)
    assert decode(body, tenant="acme") == lines
    assert contents_of(body[: head_size(body)]) == contents
    assert (contents.first, contents.last, contents.lines) == (lines[0][0], lines[-1][0], 10)
    assert contents.missions == {"m0", "m1", "m2"}
    assert [event.mission_id for _, event in decode(body, "m1")] == ["m1"] * 3
    assert [at.entry for at, _ in decode(body, tenant="acme")] == [at.entry for at, _ in lines]


def test_any_decoder_shows_plain_lines_of_json() -> None:
    lines = events(3)
    _, body = encode(written(lines), "")
    shown = [json.loads(line) for line in zstd.decompress(body).decode("ascii").splitlines()]
    assert [one["seq"] for one in shown] == [1, 2, 3]
    assert shown[0]["details"] == {"text": "ü\u2028\n", "figure": 0.5}
    assert shown[0]["at"].endswith("+00:00")


def test_the_chain_is_the_same_however_lines_are_cut() -> None:
    lines = events(20)
    whole, _ = encode(written(lines), "")
    link = ""
    for start, end in ((0, 1), (1, 7), (7, 20)):
        part, _ = encode(written(lines[start:end]), link)
        assert part.before == link
        link = part.after
    assert link == whole.after


def test_a_text_that_is_no_unicode_does_not_stop_the_archive() -> None:
    position, event = events(1)[0]
    odd = event.model_copy(update={"details": {"text": "\ud800"}})
    _, body = encode(written([(position, odd)]), "")
    assert decode(body, tenant="acme")[0][1].details == {"text": "\ud800"}


@settings(max_examples=60, deadline=None)
@given(st.integers(min_value=0))
def test_a_segment_that_is_cut_short_is_never_read(length: int) -> None:
    _, body = encode(written(events(40)), "")
    with pytest.raises(CorruptRecord):
        decode(body[: length % len(body)])


@settings(max_examples=200, deadline=None)
@given(st.integers(min_value=0), st.integers(1, 255))
def test_a_segment_with_a_wrong_byte_is_as_it_was_or_not_read(at: int, flip: int) -> None:
    _, body = encode(written(events(40)), "")
    place = at % len(body)
    harmed = body[:place] + bytes([body[place] ^ flip]) + body[place + 1 :]
    with suppress(CorruptRecord):  # a bit that means nothing may differ
        assert decode(harmed) == events(40)


def test_a_line_that_somebody_edited_breaks_the_chain() -> None:
    lines = events(5)
    contents, body = encode(written(lines), "")
    forged = [
        (at, event.model_copy(update={"by": "nobody"}) if event.seq == 3 else event) for at, event in lines
    ]
    _, other = encode(written(forged), "")
    # Its own lines behind the contents of the true ones.
    spliced = body[: head_size(body)] + other[head_size(other) :]
    with pytest.raises(CorruptRecord, match="hash chain"):
        decode(spliced)
    assert contents_of(other).after != contents.after


@pytest.mark.parametrize("body", [b"", b"PK\x03\x04 something else", b"{}\n" * 20])
def test_another_file_is_no_segment(body: bytes) -> None:
    with pytest.raises(CorruptRecord, match="no segment"):
        decode(body, tenant="acme")
