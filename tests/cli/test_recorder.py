"""`chimera recorder`: what people and programs see, and the exit codes."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chimera.cli import exporting
from chimera.runtime.base import Base
from chimera.store.archive import Segment
from tests.cli.conftest import Shell
from tests.cli.test_missions import mission
from tests.store import history

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@pytest.fixture
def operator(shell: Shell, base: Base) -> Shell:
    """A shell that knows the fleet's Redis and blob store, and no hub."""
    assert base.settings.redis_url is not None
    own = {
        "CHIMERA_REDIS_URL": base.settings.redis_url.get_secret_value(),
        "CHIMERA_BLOB_URL": base.settings.blob_location,
    }
    return replace(shell, environment={**shell.environment, **own})


async def done(hub: Shell) -> str:
    """A mission of two tasks, done; its id."""
    hub.write("m.json", mission())
    return str((await hub("run", "m.json", "-o", "json")).lines[-1]["mission"]["mission_id"])


async def test_show_tells_of_a_task_a_kind_a_span_or_the_whole_tenant(hub: Shell) -> None:
    mission_id = await done(hub)
    everything = (await hub("recorder", "show", "-o", "json")).lines
    assert [event["seq"] for event in everything] == list(range(1, len(everything) + 1))
    assert everything[0]["id"] == f"{everything[0]['tenant']}/1/1"
    of_task = (await hub("recorder", "show", f"{mission_id}.1", "-o", "json")).lines
    assert {event["task_id"] for event in of_task} == {f"{mission_id}.1"}
    kinds = (await hub("recorder", "show", mission_id, "--kind", "task.acc", "--kind", "worker.")).out
    assert kinds.count("task.accepted") == 2
    assert "task.claimed" not in kinds
    recent = (await hub("recorder", "show", "--since", "1h", "-o", "json")).lines
    assert recent[: len(everything)] == everything, "a worker may have left meanwhile"
    assert (await hub("recorder", "show", "--until", "1h", "-o", "json")).lines == []
    refused = await hub("recorder", "show", "-f")
    assert (refused.code, "`recorder tail` follows" in refused.err) == (2, True)


async def test_tail_follows_the_tenant_from_now_on(hub: Shell) -> None:
    await done(hub)
    tail = await hub.start("recorder", "tail", "--kind", "mission.", "-o", "json")
    assert tail.stdout is not None
    try:
        told: list[str] = []
        async with asyncio.timeout(40):
            reading = asyncio.create_task(tail.stdout.readline())
            while not reading.done():  # until it listens: what came before is not told
                second = await done(hub)
                await asyncio.wait([reading], timeout=0.2)
            while "mission.completed" not in told:
                event = json.loads(await reading)
                reading = asyncio.create_task(tail.stdout.readline())
                told.append(event["kind"])
        assert set(told) <= {f"mission.{what}" for what in ("submitted", "running", "planned", "completed")}
        assert second
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    finally:
        tail.terminate()
        await tail.communicate()


