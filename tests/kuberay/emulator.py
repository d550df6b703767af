"""An emulator of what surrounds a RayCluster on Kubernetes, for Ray's own KubeRay autoscaler, which is real.

    ray kuberay-autoscaler ──HTTPS──> apiserver.py ──> objects.py <── reconciler.py ──> pods.py: `ray start`
        (Ray's own code)                (emulated)                      (emulated)         (real Ray nodes)

It is no Kubernetes: no scheduler, images, containers, networks, volumes or roles, and of KubeRay's
operator only what it does about worker pods, as its documentation says.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chimera.serving.local.ports import free_port
from chimera.serving.local.process import ProcessId, end, spawn
from tests.kuberay import pods
from tests.kuberay.apiserver import ApiServer
from tests.kuberay.objects import Objects
from tests.kuberay.reconciler import Reconciler

INTERVAL_S = 1


class Emulator:
    """One RayCluster whose head somebody else runs, inside a `with`; at its end no process of it is left.

    Args:
        cluster: the RayCluster.
        directory: for certificates and logs.
        address: of the head's GCS, host:port.
        ray: the command `ray`.
        env: the head's environment, which the autoscaler beside it and all pods get too.
    """

    def __init__(
        self,
        cluster: Mapping[str, Any],
        directory: Path,
        *,
        address: str,
        ray: Path,
        env: Mapping[str, str],
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.objects = Objects(cluster)
        self.log = directory / "autoscaler.log"
        self._address, self._ray, self._env = address, ray, env
        self._api = ApiServer(self.objects, directory)
        self.operator = Reconciler(self.objects, address=address, env=env, logs=directory)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        head = self.objects.create_pod(pods.head(self.objects.cluster()))["metadata"]["name"]
        self.objects.update_pod(head, status={"phase": "Running"})
        with ExitStack() as stack:
            stack.enter_context(self._api)
            self.operator.start()
            stack.callback(self.operator.stop)
            stack.callback(_ended, self._start(head))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start(self, head: str) -> subprocess.Popen[bytes]:
        own = {
            **self._api.environment(),
            "RAY_HEAD_POD_NAME": head,
            "RAY_CLUSTER_NAME": self.objects.name,
            "RAY_CLUSTER_NAMESPACE": self.objects.namespace,
            "AUTOSCALER_UPDATE_INTERVAL_S": str(INTERVAL_S),
            "AUTOSCALER_METRIC_PORT": str(free_port()),
        }
        command: list[str | Path] = [
            *(self._ray, "kuberay-autoscaler", "--cluster-name", self.objects.name),
            *("--cluster-namespace", self.objects.namespace, "--gcs-address", self._address),
        ]
        return spawn(command, env={**self._env, **own}, log=self.log)


def _ended(autoscaler: subprocess.Popen[bytes]) -> None:
    if running := ProcessId.of(autoscaler.pid):
        end([running], grace_s=5)
    autoscaler.wait()
