"""docs/first-agent.md, followed to the letter.

Run is every line of its `sh` blocks, in their order, with the files that it tells to save. But for one:
the fleet is the shared one, which the fixture `started` began with the document's own `chimera up --agents
my_agents.py` in its own directory (here that line finds it) and ends with `chimera down`, so that line is
left out here.
"""

from __future__ import annotations

import pytest

from tests.acceptance.conftest import BIN, FIRST_AGENT, ROOT, LiveFleet, blocks

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]
TEXT = FIRST_AGENT.read_text(encoding="utf-8")


def test_the_example_file_is_the_documents_agent() -> None:
    code, *_ = blocks("python", TEXT)
    assert (
        (ROOT / "examples/agents/my_first_agent.py")
        .read_text(encoding="utf-8")
        .strip()
        .endswith(code.strip())
    )


def test_the_document_shows_the_examples_reduce_agent() -> None:
    _, code = blocks("python", TEXT)
    assert code.strip() in (ROOT / "examples/agents/word_count.py").read_text(encoding="utf-8")


def test_a_newcomers_agent_runs_alone_and_on_the_fleet_as_the_document_says(
    fleet: LiveFleet, started: LiveFleet
) -> None:
    alone, up, work = blocks("sh", TEXT)
    assert work.splitlines()[-1] == "chimera down"
    mission, *_ = blocks("yaml", TEXT)
    # The directory that the fleet was started in, where its my_agents.py is.
    home = fleet.within(started.directory)
    home.write("headlines.yaml", mission)
    # Step 2 is for somebody who has no fleet yet.
    newcomer = home.given(PATH=f"{BIN}:{home.environment['PATH']}")
    without = newcomer.given(CHIMERA_STATE_DIR=home.directory / "none")
    told = without.command("sh", "-eu", "-c", alone)
    assert told.code in {0, 1}, told
    assert '"headline"' in told.out
    assert "verdict" in told.err
    assert "cost     $0.0" in told.err

    commands = up + work.removesuffix("chimera down\n")
    done = newcomer.command("sh", "-eu", "-c", commands).ok()
    assert "COMPLETED: 2 of 2 accepted" in done.out
