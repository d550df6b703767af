"""A cluster of nodes, each told all by its environment: what dies, or is told to end, loses nothing.

One cluster serves the whole module, in order.
"""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chimera.chaos.site import AGENTS
from chimera.serving.local import remains
from chimera.serving.local.ports import LOOPBACK, free_ports
from chimera.serving.local.redis_server import RedisServer
from chimera.serving.titles import CELL, PARTS
from chimera.telemetry.logs import parse
from tests.acceptance.conftest import eventually
from tests.serving.node.node import Node
from tests.sharing import starting

pytestmark = [pytest.mark.ray, pytest.mark.chaos, pytest.mark.timeout(900)]

TASKS = 4
START_S = 300.0
KEY = f"chi_{secrets.token_urlsafe(24)}"


class Cluster:
    """Redis, and nodes that come and go."""

    def __init__(self, directory: Path, redis: RedisServer) -> None:
        http, gcs, dashboard = free_ports(3)
        self._directory, self._numbers = directory, itertools.count(1)
        self.url = f"http://{LOOPBACK}:{http}"
        self.nodes: list[Node] = []
        everybody = {
            "CHIMERA_NODE_TOKEN": secrets.token_hex(32),
            "CHIMERA_NODE_ADDRESS": f"{LOOPBACK}:{gcs}",
            # Here they are all on one machine.
            "CHIMERA_NODE_AGENT_PORT": "0",
            "CHIMERA_NODE_METRICS_PORT": "0",
            "CHIMERA_BLOB_URL": str(directory / "blobs"),
            "CHIMERA_PREEMPT_S": "1",
        }
        judge = {
            "CHIMERA_REDIS_URL": f"redis://{LOOPBACK}:{redis.port}/0",
            "CHIMERA_REDIS_USERS": "roles",
            "CHIMERA_REDIS_SECRET": secrets.token_hex(32),
        }
        hub = {
            "CHIMERA_REDIS_PASSWORD": redis.password,
            "CHIMERA_API_KEY": KEY,
            "CHIMERA_JUDGE_RESOURCE": "judge",
            "CHIMERA_HTTP_PORT": str(http),
            "CHIMERA_RAY_PORT": str(gcs),
            "CHIMERA_DASHBOARD_PORT": str(dashboard),
            "CHIMERA_AGENTS": AGENTS,
            "CHIMERA_MAX_WORKERS": "2",
        }
        self.redis = redis
        self.told = {
            "worker": everybody,
            "judge": {**everybody, **judge},
            "head": {**everybody, **judge, **hub},
        }

    def start(self, role: str) -> Node:
        directory = self._directory / f"{role}-{next(self._numbers)}"
        self.nodes.append(node := Node(role, directory, self.told[role]))
        return node

    def brings_up(self, role: str) -> Node:
        """Start it, and wait until the whole fleet is ready."""
        node = self.start(role)
        assert eventually(self.ready, START_S), "\n".join(node.lines()[-20:])
        return node

    def call(self, method: str, path: str, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {KEY}"}
        answer = httpx.request(method, self.url + path, headers=headers, timeout=30, trust_env=False, **more)
        return answer.raise_for_status().json()

    def ready(self) -> bool:
        """All parts are well, and the agents are known: the hub has them described beside its start."""
        try:
            named = {one["name"] for one in self.call("GET", "/v1/agents")["items"]}
            return "chaos-drill" in named and bool(self.call("GET", "/readyz")["ready"])
        except httpx.HTTPError:
            return False

    def submit(self, seconds: float) -> str:
        inputs = [
            {"n": n, "seconds": seconds, "pays": False, "fails": False, "hook": ""} for n in range(TASKS)
        ]
        asked = {"goal": "Accept it.", "agent": "chaos-drill", "inputs": inputs, "budget_usd": "0.01"}
        return str(self.call("POST", "/v1/missions", json=asked)["mission_id"])

    def mission(self, mission_id: str) -> Any:
        return self.call("GET", f"/v1/missions/{mission_id}")

    def stands(self, mission_id: str, status: str) -> Callable[[], bool]:
        """Whether all tasks of a mission have come to a status."""

        def look() -> bool:
            try:
                return bool(self.mission(mission_id)["counts"][status] == TASKS)
            except httpx.HTTPError:  # its hub is being replaced
                return False

        return look


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    directory = tmp_path_factory.mktemp("cluster")
    with RedisServer(directory / "redis", maxmemory_bytes=1 << 28) as redis:
        found = Cluster(directory, redis)
        try:
            yield found
        finally:
            for node in found.nodes:
                node.clean()


@pytest.fixture(scope="module")
def head(cluster: Cluster) -> Node:
    """All of them at once, the head last: containers start in any order."""
    with starting():
        cluster.start("worker")
        cluster.start("judge")
        return cluster.brings_up("head")


def last(cluster: Cluster, role: str) -> Node:
    """The newest node of a role."""
    return [node for node in cluster.nodes if node.out.parent.name.startswith(role)][-1]


def test_a_mission_from_outside_is_worked_on_and_judged(cluster: Cluster, head: Node) -> None:
    mission_id = cluster.submit(0.1)
    assert eventually(cluster.stands(mission_id, "ACCEPTED"), START_S)
    assert cluster.mission(mission_id)["tallies"] == {}


def test_each_part_runs_on_its_own_node_and_finds_no_more_than_it_needs(cluster: Cluster, head: Node) -> None:
    worker, judge = last(cluster, "worker"), last(cluster, "judge")
    assert judge.runs(PARTS["judge"])
    assert not [node for node in (head, worker) if node.runs(PARTS["judge"])]
    for part in ("gateway", "orchestrator", "governor"):
        assert head.runs(PARTS[part]), part
        assert not [node for node in (worker, judge) if node.runs(PARTS[part])], part
    assert not [node for node in (head, judge) if node.runs(CELL)], "a tenant's code"
    seen = {
        name: "\n".join(f"{key}={value}" for key, value in one.environ().items())
        for name, (one, *_) in {
            "gateway": head.titled(PARTS["gateway"]),
            "judge": judge.titled(PARTS["judge"]),
            "worker": worker.titled("ray::WorkerActor"),
        }.items()
    }
    told = cluster.told["head"]
    for name, shown in seen.items():
        hidden = ("NODE_TOKEN", "REDIS_PASSWORD", "REDIS_SECRET", "API_KEY")
        assert not [one for one in hidden if told[f"CHIMERA_{one}"] in shown], name
    assert "REDIS_SECRET_FILE" in seen["judge"]
    assert "REDIS" not in seen["worker"], "its login is its tenant's, and comes from the hub"


def test_a_worker_s_node_that_dies_takes_no_result_with_it(cluster: Cluster, head: Node) -> None:
    mission_id = cluster.submit(5)
    assert eventually(cluster.stands(mission_id, "PENDING"))
    last(cluster, "worker").crash()
    cluster.start("worker")
    assert eventually(cluster.stands(mission_id, "ACCEPTED"), START_S)
    assert cluster.mission(mission_id)["tallies"] == {"crashes": TASKS}


def test_a_worker_s_node_that_is_told_to_end_hands_back_and_goes_in_peace(
    cluster: Cluster, head: Node
) -> None:
    node = last(cluster, "worker")
    mission_id = cluster.submit(8)
    assert eventually(cluster.stands(mission_id, "PENDING"))
    assert node.end() == 0
    assert remains.find(node.state) == []
    cluster.start("worker")
    assert eventually(cluster.stands(mission_id, "ACCEPTED"), START_S)
    assert cluster.mission(mission_id)["tallies"] == {}, "nothing of it was counted"


def test_while_the_judge_s_node_is_away_nothing_is_accepted_and_nothing_lost(
    cluster: Cluster, head: Node
) -> None:
    assert last(cluster, "judge").end() == 0
    mission_id = cluster.submit(0.1)
    assert eventually(cluster.stands(mission_id, "REVIEW"), START_S)
    assert not [node for node in cluster.nodes if node.process.poll() is None and node.runs(PARTS["judge"])]
    cluster.start("judge")
    assert eventually(cluster.stands(mission_id, "ACCEPTED"), START_S)


def test_nodes_join_the_head_that_comes_after_one_that_died(cluster: Cluster, head: Node) -> None:
    mission_id = cluster.submit(1)
    head.crash()
    with starting():
        cluster.brings_up("head")
    assert eventually(cluster.stands(mission_id, "ACCEPTED"), START_S)
    assert last(cluster, "worker").process.poll() is None
    assert last(cluster, "judge").process.poll() is None


def test_a_head_whose_ray_dies_ends_so_that_it_is_started_again(cluster: Cluster, head: Node) -> None:
    node = last(cluster, "head")
    for one in node.titled("gcs_server"):
        one.kill()
    assert node.process.wait(120) == 4
    assert remains.find(node.state) == []
    (failed,) = [record for record in parse(node.lines()) if record.event == "node.failed"]
    assert "Ray's head ended" in failed.message


def test_a_head_that_is_told_to_end_does_so_in_peace_and_leaves_nothing(cluster: Cluster, head: Node) -> None:
    with starting():
        node = cluster.brings_up("head")
    assert node.end() == 0
    assert remains.find(node.state) == []


def test_all_that_nodes_ever_wrote_is_records(cluster: Cluster, head: Node) -> None:
    for node in cluster.nodes:
        written = parse(node.lines())  # raises where a line is none
        assert written, node.out
        assert node.err.read_text("utf-8") == ""
        told = cluster.told["head"]
        said = "".join(node.lines())
        assert not [
            name for name in ("NODE_TOKEN", "REDIS_SECRET", "API_KEY") if told[f"CHIMERA_{name}"] in said
        ]
