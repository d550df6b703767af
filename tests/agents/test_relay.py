"""A stream on its way: how it is cut into events, and when what it says of its usage is its bill."""

from __future__ import annotations

import pytest

from chimera.agents.models import relay
from chimera.agents.models.endpoint import CallFailed
from chimera.agents.models.prices import Tokens
from chimera.agents.models.relay import Events, Metered

TEXT = b': still here\n\ndata: {"a": 1}\r\n\r\ndata: {"b":\ndata:  2}\n\ndata: [DONE]\n\nignored\n\n'
EVENTS = [b": still here\n\n", b'data: {"a": 1}\r\n\r\n', b'data: {"b":\ndata:  2}\n\n']
USAGE = {"prompt_tokens": 10, "completion_tokens": 2}


@pytest.mark.parametrize("size", range(1, 9))
def test_events_are_the_same_however_the_stream_is_cut(size: int) -> None:
    events = Events()
    cut = [TEXT[at : at + size] for at in range(0, len(TEXT), size)]
    assert [event for chunk in cut for event in events.of(chunk)] == EVENTS
    assert events.done
    assert events.over


def test_a_stream_that_ends_without_its_last_event_is_over_and_not_done() -> None:
    events = Events()
    assert list(events.of(b"data: 1\n\ndata: 2")) == [b"data: 1\n\n"]
    assert list(events.of(b"")) == [b"data: 2\n\n"]
    assert events.over
    assert not events.done


def test_an_answer_and_a_piece_of_it_have_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "PIECE_BYTES", 10)
    with pytest.raises(CallFailed, match="a piece"):
        list(Events().of(b"data: 0123456789"))
    monkeypatch.setattr(relay, "MOST_BYTES", 20)
    events = Events()
    list(events.of(b"data: 01\n\n"))
    with pytest.raises(CallFailed, match="its answer is over"):
        list(events.of(b"data: 0123\n\n"))


def choice(index: int = 0, finished: bool = False) -> dict[str, object]:
    return {"index": index, "delta": {}, "finish_reason": "stop" if finished else None}


def test_usage_that_comes_alone_is_the_bill_and_nobodys_piece() -> None:
    metered = Metered(1)
    assert not metered.read({"id": "r1", "choices": [choice(finished=True)], "usage": None})
    assert (metered.final, metered.request_id) == (False, "r1")
    assert metered.read({"choices": [], "usage": USAGE})
    assert (metered.final, metered.tokens) == (True, Tokens(10, 2))


def test_what_is_counted_on_the_way_is_no_bill_before_every_answer_has_ended() -> None:
    metered = Metered(2)
    assert not metered.read({"choices": [choice()], "usage": USAGE})
    assert not metered.final
    assert not metered.read({"choices": [choice(finished=True)], "usage": USAGE})
    assert not metered.final, "the second still goes on"
    assert not metered.read({"choices": [choice(1, finished=True)], "usage": USAGE})
    assert metered.final


@pytest.mark.parametrize("usage", ["much", {}, {**USAGE, "prompt_tokens": -1}])
def test_usage_that_cannot_be_is_none(usage: object) -> None:
    metered = Metered(1)
    metered.read({"choices": [], "usage": usage})
    assert (metered.final, metered.tokens) == (False, None)
