"""KubeRay's operator and the kubelet, emulated: pods as the RayCluster says, each of them a real Ray node."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.kuberay.objects import ENDED, GROUP_LABEL, Object, Objects, Refusal
from tests.kuberay.pods import PodProcess, described

REQUEUE_S = 2.0
"""So long after an ended pod, or a refused one, KubeRay's operator looks again."""
REPLICA_FAILURE, FAILED_CREATE, FAILED_EVENT = "ReplicaFailure", "FailedCreatePod", "FailedToCreateWorkerPod"


class Reconciler:
    """Runs in a thread of its own, inside `start` and `stop`.

    Args:
        address: of the head's GCS; pods join it.
        env: of every pod.
        logs: a folder for what the pods say.
    """

    def __init__(self, objects: Objects, *, address: str, env: Mapping[str, str], logs: Path) -> None:
        self.processes: dict[str, PodProcess] = {}
        self._objects, self._address, self._env = objects, address, env
        self._logs = logs
        self._numbers = itertools.count(1)
        self._due: dict[str, float] = {}
        """When a pod, or a group ("group/NAME"), is to be looked at again: seconds of the monotonic clock."""
        self._refused: dict[str, str] = {}
        """What each group ("group/NAME") was last refused."""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="emulated-operator", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, and every pod with it."""
        self._stopping = True
        self._objects.wake()
        self._thread.join()

    def kill(self, name: str) -> None:
        """Kill a pod's processes, as its machine would."""
        self.processes[name].kill()

    def _run(self) -> None:
        try:
            while not self._stopping:
                seen = self._objects.version
                self._observe()
                for group in self._objects.cluster()["spec"].get("workerGroupSpecs", []):
                    self._reconcile(group)
                wait_s = min(self._due.values(), default=time.monotonic() + 60) - time.monotonic()
                self._objects.wait(lambda seen=seen: self._objects.version != seen, max(0.0, wait_s))  # type: ignore[misc]  # (mypy cannot infer a lambda's default)
        except BaseException as exc:  # noqa: BLE001 (whoever waits for a change raises it)
            self._objects.fail(exc)
        finally:
            for process in self.processes.values():
                process.kill()
            for process in self.processes.values():
                process.join()

    def _observe(self) -> None:
        """What became of the processes."""
        for name, process in list(self.processes.items()):
            pod = self._objects.pod(name)
            if process.code is None:
                if "deletionTimestamp" in pod["metadata"] and self._is_due(name):
                    process.kill()
            elif "deletionTimestamp" in pod["metadata"]:
                self._forget(name)
            elif pod["status"]["phase"] == "Running":
                phase = "Failed" if process.code else "Succeeded"
                state = {"terminated": {"exitCode": process.code}}
                self._objects.update_pod(name, status=_status(phase, state))
                self._due[name] = time.monotonic() + REQUEUE_S
            elif self._is_due(name):
                self._forget(name)

    def _reconcile(self, group: Object) -> None:
        for name in group.get("scaleStrategy", {}).get("workersToDelete", []):
            self._delete(name)
        there = [
            pod
            for pod in self._objects.selected({GROUP_LABEL: group["groupName"]})
            if "deletionTimestamp" not in pod["metadata"]
        ]
        waits = f"group/{group['groupName']}"
        if any(pod["status"]["phase"] in ENDED for pod in there) or not self._is_due(waits):
            return
        wanted = min(group["maxReplicas"], max(group["minReplicas"], group["replicas"]))
        try:
            for _ in range(wanted - len(there)):
                self._create(group)
        except Refusal as refusal:
            said = f"Failed to create worker Pod for the cluster {self._where}, {refusal.message}"
            self._due[waits], self._refused[waits] = time.monotonic() + REQUEUE_S, said
            self._tell()
            self._objects.record(FAILED_EVENT, said)
        else:
            self._due.pop(waits, None)
            self._refused.pop(waits, None)
            self._tell()

    def _tell(self) -> None:
        """Say in the cluster's status whether any of its groups lacks pods that were refused."""
        said = next(iter(self._refused.values()), "")
        self._objects.set_condition(REPLICA_FAILURE, FAILED_CREATE if said else "", said)

    @property
    def _where(self) -> str:
        return f"{self._objects.namespace}/{self._objects.name}"

    def _create(self, group: Object) -> None:
        pod = self._objects.create_pod(described(self._objects.cluster(), group, next(self._numbers)))
        name = pod["metadata"]["name"]
        self.processes[name] = PodProcess(
            pod,
            group,
            address=self._address,
            env=self._env,
            log=self._logs / f"{name}.log",
            ended=self._objects.wake,
        )
        self._objects.update_pod(name, status=_status("Running", {"running": {}}))

    def _delete(self, name: str) -> None:
        process = self.processes.get(name)
        if process is None or "deletionTimestamp" in self._objects.pod(name)["metadata"]:
            return
        self._objects.update_pod(name, metadata={"deletionTimestamp": datetime.now(UTC).isoformat()})
        self._due[name] = time.monotonic() + process.grace_s
        process.terminate()

    def _forget(self, name: str) -> None:
        self.processes.pop(name).join()
        self._due.pop(name, None)
        self._objects.remove_pod(name)

    def _is_due(self, what: str) -> bool:
        return time.monotonic() >= self._due.get(what, 0.0)


def _status(phase: str, state: Mapping[str, Any]) -> Object:
    return {"phase": phase, "containerStatuses": [{"name": "ray-worker", "state": dict(state)}]}
