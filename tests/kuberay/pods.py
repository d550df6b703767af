"""A pod of the emulator: a real Ray node, as processes on this machine, instead of containers somewhere."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from chimera.serving.local.ports import LOOPBACK, free_ports
from chimera.serving.local.process import ProcessId, spawn
from chimera.serving.local.ray_head import OBJECT_STORE_BYTES
from tests.kuberay.objects import CLUSTER_LABEL, GROUP_LABEL, KIND_LABEL, Object

GRACE_S = 30
"""Kubernetes' own `terminationGracePeriodSeconds`."""


def described(cluster: Mapping[str, Any], group: Mapping[str, Any], number: int) -> Object:
    """The pod that KubeRay would make of a worker group's template, as far as anybody here looks at it."""
    template = group["template"]
    metadata = template.get("metadata", {})
    name = f"{cluster['metadata']['name']}-{group['groupName']}-worker-{number}"
    labels = {
        **metadata.get("labels", {}),
        CLUSTER_LABEL: cluster["metadata"]["name"],
        KIND_LABEL: "worker",
        GROUP_LABEL: group["groupName"],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": cluster["metadata"]["namespace"], "labels": labels},
        # As KubeRay does where version 2 of the autoscaler is asked for: a node that drained stays ended.
        "spec": {**template["spec"], "restartPolicy": "Never"},
    }


def head(cluster: Mapping[str, Any]) -> Object:
    """The head's pod, which somebody else runs."""
    made = described(cluster, {**cluster["spec"]["headGroupSpec"], "groupName": "headgroup"}, 0)
    made["metadata"]["name"] = f"{cluster['metadata']['name']}-head"
    made["metadata"]["labels"][KIND_LABEL] = "head"
    return made


def options(group: Mapping[str, Any]) -> list[str]:
    """Options of `ray start`: the group's `rayStartParams`, unquoted as KubeRay's shell does, and the CPU
    limit of its first container where they name none. Without ports and hosts: here all is on loopback."""
    given = {name: " ".join(shlex.split(value)) for name, value in group.get("rayStartParams", {}).items()}
    if "resources" in given:  # its quotes are JSON's own, inside those of the shell
        given["resources"] = json.dumps(json.loads(shlex.split(group["rayStartParams"]["resources"])[0]))
    limits = group["template"]["spec"]["containers"][0].get("resources", {}).get("limits", {})
    if "cpu" in limits:
        given.setdefault("num-cpus", str(limits["cpu"]))
    return [
        f"--{name}={value}" for name, value in sorted(given.items()) if not name.endswith(("port", "host"))
    ]


class PodProcess:
    """The processes of one pod.

    Args:
        address: of the head's GCS, host:port.
        env: what the pod's container would have by its ConfigMaps and Secrets.
        ended: called in a thread of its own when the pod's first process has ended.
    """

    def __init__(
        self,
        pod: Mapping[str, Any],
        group: Mapping[str, Any],
        *,
        address: str,
        env: Mapping[str, str],
        log: Path,
        ended: Callable[[], None],
    ) -> None:
        name, (metrics, agent) = pod["metadata"]["name"], free_ports(2)
        command = [
            *(sys.executable, "-m", "chimera.serving.local.ray_join", "start", "--block"),
            *("--disable-usage-stats", f"--address={address}", f"--node-ip-address={LOOPBACK}"),
            *(f"--metrics-export-port={metrics}", f"--dashboard-agent-listen-port={agent}"),
            *("--min-worker-port=0", "--max-worker-port=0", "--include-log-monitor=false"),
            *(f"--object-store-memory={OBJECT_STORE_BYTES}", *options(group)),
        ]
        self.grace_s = float(pod["spec"].get("terminationGracePeriodSeconds", GRACE_S))
        own = {
            "RAY_CLOUD_INSTANCE_ID": name,
            "RAY_NODE_TYPE_NAME": group["groupName"],
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": str(max(0.0, self.grace_s - 5)),
        }
        self._process: subprocess.Popen[bytes] = spawn(command, env={**env, **own}, log=log)
        self._ended = ended
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    @property
    def code(self) -> int | None:
        """How the first process ended; None while it runs."""
        return self._process.poll()

    def terminate(self) -> None:
        """As the kubelet does first: SIGTERM to the first process."""
        if self.code is None:
            self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to all of it at once, as an out-of-memory kill or a lost machine would."""
        for process in self._tree():
            process.send(signal.SIGKILL)

    def join(self) -> None:
        """Wait until it has ended and that was told."""
        self._watcher.join()

    def _tree(self) -> list[ProcessId]:
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            pids = [first.pid, *(child.pid for child in first.children(recursive=True))]
            return [found for pid in pids if (found := ProcessId.of(pid))]
        return []

    def _watch(self) -> None:
        self._process.wait()
        self._ended()
