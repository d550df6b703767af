"""An action is checked whole when it is made; where it may go, and what follows an answer, are tables."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from chimera.core.action import (
    ACTION_FINAL,
    ACTION_TRANSITIONS,
    MAX_ACTIONS,
    ActionStatus,
    Allowed,
    Answer,
    HttpAction,
    Outcome,
    address_of,
    outcome,
    parse_actions,
)

URL = "https://hooks.example.com/x"


@pytest.mark.parametrize(
    ("url", "to", "entry"),
    [
        ("http://a", ("http", "a", 80), "a"),
        ("https://A.Example.com:443/x?y=1", ("https", "a.example.com", 443), "a.example.com"),
        ("http://localhost:9000/x@y", ("http", "localhost", 9000), "localhost:9000"),
        ("http://a:443/", ("http", "a", 443), "a:443"),
        ("http://[::1]:8080/", ("http", "[::1]", 8080), "[::1]:8080"),
        ("http://my_service/?u=x@evil.example", ("http", "my_service", 80), "my_service"),
    ],
)
def test_what_is_checked_is_what_the_client_connects_to(
    url: str, to: tuple[str, str, int], entry: str
) -> None:
    address = address_of(url)
    assert (tuple(address), str(address)) == (to, entry)
    sent = httpx.URL(url)
    assert sent.host == address.host.strip("[]")
    assert (sent.port or {"http": 80, "https": 443}[sent.scheme]) == address.port


@pytest.mark.parametrize(
    "url",
    [
        *("", "hooks.example.com", "//a/", "ftp://a/", "file:///etc/passwd", "javascript:1", "http://"),
        *("http://a@b/", "http://a:b@c/", "http://a\\@b/", "http://a b/", "http://a/\r\nX: y", "http://a/\n"),
        *("http://a/#f", "http://a:0/", "http://a:65536/", "http://a:x/", "http://ä.example/", "http://a/ä"),
        *(
            "http://-a/",
            "http://a,b/",
            "http://a%2eb/",
            "HTTP:/a",
            "http:///a",
            " http://a/",
            "http://a/" + "x" * 2000,
        ),
    ],
)
def test_a_url_that_could_mislead_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        HttpAction(url=url)


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({"X-A": "b\r\nX-C: d"}, "one line of printable ASCII"),
        ({"X-A": "b\n"}, "one line of printable ASCII"),
        ({"X-A": "\u00fc"}, "one line of printable ASCII"),
        ({"X-A": " b"}, "no space at its ends"),
        ({"X A": "b"}, "cannot name a header"),
        ({"X-A\r\nX-B": "b"}, "cannot name a header"),
        ({"": "b"}, "cannot name a header"),
        ({"Idempotency-Key": "mine"}, "set by Chimera"),
        ({"HOST": "b"}, "set by Chimera, or by the connection"),
        ({"content-length": "1"}, "leave it out"),
        ({"Proxy-Authorization": "x"}, "leave it out"),
        ({"X-A": "b", "x-a": "c"}, "stands twice"),
    ],
)
def test_headers_that_are_ours_or_could_break_out_are_refused(headers: dict[str, str], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        HttpAction(url=URL, headers=headers)


def test_headers_of_the_agents_own_are_taken() -> None:
    headers = {"Authorization": "Bearer x", "X-Empty": "", "Content-Type": "application/vnd.x+json"}
    assert HttpAction(url=URL, headers=headers).headers == headers


@pytest.mark.parametrize("body", [math.nan, {"a": [math.inf]}, object(), {1: 2}, b"x"])
def test_a_body_is_json(body: Any) -> None:
    with pytest.raises(ValidationError):
        HttpAction(url=URL, body=body)


def test_only_methods_that_do_something_are_offered() -> None:
    with pytest.raises(ValidationError):
        HttpAction.model_validate({"url": URL, "method": "GET"})


def test_an_action_does_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        HttpAction(url=URL).method = "PUT"  # type: ignore[misc]  # (it is frozen: that is the point)


@pytest.mark.parametrize(
    ("hosts", "url", "may"),
    [
        ("", URL, False),
        ("hooks.example.com", URL, True),
        ("HOOKS.example.com", URL, True),
        ("hooks.example.com", "http://hooks.example.com/", True),
        ("hooks.example.com", "https://hooks.example.com:8443/", False),
        ("hooks.example.com:8443", "https://hooks.example.com:8443/", True),
        ("hooks.example.com:443", URL, True),
        ("hooks.example.com:443", "http://hooks.example.com/", False),
        ("example.com", URL, False),
        ("a, b:9 ,hooks.example.com", URL, True),
        ("127.0.0.1:80", "http://2130706433/", False),
        ("[::1]:9", "http://[::1]:9/", True),
    ],
)
def test_only_listed_hosts_are_reached(hosts: str, url: str, may: bool) -> None:
    refusal = Allowed.parse(hosts).refusal(HttpAction(url=url))
    assert (refusal == "") is may
    if not may:
        entry = str(address_of(url))
        assert f"add {entry} to CHIMERA_ACTION_HOSTS" in refusal
        assert Allowed.parse(f"{hosts},{entry}").refusal(HttpAction(url=url)) == ""


@pytest.mark.parametrize("hosts", ["https://a", "a/b", "*.example.com", "a:b", "a:0", "a b"])
def test_a_wrong_entry_of_the_list_is_named(hosts: str) -> None:
    with pytest.raises(ValueError, match=r"no host|no port"):
        Allowed.parse(hosts)


@pytest.mark.parametrize(
    ("status", "tries", "follows"),
    [
        *((status, 1, Outcome.DONE) for status in (200, 201, 204, 299)),
        *((status, 1, Outcome.RETRY) for status in (None, 408, 425, 429, 500, 502, 503, 599)),
        *((status, 3, Outcome.FAILED) for status in (None, 408, 425, 429, 500, 502, 503, 599)),
        *((status, 1, Outcome.FAILED) for status in (100, 301, 302, 307, 400, 401, 403, 404, 409, 410, 422)),
    ],
)
def test_what_follows_an_answer(status: int | None, tries: int, follows: Outcome) -> None:
    assert outcome(Answer(status), tries=tries, most=3) is follows


def test_the_words_of_an_action_are_those_its_receiver_reads() -> None:
    action = HttpAction(url="https://a/vote-for/the%20Green+Party?say=it%C3%BC", body={"text": "hello"})
    assert action.said["url"] == "https:  a vote for the Green Party say itü"
    assert action.said["body"] == {"text": "hello"}


def test_actions_travel_as_a_list_of_texts() -> None:
    action = HttpAction(url=URL, body={"a": []})
    assert parse_actions(json.dumps([action.model_dump_json()])) == (action,)
    assert parse_actions("") == ()
    with pytest.raises(ValueError, match="at most"):
        parse_actions(json.dumps([action.model_dump_json()] * (MAX_ACTIONS + 1)))


def test_what_is_done_stays_done() -> None:
    back = {before for before, _ in ACTION_TRANSITIONS if before in ACTION_FINAL}
    assert back == {ActionStatus.FAILED}
    assert [status.value for status in ActionStatus] == ["QUEUED", "DONE", "FAILED"]
