"""What Docker asks of a container, whichever role runs in it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from chimera.serving.local.ports import free_port
from chimera.serving.node import health


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("tini -- chimera up --foreground", "http://127.0.0.1:8000/healthz"),
        ("tini -- chimera node head", "http://127.0.0.1:8000/healthz"),
        ("tini -- chimera node worker", "http://127.0.0.1:52365/api/local_raylet_healthz"),
        ("docker-init -- tini -- chimera node judge", "http://127.0.0.1:52365/api/local_raylet_healthz"),
        ("tini -- chimera model serve --host 0.0.0.0 --port 8081", "http://127.0.0.1:8081/health"),
        ("tini -- chimera model serve --port=8081", "http://127.0.0.1:8081/health"),
        ("sleep 60", "http://127.0.0.1:8000/healthz"),
    ],
)
def test_each_role_is_asked_where_it_answers(command: str, url: str) -> None:
    # As the kernel gives it, with an end behind the last word.
    assert health.asked([*command.split(), ""], {}) == url


def test_a_role_is_asked_at_the_port_that_it_was_told() -> None:
    told = {"CHIMERA_HTTP_PORT": "9000", "CHIMERA_NODE_AGENT_PORT": "9001"}
    assert ":9000/" in health.asked(["chimera", "node", "head"], told)
    assert ":9001/" in health.asked(["chimera", "node", "worker"], told)


class Answer(BaseHTTPRequestHandler):
    """Is well, unless it is told otherwise."""

    status = HTTPStatus.OK

    def do_GET(self) -> None:
        self.send_response(self.status if self.path == "/healthz" else HTTPStatus.NOT_FOUND)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (its name in the base)
        """Nothing."""


class Ill(Answer):
    """Is not well."""

    status = HTTPStatus.SERVICE_UNAVAILABLE


@pytest.fixture
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int) -> subprocess.CompletedProcess[str]:
    """As Docker does: the file by its path, apart from all that Python is told."""
    return subprocess.run(
        [sys.executable, "-I", health.__file__],
        env={**os.environ, "CHIMERA_HTTP_PORT": str(port)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("port", "code"), [(Answer, 0), (Ill, 1)], indirect=["port"])
def test_it_ends_well_only_where_all_is_well(port: int, code: int) -> None:
    assert ask(port).returncode == code


def test_where_nothing_answers_it_says_so() -> None:
    done = ask(free_port())
    assert done.returncode == 1
    assert "refused" in done.stderr
