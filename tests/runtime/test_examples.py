"""The example missions whose agents are no language models, from file to result, without Ray."""

from __future__ import annotations

import re
from pathlib import Path

from chimera.agents.registry import Registry
from chimera.core.mission import MissionStatus
from chimera.missionfile import read_mission
from chimera.runtime.base import Base
from tests.runtime.fleet import running

EXAMPLES = Path(__file__).parents[2] / "examples"
AGENTS = EXAMPLES.parent / "docker/Dockerfile.agents"


async def test_the_mission_that_proves_a_cluster_is_accepted_with_the_agents_of_its_image_and_no_model(
    base: Base, tenant: str
) -> None:
    """docs/kubernetes.md, "A mission, for proof"; the image is that of docker/Dockerfile.agents."""
    named = re.search(r"^ARG AGENTS=/opt/agents/(\S+)$", AGENTS.read_text(encoding="utf-8"), re.MULTILINE)
    assert named
    agents = Registry.load(str(EXAMPLES / "agents" / named[1]))
    async with running(base, tenant, agents) as fleet:
        await fleet.submit(read_mission(EXAMPLES.parent / "kuberay/examples/mission.yaml"))
        mission = await fleet.rest()
        assert mission.status is MissionStatus.COMPLETED
        assert mission.counts["ACCEPTED"] == mission.total_tasks == 2


async def test_counts_are_brought_together_by_a_tree_of_reduce_tasks(base: Base, tenant: str) -> None:
    agents = Registry.load(str(EXAMPLES / "agents/word_count.py"))
    async with running(base, tenant, agents) as fleet:
        await fleet.submit(read_mission(EXAMPLES / "missions/word_total.yaml"))
        mission = await fleet.rest()
        assert mission.status is MissionStatus.COMPLETED
        assert mission.counts["ACCEPTED"] == mission.total_tasks == 6
        assert (await fleet.stores.tasks.get("m1.r1-0")).result == {"texts": 2, "words": 21}
        answer = await fleet.stores.tasks.get("m1.r2-0")
        assert answer.result == {"texts": 3, "words": 30}
        assert answer.needed_by == ()
