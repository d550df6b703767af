"""Lines of a log that are no records are known by name, and the documentation has the names."""

from __future__ import annotations

from pathlib import Path

import pytest

from chimera.telemetry.record import entry, render
from chimera.telemetry.strangers import STRANGERS, kind_of, named, table, told

DOCS = Path(__file__).parents[2] / "docs/logs.md"
SEEN = {
    ":actor_name:ServeReplica:chimera:Judge": ("ray-mark", "info"),
    ":job_id:01000000": ("ray-mark", "info"),
    "Found multiple active Ray instances: {'127.0.0.1:1', '127.0.0.1:2'}. Connecting to latest cluster at "
    "127.0.0.1:1. You can override this by setting the `--address` flag or `RAY_ADDRESS` environment "
    "variable.": ("ray-many", "info"),
    "2026-11-29 00:21:37,001\tINFO usage_lib.py:448 -- Usage stats collection is disabled.": (
        "ray-cli",
        "info",
    ),
    "2026-11-29 00:28:17,715\tERROR (dashboard_agent) process_watcher.py:112 -- Raylet is terminated.": (
        "ray-cli",
        "error",
    ),
    '{"asctime":"2026-11-29 00:26:39,374","levelname":"C","message":" An unexpected system state"}': (
        "ray-json",
        "critical",
    ),
    "[2026-11-29 00:25:50,306 W 22513 22513] rpc_client.h:153: Failed to connect": ("ray-cpp", "info"),
    "*** SIGTERM received at time=1795911737 on cpu 0 ***": ("ray-signal", "info"),
    "INFO 2026-11-29 00:22:17,811 controller 17906 -- Deploying new version": ("serve", "info"),
    "I1129 00:22:34.508175   18458 fork_posix.cc:71] Other threads are currently calling into gRPC": (
        "grpc",
        "info",
    ),
    "Fatal Python error: Segmentation fault": ("python", "info"),
}
"""Lines as they were seen, the kind of each, and its level."""


@pytest.mark.parametrize("line", SEEN)
def test_a_line_of_rays_is_known_by_name(line: str) -> None:
    found = kind_of(line)
    assert found is not None
    assert (found.name, told(line)[0]) == SEEN[line]


def test_every_kind_has_been_seen() -> None:
    assert {one.name for one in STRANGERS} == {name for name, _ in SEEN.values()}


def test_a_kinds_further_lines_belong_to_it_until_the_next_that_is_known() -> None:
    record = render(entry("worker", "info", "m", {"event": "x"}))
    lines = [
        "INFO 2026-11-29 00:22:17,811 controller 17906 -- It may",
        "have more lines.",
        record,
        "Traceback (most recent call last):",
        ":job_id:01",
        "and this is nobody's",
    ]
    assert [kind for kind, _ in named(lines)] == ["serve", "goes-on", "record", "", "ray-mark", ""]


def test_the_list_in_the_documentation_is_this_one() -> None:
    assert table() in DOCS.read_text(encoding="utf-8"), "put chimera.telemetry.strangers.table() there"
