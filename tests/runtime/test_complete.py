"""The recorder is complete: every kind and every row of the tables is provoked, recorded, and told.

A kind of KINDS or a row of a table that nothing provokes (`tests.runtime.provoking`) fails these tests.
"""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import pytest

from chimera.core.action import ACTION_TRANSITIONS
from chimera.core.event import KINDS, VERSION, Event
from chimera.core.mission import MISSION_TRANSITIONS
from chimera.core.sinkviews import DeadLetter
from chimera.core.task import TRANSITIONS
from chimera.runtime.base import Base
from chimera.store.exports import Exports
from tests.core.test_event import rows
from tests.runtime.exporters import delivered, exporting
from tests.runtime.provoking import Row, answered, every, provoke, refused, rows_taken, worked
from tests.runtime.receiver import Receiver
from tests.runtime.sense import Sense
from tests.store import drive, history

TABLES: dict[str, set[Row]] = {
    "task": {(before.value, after.value) for before, after in TRANSITIONS},
    "mission": {(before.value, after.value) for before, after in MISSION_TRANSITIONS},
    "action": {(before.value, after.value) for before, after in ACTION_TRANSITIONS},
}
NAMED_FREELY = {"fleet.scaled", "key.created", "quota.set"}
"""Kinds some of whose details are named by what was decided on, or changed."""


def rows_of(events: Iterable[Event]) -> dict[str, set[Row]]:
    """The rows of each table that were taken; the events of each tenant oldest first."""
    of_tenants = defaultdict[str, list[Event]](list)
    for event in events:
        of_tenants[event.tenant].append(event)
    taken: dict[str, set[Row]] = {noun: set() for noun in TABLES}
    for own in of_tenants.values():
        for noun, counts in rows_taken(own).items():
            taken[noun] |= set(counts)
    return taken


async def test_every_kind_and_every_row_is_provoked_and_recorded(
    world: Base, base: Base, tenant: str, receiver: Receiver
) -> None:
    await worked(world, tenant, receiver)
    tenants = await provoke(base, tenant)
    refusing = await refused(base, f"{tenant}-refused")
    exports = Exports(base.redis, refusing)
    at, one = (await history.read(base, refusing))[-1]
    said = DeadLetter(
        id=one.id, kind=one.kind, at=one.at, position=str(at), reason="no", tries=1, dead_at=one.at
    )
    assert await exports.advance(None, at, [said, said.model_copy(update={"id": "x/1/1"})], term=drive.TERM)
    await answered(base, refusing)
    events = [event for name in (*tenants, refusing) for event in await every(base.of(name))]
    assert {event.kind for event in events} == set(KINDS)
    assert rows_of(events) == TABLES
    tabled = {kind: set(re.findall(r"`(\w+)`", details)) for kind, (_, _, details) in rows().items()}
    told = {
        (event.kind, name) for event in events for name in event.details if event.kind not in NAMED_FREELY
    }
    assert {f"{kind}: {name}" for kind, name in told if name not in tabled[kind]} == set()
    assert {event.v for event in events} == {VERSION}
    assert len({event.id for event in events}) == len(events)
    assert {event.id.split("/")[0] for event in events} == {*tenants, refusing}
    assert all(Event.model_validate_json(event.model_dump_json()) == event for event in events)


@pytest.mark.unmeasured
@pytest.mark.usefixtures("quick")
async def test_every_kind_and_every_row_comes_to_the_mcp_server_and_each_event_by_its_id(
    world: Base, base: Base, tenant: str, receiver: Receiver, sense: Sense
) -> None:
    """Provoked while the exporter is at work, and counted from what the server wrote down."""
    await worked(world, tenant, receiver)
    await sense.start(refuses=["limits.set"])
    async with exporting(base, sense, mcp_tries=1):
        tenants = await provoke(base, tenant)
        refusing = await refused(base, f"{tenant}-refused")
        tenants.append(refusing)
        for name in tenants:
            await history.archive(base, name)
            await delivered(base, name)
        dropped = await answered(base, refusing)
        sense.kill()
        await sense.start()
        for name in tenants:
            exports = Exports(base.redis, name)
            await exports.answer("retry", ["*"], "all", by="eve")
            await settled(exports)
            await delivered(base, name)
    told: dict[str, dict[str, Any]] = {}
    for event in (event for name in tenants for event in sense.events(name)):
        assert told.setdefault(event["id"], event) == event, "an id names one event"
    recorded = {one.id: one for name in tenants for one in await every(base.of(name)) if one.id != dropped}
    assert set(told) == set(recorded), "none is missing, and none is told that is not"
    came = [Event.model_validate(told[name]) for name in recorded]
    assert came == list(recorded.values())
    assert {event.kind for event in came} == set(KINDS)
    assert rows_of(came) == TABLES


async def settled(exports: Exports) -> None:
    """Until no dead letter is left."""
    while await exports.dead():  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.02)