async def test_an_export_is_whole_and_goes_on_where_it_was_cut(
    hub: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await done(hub)
    events = (await hub("recorder", "show", "-o", "json")).lines
    monkeypatch.setattr(exporting, "BATCH", 3)
    made = await hub("recorder", "export", "--to", "e.ndjson", "-o", "json")
    assert made.code == 0, made.err
    path = hub.directory / "e.ndjson"
    exported = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert exported[: len(events)] == events, "a worker may have left meanwhile"
    manifest = json.loads((hub.directory / "e.ndjson.manifest.json").read_text())
    assert manifest == made.document
    assert manifest["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (manifest["complete"], manifest["events"]) == (True, len(exported))
    assert (manifest["first"], manifest["last"]) == (exported[0]["id"], exported[-1]["id"])
    again = await hub("recorder", "export", "--to", "e.ndjson")
    assert (again.code, "go on with --resume" in again.err) == (2, True)
    # Cut short: more than the manifest tells of is in the file, and events came since.
    with path.open("ab") as file:
        file.write(b'{"half')
    await done(hub)
    resumed = await hub("recorder", "export", "--to", "e.ndjson", "--resume")
    assert resumed.code == 0, resumed.err
    exported = [json.loads(line) for line in path.read_bytes().splitlines()]
    everything = (await hub("recorder", "show", "-o", "json")).lines
    assert everything[: len(exported)] == exported
    assert sum(event["kind"] == "mission.completed" for event in exported) == 2
    path.write_bytes(path.read_bytes().replace(b"worker.started", b"worker.stopped"))
    edited = await hub("recorder", "export", "--to", "e.ndjson", "--resume")
    assert (edited.code, "is not what its manifest tells of" in edited.err) == (2, True)


async def test_an_export_is_compressed_by_its_name_and_goes_to_stdout(
    hub: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    await done(hub)
    events = (await hub("recorder", "show", "-o", "json")).lines
    monkeypatch.setattr(exporting, "BATCH", 5)
    assert (await hub("recorder", "export", "--to", "e.ndjson.zst", "--no-verify")).code == 0
    text = zstd.decompress((hub.directory / "e.ndjson.zst").read_bytes())
    assert [json.loads(line) for line in text.splitlines()][: len(events)] == events
    printed = await hub.process("recorder", "export", "--kind", "mission.")
    assert [json.loads(line)["kind"] for line in printed.out.splitlines()] == [
        event["kind"] for event in events if event["kind"].startswith("mission.")
    ]


async def test_a_replay_tells_the_state_behind_any_event(hub: Shell) -> None:
    mission_id = await done(hub)
    last = (await hub("recorder", "replay", mission_id, "-o", "json")).document
    assert (last["mission"]["status"], last["counts"]) == ("COMPLETED", {"ACCEPTED": 2})
    assert last["tasks"][f"{mission_id}.0"] == {"status": "ACCEPTED", "attempt": 1, "settled_microusd": 0}
    steps = (await hub("recorder", "replay", mission_id, "--step", "-o", "json")).lines
    assert [step["index"] for step in steps] == list(range(1, len(steps) + 1))
    claimed = next(step for step in steps if step["kind"] == "task.claimed")
    place = f"{claimed['epoch']}/{claimed['seq']}"
    then = (await hub("recorder", "replay", mission_id, "--at", place, "-o", "json")).document
    assert (then["counts"], then["attempts"]) == (claimed["counts"], claimed["attempts"])
    assert then["counts"]["PENDING"] == 1
    shown = (await hub("recorder", "replay", mission_id, "--at", place)).out
    assert "PENDING=1" in shown
    assert "was not there yet" in (await hub("recorder", "replay", mission_id, "--at", "1h")).out
    assert "COMPLETED" in (await hub("recorder", "replay", mission_id, "--step")).out


async def test_verify_names_what_is_wrong_and_exits_1(operator: Shell, base: Base, tenant: str) -> None:
    for _ in range(2):
        await history.write(base, tenant, 5)
        await history.archive(base, tenant)
    whole = await operator("recorder", "verify", "--tenant", tenant, "-o", "json")
    assert whole.code == 0, whole.err
    (found,) = whole.document
    anchor = found["anchor"]
    assert (found["events"], found["wrong"], anchor["position"]) == (10, [], "1/10")
    asked = ("recorder", "verify", "--tenant", tenant, "--from", anchor["position"])
    assert (await operator(*asked, anchor["hash"])).code == 0
    other = await operator(*asked, "0" * 64)
    assert (other.code, "does not lead through the anchor 1/10" in other.out) == (1, True)
    (Path(base.settings.blob_location) / tenant / "recorder" / Segment(1, 1, 5).name).unlink()
    broken = await operator("recorder", "verify", "--tenant", tenant)
    assert broken.code == 1
    assert "NOT WHOLE" in broken.out
    assert "events 1 to 5 are missing" in broken.out


async def test_a_tenant_verifies_its_own_recorder_through_the_hub(hub: Shell, tenant: str) -> None:
    await done(hub)
    found = await hub("recorder", "verify", "-o", "json")
    assert found.code == 0, found.err
    assert [(one["tenant"], one["wrong"]) for one in found.document] == [(tenant, [])]
    assert "whole" in (await hub("recorder", "verify")).out
    wrong = await hub("recorder", "verify", "--from", "1/1", "0" * 64)
    assert wrong.code == 1
