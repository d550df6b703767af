"""Stand-ins for base images are made where nobody can take them for the images; no engine is needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy import standins
from tests.deploy.engine import Engine

DOCKER = """#!/bin/sh
echo "$1" >>"{called}"
case $1 in
pull) echo 'lookup registry: no such host' >&2 && exit 1 ;;
image) exit 1 ;;
esac
"""


def test_a_pull_that_fails_puts_nothing_into_somebodys_engine(tmp_path: Path) -> None:
    client, called = tmp_path / "docker", tmp_path / "called"
    client.write_text(DOCKER.format(called=called), encoding="utf-8")
    client.chmod(0o755)
    with pytest.raises(
        AssertionError, match=r"pull failed: python:3\.11-slim: lookup registry: no such host"
    ):
        standins.prepare(Engine("unix:///nowhere", str(client), ours=False))
    assert called.read_text("utf-8").split() == ["image", "pull"]
