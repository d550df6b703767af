"""What the emulated API server holds of one namespace: a RayCluster, its pods, events and a quota.

Every change has a number, as in Kubernetes (`resourceVersion`), and wakes whoever waits for one.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from tests.kuberay import patches, quota

CLUSTER_LABEL, KIND_LABEL, GROUP_LABEL = "ray.io/cluster", "ray.io/node-type", "ray.io/group"
ENDED = frozenset({"Failed", "Succeeded"})
"""Phases of a pod that takes nothing of a quota any more."""
Object = dict[str, Any]


class Refusal(Exception):
    """What an API server answers instead of the object.

    Args:
        code: the HTTP status.
        reason: Kubernetes' word for it, such as `Forbidden`.
        message: the sentence.
    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(code, reason, message)
        self.code, self.reason, self.message = code, reason, message

    def __str__(self) -> str:
        return f"{self.code} {self.reason}: {self.message}"

    def status(self) -> Object:
        """As Kubernetes sends it."""
        told = {"code": self.code, "reason": self.reason, "message": self.message}
        return {"kind": "Status", "apiVersion": "v1", "status": "Failure", **told}


class Objects:
    """The objects. Every method may be called from any thread; what is handed out is a copy.

    Args:
        cluster: the RayCluster, with its name and namespace; its defaults are filled in as the CRD says.
    """

    def __init__(self, cluster: Mapping[str, Any]) -> None:
        self.changed = threading.Condition(threading.RLock())
        self.quota: Object | None = None
        self.patches: list[Object] = []
        """Every operation that was applied to the RayCluster, oldest first."""
        self.events: list[Object] = []
        self.failure: BaseException | None = None
        """What ended the emulation, should it have."""
        self._version = 0
        self._pods: dict[str, Object] = {}
        self._cluster = _with_defaults(cluster)
        self._changed(self._cluster)

    @property
    def name(self) -> str:
        return str(self._cluster["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self._cluster["metadata"]["namespace"])

    def cluster(self) -> Object:
        """The RayCluster as it stands."""
        with self.changed:
            return copy.deepcopy(self._cluster)

    def patch_cluster(self, operations: Iterable[Mapping[str, Any]]) -> Object:
        """Apply a JSON patch to it.

        Raises:
            Refusal: 422, the patch does not fit.
        """
        listed = [dict(operation) for operation in operations]
        with self.changed:
            try:
                self._cluster = patches.apply(self._cluster, listed)
            except patches.Unprocessable as exc:
                raise Refusal(422, "Invalid", str(exc)) from exc
            self.patches += listed
            self._changed(self._cluster)
            return copy.deepcopy(self._cluster)

    def set_condition(self, kind: str, reason: str, message: str) -> None:
        """Say in the RayCluster's status what is the matter; a `reason` of "" says that it is over."""
        condition = {
            "type": kind,
            "status": "True" if reason else "False",
            "reason": reason or "NoFailure",
            "message": message,
        }
        with self.changed:
            others = self._cluster.setdefault("status", {}).setdefault("conditions", [])
            if condition in others:
                return
            self._cluster["status"]["conditions"] = [
                *(one for one in others if one["type"] != kind),
                condition,
            ]
            self._changed(self._cluster)

    def create_pod(self, pod: Mapping[str, Any]) -> Object:
        """Let a pod in, pending.

        Raises:
            Refusal: 403, the namespace's quota is used up; 409, there is one of this name.
        """
        made = copy.deepcopy(dict(pod))
        with self.changed:
            if made["metadata"]["name"] in self._pods:
                raise Refusal(409, "AlreadyExists", f'pods "{made["metadata"]["name"]}" already exists')
            others = [pod for pod in self._pods.values() if pod["status"]["phase"] not in ENDED]
            if self.quota and (said := quota.refusal(self.quota, made, others)):
                raise Refusal(403, "Forbidden", said)
            made["status"] = {"phase": "Pending"}
            self._pods[made["metadata"]["name"]] = made
            self._changed(made)
            return copy.deepcopy(made)

    def update_pod(self, name: str, **fields: Mapping[str, Any]) -> None:
        """Merge into `metadata`, `status` and so on of a pod."""
        with self.changed:
            for field, values in fields.items():
                self._pods[name].setdefault(field, {}).update(values)
            self._changed(self._pods[name])

    def remove_pod(self, name: str) -> None:
        """Forget it: what it ran has ended."""
        with self.changed:
            self._changed(self._pods.pop(name))

    def pod(self, name: str) -> Object:
        """One pod.

        Raises:
            Refusal: 404, there is none.
        """
        with self.changed:
            if name not in self._pods:
                raise Refusal(404, "NotFound", f'pods "{name}" not found')
            return copy.deepcopy(self._pods[name])

    def selected(self, labels: Mapping[str, str]) -> list[Object]:
        """Pods that carry all of these labels, by age."""
        with self.changed:
            return [
                copy.deepcopy(pod)
                for pod in self._pods.values()
                if labels.items() <= pod["metadata"].get("labels", {}).items()
            ]

    def workers(self) -> list[str]:
        """Names of the worker pods that are not on their way out, by age."""
        found = self.selected({KIND_LABEL: "worker"})
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def told_to_delete(self) -> list[str]:
        """Names that ever stood in `workersToDelete`, oldest first."""
        with self.changed:
            named = [one["value"] for one in self.patches if one["path"].endswith("/scaleStrategy")]
        return [name for value in named for name in value["workersToDelete"]]

    def listing(self, labels: Mapping[str, str]) -> Object:
        """As `kubectl get pods -o json` would show them."""
        with self.changed:
            metadata = {"resourceVersion": str(self._version)}
            return {
                "kind": "PodList",
                "apiVersion": "v1",
                "metadata": metadata,
                "items": self.selected(labels),
            }

    def record(self, reason: str, message: str) -> None:
        """Note an event of type Warning about the RayCluster; one that was said just before is counted."""
        with self.changed:
            if self.events and (self.events[-1]["reason"], self.events[-1]["message"]) == (reason, message):
                self.events[-1]["count"] += 1
            else:
                self.events.append({"type": "Warning", "reason": reason, "message": message, "count": 1})
            self.changed.notify_all()

    def fail(self, failure: BaseException) -> None:
        """Tell whoever waits that nothing will change any more."""
        with self.changed:
            self.failure = failure
            self.changed.notify_all()

    def wake(self) -> None:
        """Have the operator look again."""
        with self.changed:
            self._version += 1
            self.changed.notify_all()

    def wait(self, condition: Callable[[], object], timeout_s: float) -> bool:
        """Wait until it is true, looking at every change; whether it came true in time.

        Raises:
            RuntimeError: the emulation has ended, from what ended it.
        """
        deadline = time.monotonic() + timeout_s
        with self.changed:
            while not condition():
                if self.failure is not None:
                    raise RuntimeError("the emulated operator has ended") from self.failure
                if not self.changed.wait(deadline - time.monotonic()):
                    return bool(condition())
            return True

    @property
    def version(self) -> int:
        """Of the newest change."""
        return self._version

    def _changed(self, one: Object) -> None:
        with self.changed:
            self._version += 1
            one["metadata"]["resourceVersion"] = str(self._version)
            self.changed.notify_all()


def _with_defaults(cluster: Mapping[str, Any]) -> Object:
    """What an API server adds by KubeRay's CRD; Ray's autoscaler takes it for granted that both are there."""
    made = copy.deepcopy(dict(cluster))
    for group in made["spec"].get("workerGroupSpecs", []):
        group.setdefault("replicas", 0)
        group.setdefault("minReplicas", 0)
    return made
