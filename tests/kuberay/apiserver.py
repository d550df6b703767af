"""The emulated API server: HTTPS on loopback, callers known by their certificates, and the few routes that
Ray's autoscaler calls. It is no Kubernetes: nothing is watched, stored or authorised by roles.
"""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import trustme

from chimera.serving.local.ports import LOOPBACK, free_port
from tests.kuberay.objects import Objects, Refusal

CALLER = "autoscaler@chimera.example"
JSON_PATCH = "application/json-patch+json"


class ApiServer:
    """Serves `objects`, inside a `with`.

    Args:
        directory: where certificates are written; the caller's own key too.
    """

    def __init__(self, objects: Objects, directory: Path) -> None:
        self.authority, self.certificate, self.key = (
            directory / name for name in ("authority.pem", "caller.pem", "caller.key")
        )
        self.port = free_port()
        self._server = _Server((LOOPBACK, self.port), _Handler)
        self._server.objects = objects
        self._server.tls = self._credentials()
        self._thread = threading.Thread(target=self._server.serve_forever, name="emulated-api", daemon=True)

    def environment(self) -> dict[str, str]:
        """What leads Ray's autoscaler here, and lets it in."""
        return {
            "KUBERNETES_SERVICE_HOST": LOOPBACK,
            "KUBERNETES_SERVICE_PORT_HTTPS": str(self.port),
            "KUBERAY_CRD_VER": "v1",
            "RAY_KUBERAY_CA_CERT_PATH": str(self.authority),
            "RAY_KUBERAY_CLIENT_CERT_PATH": str(self.certificate),
            "RAY_KUBERAY_CLIENT_KEY_PATH": str(self.key),
        }

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _credentials(self) -> ssl.SSLContext:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.authority)
        caller = authority.issue_cert(CALLER)
        caller.cert_chain_pems[0].write_to_path(self.certificate)
        caller.private_key_pem.write_to_path(self.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(LOOPBACK).configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    objects: Objects
    tls: ssl.SSLContext


class _Handler(BaseHTTPRequestHandler):
    """One connection. Its TLS begins here, in its own thread: who never speaks holds up nobody else."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    server: _Server

    def setup(self) -> None:
        self.request = self.server.tls.wrap_socket(
            self.request, server_side=True, do_handshake_on_connect=False
        )
        super().setup()

    def handle(self) -> None:
        try:
            self.request.do_handshake()
        except (ssl.SSLError, OSError):
            return  # the caller is told by TLS itself why it is not let in
        super().handle()

    def finish(self) -> None:
        super().finish()
        self.request.close()  # the wrapped socket; the server knows only the one below it

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PATCH(self) -> None:
        self._answer(self._patch)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Say nothing: what matters of a call is in the objects."""

    def _get(self, path: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        objects = self.server.objects
        pods = f"/api/v1/namespaces/{objects.namespace}/pods"
        if path == _cluster(objects):
            return objects.cluster()
        if path == pods:
            return objects.listing(_labels(query.get("labelSelector", [""])[0]))
        if path.startswith(f"{pods}/"):
            return objects.pod(path.removeprefix(f"{pods}/"))
        raise Refusal(404, "NotFound", "the server could not find the requested resource")

    def _patch(self, path: str, query: Mapping[str, list[str]]) -> dict[str, Any]:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if path != _cluster(self.server.objects):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        if (kind := self.headers.get("Content-Type")) != JSON_PATCH:
            raise Refusal(415, "UnsupportedMediaType", f"the emulator takes {JSON_PATCH}, not {kind}")
        return self.server.objects.patch_cluster(json.loads(body))

    def _answer(self, handle: Any) -> None:
        split = urlsplit(self.path)
        try:
            code, answer = 200, handle(split.path, parse_qs(split.query))
        except Refusal as refusal:
            code, answer = refusal.code, refusal.status()
        content = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _cluster(objects: Objects) -> str:
    return f"/apis/ray.io/v1/namespaces/{objects.namespace}/rayclusters/{objects.name}"


def _labels(selector: str) -> dict[str, str]:
    """`a=b,c=d`, which is all that Ray asks by."""
    parts = [part.partition("=") for part in selector.split(",") if part]
    return {name: value for name, _, value in parts}
