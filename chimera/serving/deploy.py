"""Deploys the hub's Serve application on a running or starting head, then ends; the application stays.

    python -m chimera.serving.deploy --address 127.0.0.1:PORT --app chimera.serving.app:build
    python -m chimera.serving.deploy --address 127.0.0.1:PORT --end

The second ends it: its parts finish, or hand back, what is under way.

Imports take seconds, so it is started together with the head and waits for it. Each step is one
JSON line on stdout: ``{"event": "connected"}``, ``{"event": "deployed"}`` or ``{"event": "ended"}``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import ray
from ray import serve

from chimera.errors import BackendError, ChimeraError, ConfigurationError
from chimera.telemetry.logs import begin

NAME = "chimera"
"""The application's name, and the Ray namespace of the hub's actors."""

LOGGING = {"encoding": "JSON", "enable_access_log": False}
"""Serve's own lines, as serve_config.yaml has them."""

HEAD_S = 300.0
"""Longer than the head's start is tried (`local/ray_head.py`); whoever gives that up ends this process."""
POLL_S = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; 0 when the application is healthy, or has ended; 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m chimera.serving.deploy")
    parser.add_argument("--address", required=True, help="host:port of Ray's GCS")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--app", help="module:function that builds the application")
    what.add_argument("--end", action="store_true", help="end the application")
    options = parser.parse_args(arguments)
    begin("deploy", "stderr", capture_print=False)
    try:
        build = None if options.end else load(options.app)
        wait_for_node(options.address, HEAD_S)
        ray.init(address=options.address, namespace=NAME, log_to_driver=False, configure_logging=False)
        _say("connected")
        if build is None:
            serve.shutdown()  # type: ignore[no-untyped-call]  # (Serve gives it no types)
            _say("ended")
            return 0
        # The gateway answers itself (chimera.serving.door): no proxy.
        serve.start(proxy_location="Disabled", logging_config=LOGGING)
        serve.run(build({}), name=NAME, route_prefix="/", blocking=False, logging_config=LOGGING)
    except ChimeraError as exc:
        sys.stderr.write(f"{exc}\n")
        return 1
    _say("deployed")
    ray.shutdown()
    return 0


def load(path: str) -> Any:
    """The builder that ``module:function`` names.

    Raises:
        ConfigurationError: there is none.
    """
    module, _, name = path.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as exc:
        raise ConfigurationError(f"no Serve application at {path}: {exc}") from exc


def wait_for_node(address: str, timeout_s: float) -> None:
    """Wait until the head's raylet has registered; its GCS answers long before that.

    Raises:
        BackendError: it has not in time.
    """
    deadline = time.monotonic() + timeout_s
    gcs_client: Any = importlib.import_module("ray._raylet").GcsClient  # untyped
    host, _, port = address.rpartition(":")
    while time.monotonic() < deadline:
        nodes = {}
        # A closed port is tried first: Ray's client takes 40 s to give up on one.
        with suppress(OSError, ray.exceptions.RpcError), socket.create_connection((host, int(port)), 1):
            nodes = gcs_client(address=address).get_all_node_info(timeout=1.0)
        if any(node.state == 0 and node.is_head_node for node in nodes.values()):  # GcsNodeInfo.ALIVE
            return
        time.sleep(POLL_S)
    raise BackendError(f"the Ray head at {address} has no node after {timeout_s:g} s")


def _say(event: str) -> None:
    sys.stdout.write(json.dumps({"event": event}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
