"""What agents' code can reach from the process that it runs in: nothing that is not its tenant's."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from chimera.agents.secrets import Secrets
from chimera.runtime.base import Base
from chimera.runtime.outfit import bare
from chimera.runtime.outfitter import outfit, outfit_of_spare
from chimera.runtime.secrets import TenantSecrets
from chimera.serving import enclosure
from chimera.serving.shell import WorkerActor
from chimera.settings import Settings
from tests.redis_fixtures import base, redis_server, settings, tenant
from tests.store import drive

__all__ = ["base", "redis_server", "settings", "tenant"]

HERE = Path(__file__).parent
needs_landlock = pytest.mark.skipif(not enclosure.version(), reason="this kernel has no Landlock")


def planted(owner: str) -> str:
    """A secret that can be told from all else."""
    return f"planted-{owner}-{secrets.token_hex(8)}"


@dataclass(frozen=True)
class Site:
    """A machine with secrets of two tenants."""

    settings: Settings
    directory: Path
    others: dict[str, str]
    """The hub's environment, with what is another tenant's."""
    paths: list[str]
    """Files and directories that hold it."""
    own: Secrets


@pytest.fixture
def site(settings: Settings, tenant: str, tmp_path: Path) -> Site:
    state = tmp_path / "state"
    for path in (
        state / "api.key",
        state / "secrets" / "redis_url",
        state / "logs" / "worker-b.out",
        tmp_path / "secrets" / "other" / "MODEL_API_KEY",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(planted("b"))
    mine = tmp_path / "secrets" / tenant
    mine.mkdir()
    (mine / "MODEL_API_KEY").write_text(planted("a") + "\n")
    (mine / "CRM_TOKEN").write_text(planted("a"))
    changed = settings.model_copy(
        update={
            "agents": str(HERE / "thief.py"),
            "state_dir": state,
            "tenant_secrets_dir": tmp_path / "secrets",
            "slots": 2,
            "idle_s": 60.0,
            "express_slots": 0,
            "enclosure": "require",
        }
    )
    others = {
        "CHIMERA_API_KEY": planted("b"),
        "CHIMERA_REDIS_URL": f"redis://hub:{planted('b')}@127.0.0.1:1/0",
        "CHIMERA_MODEL_API_KEY": planted("b"),
        "CHIMERA_REDIS_SECRET_FILE": str(state / "secrets" / "redis_url"),
        "RAY_AUTH_TOKEN": planted("b"),
        "OPENAI_API_KEY": planted("b"),
        "CHIMERA_STATE_DIR": str(state),
        "CHIMERA_FLEET_ID": "under-test",
    }
    paths = [
        str(state),
        *(str(path) for path in sorted(state.rglob("*")) if path.is_file()),
        str(tmp_path / "secrets"),
        str(tmp_path / "secrets" / "other" / "MODEL_API_KEY"),
        str(mine / "CRM_TOKEN"),  # its own too: it has been handed over, and the file is the hub's
        "/proc",
        "/etc/shadow",
        str(Path.home()),
    ]
    return Site(changed, tmp_path, others, paths, TenantSecrets(tmp_path / "secrets").of(tenant))


@dataclass
class Kept:
    """A keeper's process and its cell."""

    process: subprocess.Popen[bytes]
    cell: int
    log: Path

    def give(self, made: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(made.model_dump_json().encode() + b"\n")
        self.process.stdin.flush()


@pytest.fixture
def keep(site: Site) -> Iterator[Callable[[str], Kept]]:
    kept: list[Kept] = []

    def start(worker: str) -> Kept:
        log = site.directory / f"{worker}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.serving.keeper", worker],
                cwd=HERE.parents[1],
                env={**inherited, **site.others, "TMPDIR": str(site.directory)},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        one = Kept(process, 0, log)
        kept.append(one)
        while process.poll() is None and not log.read_bytes().startswith(b"cell "):
            time.sleep(0.02)  # another process' output
        one.cell = int(log.read_text().split()[1])
        return one

    yield start
    for one in kept:
        one.process.kill()
        one.process.wait()
        assert one.process.stdin is not None
        one.process.stdin.close()


