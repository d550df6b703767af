"""Processes of a fleet begin as they go on: what fails at their very start is a record, no raw traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chimera.telemetry.record import LogRecord

BREAKS = """
import runpy, sys
def broken(*_):
    raise RuntimeError("at the start")
{prepare}
sys.argv = {argv}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""
"""The module as the fleet runs it, where the first thing it does fails."""

ENTRANCES = {
    "chimera.serving.cell": "import chimera.agents.models.embedded as m; m.die_with_parent = broken",
    "chimera.serving.describing": "import chimera.agents.models.embedded as m; m.die_with_parent = broken",
    "chimera.serving.local": "import chimera.settings as m; m.load = broken",
    "chimera.agents.models.embedded": "import chimera.settings as m; m.load = broken",
}


@pytest.mark.parametrize("module", ENTRANCES)
def test_what_fails_at_the_start_is_a_record(module: str) -> None:
    code = BREAKS.format(prepare=ENTRANCES[module], argv=[module], module=module)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    (line,) = [one for one in (done.stdout + done.stderr).splitlines() if "at the start" in one]
    record = LogRecord.model_validate_json(line)
    assert done.returncode == 1
    assert (record.event, record.level) == ("crash", "critical")
    assert "RuntimeError: at the start" in record.exception
