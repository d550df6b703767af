"""`chimera task why`: what a task waits for, for people and for programs."""

from __future__ import annotations

from tests.cli.conftest import Shell
from tests.runtime.fleet import Fleet
from tests.store import drive


async def test_a_paused_task_says_what_holds_it_and_what_to_do(hub: Shell, fleet: Fleet) -> None:
    await fleet.submit(drive.spec(agent="wait", inputs=[1]), "m1")
    await fleet.until(lambda mission: mission.counts["PENDING"] == 1)
    done = await hub("task", "why", "m1.0")
    assert done.code == 0, done.err
    assert done.out.splitlines()[0] == "m1.0  PENDING  running"
    await fleet.submit(drive.spec(agent="echo", inputs=[1]), "m2")
    await fleet.rest("m2")
    assert (await hub("task", "why", "m2.0", "-o", "json")).document["cause"] == "done"
    await drive.submit(fleet.base, fleet.tenant, drive.spec(inputs=list(range(40)), agent="wait"), "m3")
    await fleet.until(lambda mission: mission.counts["READY"] > 0, "m3")
    done = await hub.process("task", "why", "m3.39")
    assert done.code == 0, done.err
    first, position, because, step = done.out.splitlines()
    assert first == "m3.39  READY  capacity"
    assert position.startswith("  position ")
    assert because.startswith("  because  ")
    assert step.startswith("  next     nothing: ")
    await fleet.stores.missions.pause("m3", "p", by="test", reason="too slow")
    done = await hub("task", "why", "m3.39")
    assert "because  its mission is paused (too slow)" in done.out
    assert "next     let it go on with `chimera mission resume m3`" in done.out


async def test_a_task_that_is_not_there_is_a_wrong_name(hub: Shell) -> None:
    done = await hub("task", "why", "m9.0")
    assert (done.code, "there is no task 'm9.0'" in done.err) == (2, True)