async def until(holds: Callable[[], Awaitable[Any]], kept: Kept) -> Any:
    """What it gives, once it gives something."""
    async with asyncio.timeout(60):
        while not (found := await holds()):
            assert kept.process.poll() is None, kept.log.read_text()
            await asyncio.sleep(0.05)  # another process' doing
    return found


@asynccontextmanager
async def lent(path: Path) -> AsyncIterator[str]:
    """A Unix socket that gives itself to whoever asks, as the fleet's door does."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        yield str(path)


async def result(base: Base, tenant: str, kept: Kept, mission: str = "m1") -> Any:
    """The result that was handed in, before any verdict."""
    reviews = base.of(tenant).reviews

    async def handed_in() -> Any:
        return await reviews.claim("the test", secrets.token_hex(4), lease_s=30, most=1)

    (review,) = await until(handed_in, kept)
    return review.result


@needs_landlock
async def test_agents_reach_nothing_that_is_not_their_tenants(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    neighbour, kept = keep("neighbour"), keep("w1")
    kept.give(outfit(site.settings, tenant, site.own))
    async with lent(site.directory / "door") as door:
        asked = {"paths": site.paths, "neighbour": neighbour.process.pid, "socket": door}
        await drive.submit(base, tenant, drive.spec(agent="steal", inputs=[asked]), at_once=True)
        found = await result(base, tenant, kept)

    assert "planted-b" not in json.dumps(found), "another tenant's secret came back"
    assert "planted-b" not in kept.log.read_text()
    looked_at = {"environment", "own environ", "core files", "others in memory", "mine in memory"}
    looked_at |= {"others among objects", "ray", "secrets", "shown"}
    stolen = {name: said for name, said in found.items() if name not in looked_at and said[:7] != "refused"}
    assert stolen == {}
    assert found["others in memory"] == found["others among objects"] == 0
    assert found["mine in memory"] > 0, "the search finds what is there"
    assert found["ray"] == [], "Ray is not in this process"
    assert found["core files"] == "(0, 0)"
    named = [name for name in site.others if name != "CHIMERA_FLEET_ID"]
    assert not [name for name in named if name in found["environment"] or name in found["own environ"]]
    assert found["secrets"] == ["CRM_TOKEN", "MODEL_API_KEY"]
    assert found["shown"] == "<secrets CRM_TOKEN, MODEL_API_KEY>"


async def test_what_an_agent_says_of_its_secrets_stays_with_it(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    kept = keep("w1")
    kept.give(outfit(site.settings, tenant, site.own))
    stores, where = base.of(tenant), f"redis://worker:{planted('a')}@127.0.0.1:6379/0"
    mission = drive.spec(agent="leak", inputs=[{"redis": where}], max_attempts=1)
    await drive.submit(base, tenant, mission, at_once=True)

    async def failed() -> Any:
        (task,) = await stores.tasks.get_many(["m1.0"])
        return task if task.last_error else None

    task = await until(failed, kept)
    said = kept.log.read_text()
    events = [event.model_dump_json() async for _, event in stores.recorder.read()]
    assert "cannot call with ***" in task.last_error
    assert any("cannot call with ***" in event for event in events)
    for kind in ("printed", "logged", "told", "with ***", "cannot call"):
        assert kind in said, f"{kind!r} is not in the log, so nothing was shown of it"
    # What its input says is the tenant's own data, and stays as it is.
    for text in (said, repr(replace(task, input=None)), *events):
        assert "planted-a" not in text
        assert "sk-proj-0" not in text


async def test_a_spare_has_no_login_before_it_is_a_tenants_and_then_only_theirs(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    waiting = bare(outfit_of_spare(site.settings))
    assert not {"redis_url", "redis_password", "model_api_key"} & waiting.values.keys()
    assert waiting.secrets == {}
    kept = keep("spare-1")
    kept.give(waiting)
    kept.give(outfit(site.settings, tenant, site.own))

    async def beats() -> Any:
        return (await base.of(tenant).tasks.workers()).get("spare-1")

    said = await until(beats, kept)
    assert said["pid"] == str(kept.cell), "it is the cell that holds leases"


async def test_a_worker_at_work_takes_changed_secrets_over(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    kept = keep("w1")
    kept.give(outfit(site.settings, tenant, Secrets({"CRM_TOKEN": "the first"})))
    await drive.submit(base, tenant, drive.spec(agent="tell", inputs=["CRM_TOKEN"]), at_once=True)
    assert await result(base, tenant, kept) == "the first"
    kept.give(outfit(site.settings, "another", Secrets({"CRM_TOKEN": "not theirs"})))
    kept.give(outfit(site.settings, tenant, Secrets({"CRM_TOKEN": "the second"})))
    for number in itertools.count(2):
        again = drive.spec(agent="tell", inputs=["CRM_TOKEN"])
        await drive.submit(base, tenant, again, f"m{number}", at_once=True)
        said = await result(base, tenant, kept)
        assert said in {"the first", "the second"}
        if said == "the second":
            break


async def test_without_an_enclosure_the_same_thefts_succeed(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    """So it is the enclosure that stops them, and the thief is one."""
    kept = keep("w1")
    open_ = replace(site, settings=site.settings.model_copy(update={"enclosure": "off"}))
    kept.give(outfit(open_.settings, tenant, site.own))
    async with lent(site.directory / "door") as door:
        asked = {"paths": site.paths, "neighbour": kept.process.pid, "socket": door}
        await drive.submit(base, tenant, drive.spec(agent="steal", inputs=[asked]), at_once=True)
        found = await result(base, tenant, kept)
    for name in ("environ of the parent", "Unix socket", *site.paths[1:4]):
        assert not found[name].startswith("refused"), name
    assert "planted-b" in found["environ of the parent"]
    assert "planted-b" not in found["environment"] + found["own environ"], "that needs no enclosure"


async def test_a_cell_ends_with_whoever_started_it(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    kept = keep("w1")
    kept.give(outfit(site.settings, tenant, site.own))

    async def beats() -> Any:
        return (await base.of(tenant).tasks.workers()).get("w1")

    await until(beats, kept)
    ended = os.pidfd_open(kept.cell)
    kept.process.kill()
    async with asyncio.timeout(30):
        gone = asyncio.Event()
        asyncio.get_running_loop().add_reader(ended, gone.set)
        await gone.wait()
        asyncio.get_running_loop().remove_reader(ended)
    os.close(ended)


async def test_a_cell_tells_its_keeper_how_many_slots_are_in_use_and_is_taken_for_no_more(
    site: Site, base: Base, tenant: str, keep: Callable[[str], Kept]
) -> None:
    kept = keep("w1")
    kept.give(outfit(site.settings, tenant, site.own))

    async def says(busy: int) -> bool:
        return f"slots in use: {busy}\n" in kept.log.read_text()

    await until(lambda: says(0), kept)
    mission = drive.spec(agent="linger", inputs=["x"], max_attempts=1)
    await drive.submit(base, tenant, mission, at_once=True)
    await until(lambda: says(1), kept)
    babbling = drive.spec(agent="babble", inputs=["x"], max_attempts=1)
    await drive.submit(base, tenant, babbling, "m2", at_once=True)
    assert await result(base, tenant, kept, "m2") == "babbled"
    said = [line for line in kept.log.read_text().splitlines() if line.startswith("slots in use")]
    assert {int(line.rpartition(" ")[2]) for line in said} <= {0, 1, 2}


def test_a_worker_says_on_rays_page_what_it_is_and_whose() -> None:
    worker, spare = WorkerActor.__new__(WorkerActor), WorkerActor.__new__(WorkerActor)
    worker.tenant, worker.worker_id, worker.slots = "acme", "acme-3f2a", 16
    spare.tenant, spare.worker_id, spare.slots = "", "spare-7", 16
    assert repr(worker) == "worker of acme, acme-3f2a, 16 slots"
    assert repr(spare) == "spare, spare-7, 16 slots"


def test_a_second_tenant_gets_nothing_from_a_worker_that_is_anothers(site: Site) -> None:
    actor = WorkerActor.__new__(WorkerActor)
    actor.tenant = "first"
    made = outfit(site.settings, "second", Secrets({"KEY": planted("b")}))
    assert actor.equip(made.model_dump_json().encode()) == "first"
