"""What a local fleet changes of a Ray node before it starts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from chimera.serving.local.ray_hook import prepare


def test_two_nodes_of_one_machine_never_share_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    nodes = [SimpleNamespace(), SimpleNamespace()]
    for node in nodes:
        prepare(node, head=False)
    names = {name for node in nodes for name in vars(node).values()}
    assert len(names) == 4
    assert max(map(len, names)) < 107, "a socket's path may not be longer"


def test_a_head_names_its_sockets_itself_and_has_no_server_for_clients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHIMERA_STATE_DIR", str(tmp_path))
    head = SimpleNamespace(ray_client_server_port=10001)
    prepare(head, head=True)
    assert vars(head) == {"ray_client_server_port": None}
