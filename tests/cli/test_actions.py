"""Actions as a person meets them: shown before the verdict, counted after it, retried when they failed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from chimera.runtime.base import Base, open_base
from chimera.runtime.users import reconcile
from chimera.settings import Settings
from tests.cli.conftest import Shell
from tests.runtime.fleet import Fleet
from tests.runtime.receiver import Receiver, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as made:
        yield made


@pytest.fixture
async def base(settings: Settings, tenant: str, receiver: Receiver) -> AsyncIterator[Base]:
    """As everywhere, but for actions that may reach the receiver."""
    opened = await open_base(settings.model_copy(update={"action_hosts": receiver.host, "action_tries": 1}))
    await opened.tenants.add(tenant)
    await reconcile(opened)
    yield opened
    await opened.tenants.remove(tenant)
    await opened.close()


def mission(receiver: Receiver, **fields: object) -> str:
    return json.dumps(
        {"goal": "Say it.", "agent": "announce", "budget_usd": 0.01, "inputs": [receiver.url], **fields}
    )


async def test_an_action_is_shown_to_the_reviewer_and_sent_after_the_approval(
    hub: Shell, fleet: Fleet, receiver: Receiver
) -> None:
    hub.write("m.json", mission(receiver, judge=[{"policy": "human"}]))
    assert (await hub("run", "m.json")).code == 5
    (review,) = (await hub("review", "list", "-o", "json")).document
    task, mission_id = review["task_id"], review["mission_id"]
    assert review["actions"][0]["url"] == receiver.url
    assert receiver.url in (await hub("review", "show", task)).out
    assert f'"url": "{receiver.url}"' in (await hub("task", "get", task)).out
    assert "no action matches" in (await hub("action", "list", "--mission", mission_id)).err
    assert receiver.calls == []
    assert (await hub("review", "approve", task)).code == 0
    await fleet.until(lambda one: one.actions["DONE"] == 1, mission_id)
    assert len(receiver.calls) == 1
    assert "1 DONE" in (await hub("mission", "get", mission_id)).out
    listed = await hub("action", "list", "--mission", mission_id)
    assert f"POST {receiver.url}  200: ok" in listed.out
    assert f"action   0 DONE  POST {receiver.url}  200: ok" in (await hub("task", "get", task)).out


async def test_failed_actions_are_found_by_host_and_retried_when_confirmed(
    hub: Shell, fleet: Fleet, receiver: Receiver
) -> None:
    receiver.answers.extend([(404, "")] * 2)
    hub.write("m.json", mission(receiver, inputs=[receiver.url, f"{receiver.url}/2"]))
    mission_id = (await hub("mission", "submit", "m.json")).out.strip()
    await fleet.until(lambda one: one.actions["FAILED"] == 2, mission_id)
    shown = await hub("mission", "watch", mission_id)
    assert shown.code == 0
    assert f"chimera action retry --mission {mission_id}" in shown.out
    assert "actions: 2 FAILED" in shown.out
    failed = (await hub("action", "list", "--status", "FAILED", "-o", "json")).document
    assert {one["answer"] for one in failed} == {"404: ok"}
    here = await hub("action", "list", "--host", receiver.host, "-o", "json")
    assert len(here.document) == 2
    assert (await hub("action", "list", "--host", "elsewhere.example", "-o", "json")).document == []
    unconfirmed = await hub("action", "retry", "--host", receiver.host)
    assert (unconfirmed.code, "retry 2 actions of 1 mission?" in unconfirmed.err) == (2, True)
    one = await hub("action", "retry", f"{mission_id}.0", "0")
    assert f"{mission_id}: 1 action to be tried again" in one.out
    await fleet.until(lambda one: one.actions["DONE"] == 1, mission_id)
    rest = await hub("action", "retry", "--mission", mission_id, "--yes", "-o", "json")
    assert rest.document[0]["retried"] == 1
    await fleet.until(lambda one: one.actions["DONE"] == 2, mission_id)
    assert "no failed action" in (await hub("action", "retry", "--mission", mission_id)).out
    assert len(receiver.calls) == 4
    assert len({call.key for call in receiver.calls}) == 2


async def test_what_to_retry_must_be_said(hub: Shell) -> None:
    for wrong in ((), ("m1.0",), ("m1.0", "0", "--mission", "m1"), ("m1.0", "-1")):
        assert (await hub("action", "retry", *wrong)).code == 2
