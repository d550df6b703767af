"""What an agent proposes is collected, bounded, and refused in words that name the setting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chimera.agents.proposals import Proposals
from chimera.core.action import HttpAction, parse_action
from chimera.errors import Conflict, PayloadTooLarge, Rejected

HOOK = HttpAction(url="http://a/hook", body={"n": 1})


def test_actions_keep_their_order_and_get_an_index() -> None:
    proposals = Proposals("a")
    actions = [HttpAction(url=f"http://a/{n}") for n in range(3)]
    assert [proposals.add(action) for action in actions] == [0, 1, 2]
    assert [parse_action(text) for text in proposals.close()] == actions


def test_threads_may_propose_at_once() -> None:
    proposals = Proposals("a", most=100)
    with ThreadPoolExecutor(8) as threads:
        indices = list(threads.map(lambda _: proposals.add(HOOK), range(100)))
    assert sorted(indices) == list(range(100))
    assert len(proposals.close()) == 100


def test_what_was_proposed_is_what_it_was_then() -> None:
    body: dict[str, Any] = {"n": 1}
    proposals = Proposals("a")
    action = HttpAction(url="http://a/", body=body)
    proposals.add(action)
    assert isinstance(action.body, dict)
    action.body["n"] = 2
    assert parse_action(proposals.close()[0]).body == {"n": 1}


def test_a_host_that_is_not_allowed_names_the_setting() -> None:
    with pytest.raises(Rejected, match="may not reach b:9: add b:9 to CHIMERA_ACTION_HOSTS"):
        Proposals("a").add(HttpAction(url="http://b:9/"))
    with pytest.raises(Rejected, match="CHIMERA_ACTION_HOSTS"):
        Proposals().add(HOOK)


def test_too_many_and_too_large_name_their_settings() -> None:
    proposals = Proposals("a", most=1, most_bytes=300)
    proposals.add(HOOK)
    with pytest.raises(Rejected, match=r"at most 1 actions.*CHIMERA_MAX_ACTIONS"):
        proposals.add(HOOK)
    with pytest.raises(PayloadTooLarge, match="CHIMERA_MAX_ACTION_BYTES"):
        Proposals("a", most_bytes=300).add(HttpAction(url="http://a/", body="ü" * 150))


def test_a_body_that_cannot_be_stored_is_refused() -> None:
    with pytest.raises(Rejected, match="cannot be kept as JSON"):
        Proposals("a").add(HttpAction(url="http://a/", body={"text": "\ud800"}))


def test_an_address_that_nobody_checked_is_checked_here() -> None:
    with pytest.raises(Rejected, match="no address to send to"):
        Proposals("a").add(HttpAction.model_construct(url="ftp://a/"))


def test_after_the_attempt_nothing_is_taken() -> None:
    proposals = Proposals("a")
    proposals.add(HOOK)
    assert proposals.close() == proposals.close()
    with pytest.raises(Conflict, match="the attempt is over"):
        proposals.add(HOOK)
