"""What a node tells Ray: where it is, what it offers, and which secrets its processes find."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chimera.serving.backend import PLACE, PREFIX
from chimera.serving.local import environment
from chimera.serving.local.ray_head import RayHead
from chimera.serving.local.state import StateDir
from chimera.serving.node.head import Head
from chimera.serving.node.login import HUBS, JUDGES, without_operator
from chimera.serving.node.member import JUDGE, SWARM, Duty, Member
from chimera.serving.node.place import Place
from chimera.settings import Settings, load

# Ray Serve's own module declares a field in a way that pydantic deprecates.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")
OPERATOR = "password-of-the-operator"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    state = StateDir(tmp_path / "state")
    state.make_directories()
    yield Place(state, frozenset())
    state.forget()


def settings(place: Place, **more: Any) -> Settings:
    given = {
        "redis_url": f"redis://:{OPERATOR}@redis:6379/0",
        "redis_users": "roles",
        "redis_secret": "m" * 40,
        "node_token": "t" * 32,
        "node_address": "chimera-core:6380",
        "model_api_key": "key-of-the-model",
        "api_key": "chi_of-a-tenant",
    }
    return load(state_dir=place.state.path, **{**given, **more})


def command(duty: Duty, place: Place, host: str, **more: Any) -> list[str]:
    return Member(duty, settings(place, **more), place).ray_node(host).command()


def offered(words: list[str]) -> Any:
    (said,) = [word.partition("=")[2] for word in words if word.startswith("--resources=")]
    return json.loads(said)


def test_a_worker_s_node_has_one_place_and_no_processor_for_the_hub(place: Place) -> None:
    words = command(Duty.WORKER, place, "10.0.0.7")
    assert offered(words) == {SWARM: 1}
    assert PLACE[PREFIX] == SWARM
    said = {"--block", "--address=chimera-core:6380", "--node-ip-address=10.0.0.7", "--num-cpus=0"}
    assert said | {f"--temp-dir={place.state.ray_temp}"} <= set(words)


@pytest.mark.parametrize(("chosen", "found"), [("", JUDGE), ("court", "court")])
def test_a_judge_s_node_offers_what_the_judge_asks_for(
    place: Place, chosen: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert offered(command(Duty.JUDGE, place, "10.0.0.8", judge_resource=chosen)) == {found: 1}
    monkeypatch.setenv("CHIMERA_JUDGE_RESOURCE", found)
    from ray.serve._private.build_app import build_app

    from chimera.serving.app import build

    options = {
        one.name: one.ray_actor_options or {} for one in build_app(build({}), name="chimera").deployments
    }
    assert (options["Judge"]["num_cpus"], options["Judge"]["resources"]) == (0, {found: 0.001})
    assert not [name for name in ("Gateway", "Orchestrator") if options[name].get("resources")]


def test_ports_are_those_that_are_published_unless_they_are_to_be_free_ones(place: Place) -> None:
    words = command(Duty.WORKER, place, "10.0.0.7")
    assert {"--metrics-export-port=8080", "--dashboard-agent-listen-port=52365"} <= set(words)
    free = command(Duty.WORKER, place, "10.0.0.7", node_metrics_port=0, node_agent_port=0)
    assert not [word for word in free if word.endswith(("=0", "=8080", "=52365")) and "agent-listen" in word]


def test_on_loopback_a_node_stays_there_and_elsewhere_it_does_not(place: Place) -> None:
    assert "chimera.serving.local.ray_join" in command(Duty.WORKER, place, "127.0.0.1")
    assert "chimera.serving.local.ray_join" not in command(Duty.WORKER, place, "10.0.0.7")
    stays = environment.STAYS_ON_LOOPBACK
    assert environment.of_node(settings(place), place.state, host="127.0.0.1")[stays] == "0"
    assert stays not in environment.of_node(settings(place), place.state, host="10.0.0.7")


def test_the_head_tells_ray_the_address_that_others_reach_it_by(place: Place) -> None:
    ray = RayHead(
        place.state,
        port=6380,
        dashboard_port=8265,
        places=0,
        env={},
        on_retry=print,
        host="10.0.0.2",
        metrics_port=8080,
        agent_port=52365,
    )
    words = ray._command()
    assert ray.address == "10.0.0.2:6380"
    assert offered(words) == {"hub": 1}, "no place for a tenant's code beside the hub"
    assert {"--port=6380", "--node-ip-address=10.0.0.2", "--dashboard-host=0.0.0.0"} <= set(words)
    assert {"--metrics-export-port=8080", "--dashboard-agent-listen-port=52365"} <= set(words)


def everything(place: Place, names: frozenset[str], given: Settings) -> str:
    """All that a process of the node can read: its environment, and the files that this names."""
    found = environment.of_node(given, place.state, host="10.0.0.7", secrets=names)
    files = [
        Path(path) for name, path in found.items() if name.startswith("CHIMERA_") and name.endswith("_FILE")
    ]
    assert {file.stat().st_mode & 0o777 for file in files} <= {0o600}
    return json.dumps(found) + "".join(file.read_text("utf-8") for file in files)


def test_a_worker_s_node_has_no_login_and_no_secret(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "key-of-somebody")
    shown = everything(place, frozenset(), settings(place))
    secrets = (
        OPERATOR,
        "m" * 40,
        "t" * 32,
        "key-of-the-model",
        "chi_of-a-tenant",
        "key-of-somebody",
        "redis:",
    )
    assert not [secret for secret in secrets if secret in shown]
    assert not list(place.state.secrets.iterdir())


def test_a_judge_s_node_has_what_its_login_is_derived_from_and_not_the_operator_s(place: Place) -> None:
    given, login = without_operator(settings(place, redis_password="also-the-operators"))
    shown = everything(place, login | JUDGES, given)
    assert all(needed in shown for needed in ("redis://redis:6379/0", "m" * 40, "key-of-the-model"))
    assert not [no for no in (OPERATOR, "also-the-operators", "t" * 32, "chi_of-a-tenant") if no in shown]


def test_the_operator_s_login_stays_with_the_head_s_own_process(place: Place) -> None:
    given, login = without_operator(settings(place, redis_password="also-the-operators"))
    shown = everything(place, login | HUBS, given)
    assert "chi_of-a-tenant" in shown
    assert not [no for no in (OPERATOR, "also-the-operators", "t" * 32) if no in shown]


def test_where_all_log_in_as_one_the_parts_of_the_hub_have_that_login(place: Place) -> None:
    given, login = without_operator(settings(place, redis_users="single", redis_secret=None))
    assert OPERATOR in everything(place, login | HUBS, given)


def test_the_head_is_told_the_hub_s_own_address_unless_somebody_chose_one(place: Place) -> None:
    head = Head(settings(place, http_host="0.0.0.0", node_ip="10.0.0.2"), place)
    head._host = "10.0.0.2"
    assert head._url == "http://10.0.0.2:8000"
