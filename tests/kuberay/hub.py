"""The hub on a Ray cluster that `chimera up` did not start: `ray start`, then serve_config.yaml put to Ray's
API, which is what KubeRay's operator does with a RayService.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from chimera.serving.local import environment, remains
from chimera.serving.local.child import last_lines
from chimera.serving.local.ports import LOOPBACK, free_ports
from chimera.serving.local.process import ProcessId, end, spawn
from chimera.serving.local.ray_head import OBJECT_STORE_BYTES
from chimera.serving.local.redis_server import RedisServer
from chimera.serving.local.state import StateDir
from chimera.settings import load
from tests.acceptance.conftest import ROOT, Shell, clean, eventually
from tests.kuberay.pods import options
from tests.sharing import starting

CONFIG = ROOT / "serve_config.yaml"
START_S, DEPLOY_S = 90.0, 120.0


@dataclass(frozen=True)
class Hub:
    """A running hub.

    Attributes:
        address: of the head's GCS, host:port.
        env: of the head, and of all that joins it.
        shell: runs `chimera` as a user of this hub.
        ready: whether it is deployed and all its parts are well.
    """

    address: str
    env: Mapping[str, str]
    shell: Shell
    ready: Callable[[], bool]

    def get(self, path: str) -> Any:
        """What the hub's API answers."""
        key = Path(self.shell.environment["CHIMERA_API_KEY_FILE"]).read_text(encoding="utf-8").strip()
        url, headers = self.shell.environment["CHIMERA_URL"] + path, {"Authorization": f"Bearer {key}"}
        answer = httpx.get(url, headers=headers, timeout=10, trust_env=False)
        return answer.raise_for_status().json()


@contextmanager
def hub_on_ray(directory: Path, cluster: Mapping[str, Any], **chosen: object) -> Iterator[Hub]:
    """A hub, being deployed; at the end nothing of it runs, also after a failure.

    Args:
        cluster: the RayCluster whose head it is.
        chosen: settings.
    """
    state = StateDir(directory / "state")
    state.prepare()
    gcs, dashboard, http = free_ports(3)
    with ExitStack() as stack:
        stack.callback(_swept, state)
        redis = stack.enter_context(RedisServer(state.redis, fsync="everysec", maxmemory_bytes=1 << 28))
        env = _environment(state, cluster, redis_url=redis.url, http_port=http, **chosen)
        with starting():
            head = spawn(_head(state, cluster, gcs, dashboard), env=env, log=state.logs / "ray.log")
            stack.callback(_ended, head)
            api = _ray_api(stack, dashboard, state)
            came = eventually(lambda: _has_node(api) or head.poll() is not None, START_S)
        assert came, last_lines(state.logs / "ray.log")
        assert head.poll() is None, last_lines(state.logs / "ray.log")
        config = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
        config["http_options"]["port"] = http
        put = api.put("/api/serve/applications/", json=config)
        assert put.is_success, put.text
        url = f"http://{LOOPBACK}:{http}"
        shell = Shell(directory, {**clean(), "CHIMERA_URL": url, "CHIMERA_API_KEY_FILE": str(state.api_key)})
        yield Hub(f"{LOOPBACK}:{gcs}", env, shell, lambda: _is_ready(api, url))


def _environment(
    state: StateDir, cluster: Mapping[str, Any], *, redis_url: str, http_port: int, **chosen: object
) -> dict[str, str]:
    settings = load(state_dir=state.path, http_port=http_port, **chosen)
    env = environment.of_hub(settings, state, redis_url=redis_url, model_url="", model_api_key="")
    del env["CHIMERA_DOOR"]  # nobody lends a port here: callers come through Serve's proxy
    return {
        **env,
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": f"{cluster['metadata']['name']}-head",
        "RAY_NODE_TYPE_NAME": "headgroup",
    }


def _head(state: StateDir, cluster: Mapping[str, Any], gcs: int, dashboard: int) -> list[str]:
    metrics, agent = free_ports(2)
    return [
        *(sys.executable, "-c", "from ray.scripts.scripts import main; main()"),
        *("start", "--head", "--block", "--no-monitor", "--disable-usage-stats"),
        *(f"--port={gcs}", f"--node-ip-address={LOOPBACK}", f"--dashboard-host={LOOPBACK}"),
        *(f"--dashboard-port={dashboard}", "--include-dashboard=true", "--include-log-monitor=false"),
        *(f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"),
        *("--min-worker-port=0", "--max-worker-port=0"),
        *(f"--object-store-memory={OBJECT_STORE_BYTES}", f"--temp-dir={state.ray_temp}"),
        *options(cluster["spec"]["headGroupSpec"]),
    ]


def _ray_api(stack: ExitStack, port: int, state: StateDir) -> httpx.Client:
    token = state.ray_token.read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {token}"}
    return stack.enter_context(
        httpx.Client(base_url=f"http://{LOOPBACK}:{port}", headers=headers, timeout=60, trust_env=False)
    )


def _has_node(api: httpx.Client) -> bool:
    """Whether the head's own node has registered; the API answers long before."""
    try:
        nodes = api.get("/nodes", params={"view": "summary"}).raise_for_status().json()
    except (httpx.HTTPError, json.JSONDecodeError):
        return False
    return any(node["raylet"].get("state") == "ALIVE" for node in nodes["data"]["summary"])


def _is_ready(api: httpx.Client, url: str) -> bool:
    try:
        told = api.get("/api/serve/applications/").raise_for_status().json()["applications"]
        if told.get("chimera", {}).get("status") != "RUNNING":
            return False
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _ended(head: subprocess.Popen[bytes]) -> None:
    if running := ProcessId.of(head.pid):
        end([running], grace_s=5)
    head.wait()


def _swept(state: StateDir) -> None:
    """Last of all: what the head and the pods left, by the mark that they carry."""
    remains.sweep(state)
    left = remains.find(state)
    state.forget()
    assert not left, left
