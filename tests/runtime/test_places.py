"""How many workers there may be, where the cluster's nodes say it (CHIMERA_MAX_WORKERS=0)."""

from __future__ import annotations

from dataclasses import replace

from chimera.runtime.base import Base
from tests.runtime.test_bulkheads import Workers, controlling
from tests.store import drive


class Nodes(Workers):
    """A cluster with so many places."""

    def __init__(self, count: int) -> None:
        super().__init__({})
        self.count = count

    async def places(self) -> int:
        return self.count


async def test_as_many_workers_are_started_as_nodes_have_places_for(base: Base, tenant: str) -> None:
    settings = base.settings.model_copy(update={"max_workers": 0, "slots": 1, "express_slots": 0})
    await drive.begin(base, tenant, drive.spec(inputs=list(range(9))))
    nodes = Nodes(0)
    async with controlling(replace(base, settings=settings), tenant, nodes) as controller:
        await controller.run_once()
        assert nodes.started == []
        nodes.count = 3
        await controller.run_once()
    assert nodes.started == [tenant] * 3


async def test_a_bound_that_is_set_holds_whatever_the_nodes_have(base: Base, tenant: str) -> None:
    settings = base.settings.model_copy(update={"max_workers": 2, "slots": 1, "express_slots": 0})
    await drive.begin(base, tenant, drive.spec(inputs=list(range(9))))
    nodes = Nodes(100)
    async with controlling(replace(base, settings=settings), tenant, nodes) as controller:
        await controller.run_once()
    assert nodes.started == [tenant] * 2
