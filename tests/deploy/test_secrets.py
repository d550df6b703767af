"""What `docker/secrets` writes: random values, once, for its owner alone; no engine is needed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.deploy.engine import ROOT


def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """As from a shell whose files others may read."""
    return subprocess.run(
        [ROOT / "docker/secrets", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        umask=0o022,
    )


def test_the_file_is_its_owners_alone_from_the_start(tmp_path: Path) -> None:
    """As `docker/secrets` itself makes it: a shell's `>` would open the file with the shell's own umask."""
    made = tmp_path / ".env"
    assert run(made).returncode == 0
    assert made.stat().st_mode & 0o777 == 0o600
    assert all(line.partition("=")[2] for line in made.read_text("utf-8").splitlines())


def test_values_that_are_in_use_are_not_written_over(tmp_path: Path) -> None:
    made = tmp_path / ".env"
    run(made)
    before = made.read_text("utf-8")
    refused = run(made)
    assert refused.returncode == 1
    assert "is there already" in refused.stderr
    assert made.read_text("utf-8") == before


def test_nothing_is_written_where_a_link_leads(tmp_path: Path) -> None:
    made = tmp_path / ".env"
    made.symlink_to(tmp_path / "elsewhere")
    assert run(made).returncode == 1
    assert os.listdir(tmp_path) == [".env"]


def test_without_a_file_to_write_it_says_how_it_is_used() -> None:
    done = run()
    assert (done.returncode, done.stdout) == (2, "")
    assert "docker/secrets docker/.env" in done.stderr
