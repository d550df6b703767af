"""What a node refuses: in a record with the next step, for a container's log has nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from chimera.errors import ConfigurationError, Conflict
from chimera.serving import enclosure
from chimera.serving.local.process import ProcessId
from chimera.serving.local.state import StateDir
from chimera.serving.node.head import Head
from chimera.serving.node.place import Place, take
from chimera.settings import load
from chimera.telemetry.logs import parse
from tests.serving.node.node import Node

TOKEN = {"CHIMERA_NODE_TOKEN": "t" * 32}
REDIS = {"CHIMERA_REDIS_URL": "redis://127.0.0.1:1/0"}
HEAD = {"CHIMERA_NODE_ADDRESS": "chimera-core:6380"}


@pytest.mark.parametrize(
    ("role", "variables", "said"),
    [
        ("head", REDIS, ("CHIMERA_NODE_TOKEN", "openssl rand -hex 32")),
        ("worker", HEAD, ("CHIMERA_NODE_TOKEN_FILE", "the same on all")),
        ("head", TOKEN, ("CHIMERA_REDIS_URL",)),
        ("head", {**TOKEN, **REDIS, "CHIMERA_REDIS_USERS": "roles"}, ("CHIMERA_REDIS_SECRET",)),
        ("worker", TOKEN, ("CHIMERA_NODE_ADDRESS", "chimera-core:6380")),
        ("judge", {**TOKEN, **REDIS}, ("CHIMERA_NODE_ADDRESS",)),
        ("judge", {**TOKEN, **HEAD}, ("CHIMERA_REDIS_URL",)),
        ("worker", {**TOKEN, "CHIMERA_NODE_ADDRESS": "chimera-core"}, ("NODE_ADDRESS: write host:port",)),
        ("worker", {**TOKEN, "CHIMERA_NODE_ADDRESS": "core:70000"}, ("NODE_ADDRESS: write host:port",)),
        ("worker", {**TOKEN, **HEAD, "CHIMERA_NODE_IP": "core"}, ("CHIMERA_NODE_IP", "'core'")),
        ("head", {"CHIMERA_NODE_TOKEN": "short"}, ("CHIMERA_NODE_TOKEN", "at least 32")),
        ("judge", {**TOKEN, "CHIMERA_JUDGE_RESOURCE": "a judge"}, ("CHIMERA_JUDGE_RESOURCE",)),
    ],
)
def test_a_wrong_environment_is_one_record_that_says_what_to_set(
    role: str, variables: Mapping[str, str], said: tuple[str, ...], tmp_path: Path
) -> None:
    node = Node(role, tmp_path / "node", variables)
    try:
        assert node.process.wait(60) == 2
        (record,) = [one for one in parse(node.lines()) if one.event == "node.failed"]
        assert (record.role, record.level) == ("node", "error")
        assert all(words in record.message for words in said), record.message
        assert "t" * 32 not in "".join(node.lines())
    finally:
        node.clean()


def test_a_head_that_cannot_enclose_agents_as_it_must_says_so_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(enclosure, "version", lambda: 0)
    settings = load(state_dir=tmp_path, redis_url=REDIS["CHIMERA_REDIS_URL"], enclosure="require")
    place = Place(StateDir(settings.state_dir), frozenset())
    with pytest.raises(ConfigurationError, match=r"no Landlock.*STACK_ENCLOSURE=auto"):
        Head(settings, place)
    enclosure.see_that_it_can("auto")


def test_two_nodes_never_share_a_directory(tmp_path: Path) -> None:
    settings = load(state_dir=tmp_path / "state", node_token="t" * 32)
    state = StateDir(settings.state_dir)
    try:
        with ExitStack() as held, state.locked(), pytest.raises(Conflict, match="CHIMERA_STATE_DIR"):
            take(settings, held)
    finally:
        state.forget()


def test_a_node_has_the_token_in_a_file_of_its_own_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: list[StateDir] = []

    def fork(state: StateDir) -> ProcessId | None:
        forked.append(state)
        return None

    # A fork of the tests' own process would hold its files.
    monkeypatch.setattr("chimera.serving.local.reaper.fork", fork)
    monkeypatch.setenv("CHIMERA_FLEET_ID", "")
    settings = load(state_dir=tmp_path / "state", node_token="t" * 32)
    with ExitStack() as held:
        place = take(settings, held)
        try:
            assert place.state.ray_token.read_text("utf-8") == "t" * 32
            assert place.state.ray_token.stat().st_mode & 0o777 == 0o600
            assert place.state.short.stat().st_mode & 0o777 == 0o700
            assert forked == [place.state]
            assert not place.state.api_key.exists(), "a key that nobody would let in"
        finally:
            place.state.forget()
