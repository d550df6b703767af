"""`chimera recorder sinks` and `dead`, as an operator meets them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from chimera.core.sinkviews import DeadLetter
from chimera.runtime.base import Base
from chimera.runtime.exporting import SERVER
from chimera.store.exports import Exports
from tests.cli.conftest import Shell
from tests.cli.test_tenants import operator
from tests.store import drive, history

__all__ = ["operator"]


@pytest.fixture
async def refused(base: Base, tenant: str) -> AsyncIterator[Exports]:
    """Two events that a server would not take, and a server that is away."""
    await history.write(base, tenant, 3)
    exports, lines = Exports(base.redis, tenant), await history.read(base, tenant)
    letters = [
        DeadLetter(
            id=f"{tenant}/1/{event.seq}",
            kind=event.kind,
            at=event.at,
            position=str(at),
            reason="no place for it",
            tries=5,
            dead_at=datetime.now(UTC),
        )
        for at, event in lines[:2]
    ]
    assert await exports.advance(None, lines[1][0], letters, term=drive.TERM)
    await base.export_troubles.report(SERVER, "cannot be reached", since=datetime.now(UTC), failures=3)
    yield exports
    await base.export_troubles.clear(SERVER)


async def test_sinks_say_how_far_each_is_and_why_it_does_not_go_on(
    operator: Shell, refused: Exports, tenant: str
) -> None:
    (archive, mcp) = (await operator("recorder", "sinks", "--tenant", tenant, "-o", "json")).document
    assert (archive["sink"], archive["seq"], archive["behind"]) == ("archive", 0, 3)
    assert (mcp["sink"], mcp["seq"], mcp["newest"], mcp["behind"], mcp["dead"]) == ("mcp", 2, 3, 1, 2)
    assert mcp["trouble"] == "cannot be reached"
    shown = await operator("recorder", "sinks", "--tenant", tenant)
    assert "cannot be reached" in shown.out
    assert (await operator("recorder", "sinks", "--tenant", "nobody")).code == 2


async def test_dead_letters_are_listed_retried_and_dropped(
    operator: Shell, refused: Exports, tenant: str
) -> None:
    listed = await operator("recorder", "dead", "list", "--tenant", tenant)
    assert f"{tenant}/1/1" in listed.out
    assert "no place for it" in listed.out
    retried = await operator("recorder", "dead", "retry", f"{tenant}/1/1", f"{tenant}/1/9")
    assert "1 will be told again" in retried.out
    assert "no dead letters" in retried.err
    assert [one.retrying for one in await refused.dead()] == [True, False]
    dropped = await operator(
        "recorder", "dead", "drop", "--all", "--tenant", tenant, "--reason", "x", "-o", "json"
    )
    assert dropped.document == {"count": 2}
    assert await refused.dead() == []


async def test_a_word_needs_events_or_all_of_them(operator: Shell, tenant: str) -> None:
    for wrong in ((), (f"{tenant}/1/1", "--all"), (f"{tenant}/1/1", "--tenant", tenant)):
        assert (await operator("recorder", "dead", "retry", *wrong)).code == 2
