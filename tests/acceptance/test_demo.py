"""`chimera demo`, as a person without a terminal runs it.

It starts a fleet of its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chimera.serving.local import remains
from chimera.serving.local.ports import free_port
from chimera.serving.local.state import StateDir
from tests.acceptance.conftest import BIN, ROOT, Shell, clean

pytestmark = [
    pytest.mark.ray,
    pytest.mark.acceptance,
    pytest.mark.timeout(420),
]


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """The checkout, with a state directory and a port of the test's own; whatever stays is ended."""
    environment = {"CHIMERA_STATE_DIR": str(tmp_path), "CHIMERA_HTTP_PORT": str(free_port())}
    yield Shell(ROOT, {**clean(), **environment})
    remains.sweep(demo_state(tmp_path))


def demo_state(directory: Path) -> StateDir:
    return StateDir(directory / "demo")


def test_the_demo_shows_work_refusal_and_recovery_and_leaves_nothing(shell: Shell, tmp_path: Path) -> None:
    done = shell("demo", timeout_s=360).ok()
    for stage in ("redis", "model", "ray", "serve", "fleet"):
        assert re.search(rf"^  {stage} +ready +\d+\.\d s", done.out, re.MULTILINE), stage
    assert "SmolLM2-135M-Instruct" in done.out
    assert "CHIMERA_MODEL and CHIMERA_MODEL_URL" in done.out

    _, work, refusal, survival = re.split(r"^Act [234]: .*$", done.out, flags=re.MULTILINE)
    accepted = re.search(r"COMPLETED: (\d+) of \d+ accepted", work)
    assert accepted
    assert int(accepted[1]) == work.count("✓ ") > 0
    assert re.search(r"accept \d\.\d\d", work)
    assert re.search(r"FAILED.*budget_exceeded.*\$0\.000\d+ of \$0\.000200", refusal, re.DOTALL)
    assert re.search(r"SIGKILL to worker \S+ \(pid \d+\), with \d+ tasks in hand", survival)
    recovered = re.search(r"the worker died, the work did not: (\d+) of (\d+) accepted", survival)
    assert recovered
    assert recovered[1] == recovered[2]

    assert done.err.splitlines()[-1] == "the fleet has ended"
    assert "Traceback" not in done.out + done.err
    assert not remains.find(demo_state(tmp_path))


def test_ctrl_c_during_the_demos_start_leaves_nothing_and_prints_no_traceback(
    shell: Shell, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [BIN / "chimera", "demo"],
        cwd=shell.directory,
        env=dict(shell.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as demo:
        assert demo.stdout
        assert demo.stderr
        shown = ""
        while not re.search(r"ray +started", shown):
            line = demo.stdout.readline()
            assert line, demo.stderr.read()
            shown += line
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does
        out, err = demo.communicate(timeout=60)
    assert demo.returncode == 130, out + err
    assert "Traceback" not in out + err
    assert err.splitlines()[-1] == "nothing is left running"
    assert not remains.find(demo_state(tmp_path))
