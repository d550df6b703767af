"""The audit asks for every pin of the lock, and fails on an advisory, or without an answer.

The service of advisories is a stand-in on loopback with osv.dev's interface; what asks it is the gate itself.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from packaging.markers import Marker

from tests.ci.makefile import ROOT
from tests.ci.seedling import Seedling

ADVISORY = {
    "id": "PYSEC-2026-1",
    "summary": "Numbers may be read as words.",
    "affected": [{"package": {"name": "numbers", "ecosystem": "PyPI"}, "versions": ["1.0"]}],
}
LOCKED = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PINNED = "==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n"


class Advisories(ThreadingHTTPServer):
    """Answers what osv.dev's `/v1/query` would, with one advisory, on one package."""

    daemon_threads = True

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.against = ""
        super().__init__(("127.0.0.1", 0), Query)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1/query"


class Query(BaseHTTPRequestHandler):
    """One question, for one version of one package."""

    server: Advisories

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = asked["package"]["name"]
        self.server.asked.add(f"{name}=={asked['version']}")
        body = json.dumps({"vulns": [ADVISORY]} if name == self.server.against else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base)
        """Nothing."""


@pytest.fixture
def advisories() -> Iterator[Advisories]:
    with Advisories() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def tree(tmp_path: Path) -> Seedling:
    """With a pin in each lock: to ask for all takes as long as the gate's other steps together."""
    made = Seedling(tmp_path / "tree", harness=False)
    made.write("requirements.lock", f"letters{PINNED}")
    made.write("requirements-uv.lock", f"numbers{PINNED}")
    made.write("docker/requirements.lock", f"shapes{PINNED}")
    return made


def test_every_pin_is_asked_for_and_none_is_known_to_be_bad(tree: Seedling, advisories: Advisories) -> None:
    outcome = tree.gate("audit", OSV_URL=advisories.url)
    assert (outcome.code, outcome.failed) == (0, []), outcome.said
    assert advisories.asked == {"letters==1.0", "numbers==1.0", "shapes==1.0"}


def test_an_advisory_on_one_of_them_fails(tree: Seedling, advisories: Advisories) -> None:
    advisories.against = "numbers"
    outcome = tree.gate("audit", OSV_URL=advisories.url)
    assert (outcome.code, outcome.failed) == (1, ["audit"]), outcome.said
    assert "PYSEC-2026-1" in outcome.said


def test_a_service_that_does_not_answer_is_no_good_news(tree: Seedling) -> None:
    outcome = tree.gate("audit", OSV_URL="http://127.0.0.1:9/v1/query")
    assert (outcome.code, outcome.failed) == (1, ["audit"]), outcome.said


def test_the_audit_reads_every_pin_of_the_lock() -> None:
    pins = re.findall(r"^([\w.-]+==[^ ]+)(?: ; (.*?))? \\$", LOCKED, re.MULTILINE)
    here = [pin for pin, marker in pins if not marker or Marker(marker).evaluate()]
    arguments = ("--dry-run", "--progress-spinner", "off", "--strict", "--disable-pip", "--require-hashes")
    done = subprocess.run(
        [sys.executable, "-m", "pip_audit", *arguments, "--requirement", "requirements.lock"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=100,
    )
    assert f"would have audited {len(here)} packages" in done.stderr
