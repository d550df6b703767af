"""A tenant's RayCluster: a head with `chimera spoke` beside it, and one worker a pod.

The spoke is a Ray driver. Ray finds the node that a driver belongs to among the processes that it sees, and
talks to it through files; so the head's containers share processes, `/tmp/ray` and `/dev/shm`.
"""

from __future__ import annotations

from chimera.core.kube.cluster import (
    AutoscalerOptions,
    ClusterSpec,
    HeadGroup,
    RayCluster,
    WorkerGroup,
)
from chimera.core.kube.names import AUTHORITY, CLUSTER, GROUP, HEAD, LOGIN, SECRETS, WORKER, labels
from chimera.core.kube.part import Metadata
from chimera.core.kube.pod import (
    READABLE,
    Container,
    Http,
    Mount,
    PodSpec,
    PodTemplate,
    Port,
    Probe,
    Resources,
    Volume,
    files_of_secret,
    scratch,
    shared_memory,
    variables,
)
from chimera.core.kube.quantity import Size
from chimera.core.kube.request import Request
from chimera.core.kube.sizing import (
    AUTOSCALER,
    AUTOSCALER_RESTS,
    RAY_HEAD,
    RAY_HEAD_RESTS,
    SPOKE,
    SPOKE_RESTS,
    Sizing,
)

GCS_PORT, DASHBOARD_PORT, AGENT_PORT, METRICS_PORT, CLIENT_PORT = 6380, 8265, 52365, 8080, 10001
"""Not 6379, which is Redis' own."""
RAY_DIR, REDIS_DIR, TLS_DIR = "/etc/chimera/ray", "/etc/chimera/spoke", "/etc/chimera/redis-tls"
SECRETS_DIR = "/etc/chimera/secrets"
"""With a directory of the tenant's name, as `CHIMERA_TENANT_SECRETS_DIR` has it."""
API_DIR = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where Ray's autoscaler looks for its token."""
API_TOKEN_S = 3607
"""As Kubernetes asks for itself; the kubelet brings a new one in time."""
IDLE_S = 60
"""A worker pod without a worker goes after so long, seconds."""
GRACE_S = 60
"""Of a pod that is told to end, seconds."""
SPOKE_GRACE_S = 45
"""`CHIMERA_SPOKE_GRACE_S` at the most: the rest of the pod's grace is for Ray's head, which ends before the
spoke, and for the spoke's own end."""
OF_ALL = {
    "CHIMERA_LOG_FORMAT": "json",
    "CHIMERA_STATE_DIR": "/var/lib/chimera",
    "RAY_USAGE_STATS_ENABLED": "0",
}
OF_NODES = {**OF_ALL, "RAY_BACKEND_LOG_JSON": "1", "RAY_LOG_TO_STDERR": "1"}
DECIDED = frozenset(
    {"CHIMERA_SPOKE_TENANT", "CHIMERA_REDIS_URL", "CHIMERA_REDIS_URL_FILE", "CHIMERA_REDIS_PASSWORD"}
    | {"CHIMERA_SLOTS", "CHIMERA_MAX_WORKERS", "CHIMERA_SPARES", "CHIMERA_WORKER_MEMORY_MB"}
    | {"CHIMERA_TENANT_SECRETS_DIR"}
    | OF_ALL.keys()
)
"""Variables of the spoke that nobody else may set."""
ALIVE = Probe(
    http_get=Http(path="/api/local_raylet_healthz", port=AGENT_PORT),
    initial_delay_seconds=30,
    period_seconds=10,
    timeout_seconds=10,
    failure_threshold=18,
)
TMP = Mount(name="tmp", mount_path="/tmp")  # nosec B108 (the pod's own)
RAY_TMP = Mount(name="ray", mount_path="/tmp/ray")  # nosec B108 (likewise)
SHM = Mount(name="shm", mount_path="/dev/shm")  # nosec B108 (likewise)
STATE = Mount(name="state", mount_path="/var/lib/chimera")
TLS = Mount(name="redis-tls", mount_path=TLS_DIR, read_only=True)


def raycluster(request: Request, sizing: Sizing) -> RayCluster:
    """The tenant's."""
    spec = ClusterSpec(
        suspend=request.suspend,
        autoscaler_options=AutoscalerOptions(
            idle_timeout_seconds=IDLE_S,
            resources=_resources(AUTOSCALER, AUTOSCALER_RESTS),
            volume_mounts=(TMP, RAY_TMP, Mount(name="api-server", mount_path=API_DIR, read_only=True)),
        ),
        head_group_spec=HeadGroup(
            ray_start_params={
                "port": str(GCS_PORT),
                "dashboard-host": "0.0.0.0",  # nosec B104 (probes come from outside)
                **_common(200_000_000),
            },
            template=_template(HEAD, _head(request, sizing)),
        ),
        worker_group_specs=(
            WorkerGroup(
                group_name=GROUP,
                max_replicas=sizing.replicas,
                idle_timeout_seconds=IDLE_S,
                # Doubly quoted: the operator hands it to a shell.
                ray_start_params={**_common(100_000_000), "resources": '"{\\"swarm\\": 1}"'},
                template=_template(WORKER, _worker(request, sizing)),
            ),
        ),
    )
    return RayCluster(metadata=Metadata(name=CLUSTER, namespace=request.namespace), spec=spec)


def _common(object_store_bytes: int) -> dict[str, str]:
    return {
        "dashboard-agent-listen-port": str(AGENT_PORT),
        "metrics-export-port": str(METRICS_PORT),
        # No processor to give away: a worker asks for a place of a swarm, and a head has none.
        "num-cpus": "0",
        "object-store-memory": str(object_store_bytes),
    }


def _template(component: str, spec: PodSpec) -> PodTemplate:
    return PodTemplate(metadata=Metadata(labels=dict(labels(component))), spec=spec)


def _head(request: Request, sizing: Sizing) -> PodSpec:
    head = Container(
        name="ray-head",
        image=request.image,
        ports=(
            Port(name="gcs-server", container_port=GCS_PORT),
            Port(name="dashboard", container_port=DASHBOARD_PORT),
            Port(name="agent", container_port=AGENT_PORT),
            Port(name="client", container_port=CLIENT_PORT),
            Port(name="metrics", container_port=METRICS_PORT),
        ),
        env=variables(dict(OF_NODES)),
        readiness_probe=Probe(
            http_get=Http(path="/api/gcs_healthz", port=DASHBOARD_PORT),
            period_seconds=5,
            timeout_seconds=5,
            failure_threshold=6,
        ),
        liveness_probe=ALIVE,
        resources=_resources(RAY_HEAD, RAY_HEAD_RESTS),
        volume_mounts=(TMP, RAY_TMP, SHM, STATE, TLS),
    )
    return PodSpec(
        service_account_name=HEAD,
        share_process_namespace=True,
        termination_grace_period_seconds=GRACE_S,
        init_containers=(_spoke(request, sizing),),
        containers=(head,),
        volumes=(
            scratch("tmp", "2Gi"),
            scratch("ray", "2Gi"),
            shared_memory("512Mi"),
            scratch("state", "1Gi"),
            _authority(),
            files_of_secret("redis", LOGIN, ("url",)),
            files_of_secret("ray-token", CLUSTER, ("auth_token",)),
            Volume(name="secrets", secret={"secretName": SECRETS, "defaultMode": READABLE, "optional": True}),
            _api_token(),
        ),
    )


def _spoke(request: Request, sizing: Sizing) -> Container:
    """A sidecar: under this autoscaler a head's containers are never restarted, and this one is."""
    given = {
        **OF_ALL,
        "CHIMERA_SPOKE_TENANT": request.tenant,
        "CHIMERA_REDIS_URL_FILE": f"{REDIS_DIR}/url",
        "CHIMERA_TENANT_SECRETS_DIR": SECRETS_DIR,
        "CHIMERA_SLOTS": str(sizing.slots),
        "CHIMERA_MAX_WORKERS": str(sizing.replicas),
        "CHIMERA_SPARES": "0",
        "CHIMERA_WORKER_MEMORY_MB": str(sizing.agents_mib),
        **request.settings,
        "RAY_ADDRESS": f"127.0.0.1:{GCS_PORT}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": f"{RAY_DIR}/auth_token",
    }
    return Container(
        name="spoke",
        image=request.image,
        restart_policy="Always",
        args=("spoke",),
        env=variables(given),
        resources=_resources(SPOKE, SPOKE_RESTS),
        volume_mounts=(
            TMP,
            RAY_TMP,
            SHM,
            STATE,
            TLS,
            Mount(name="redis", mount_path=REDIS_DIR, read_only=True),
            Mount(name="ray-token", mount_path=RAY_DIR, read_only=True),
            Mount(name="secrets", mount_path=f"{SECRETS_DIR}/{request.tenant}", read_only=True),
        ),
    )


def _worker(request: Request, sizing: Sizing) -> PodSpec:
    """No Secret is mounted: the spoke hands each worker what it needs, when it is there."""
    worker = Container(
        name="ray-worker",
        image=request.image,
        ports=(Port(name="metrics", container_port=METRICS_PORT),),
        env=variables(dict(OF_NODES)),
        readiness_probe=Probe(http_get=ALIVE.http_get, period_seconds=5, timeout_seconds=5),
        liveness_probe=ALIVE,
        resources=_resources(sizing.worker, sizing.worker),
        volume_mounts=(TMP, SHM, STATE, TLS),
    )
    return PodSpec(
        service_account_name=WORKER,
        termination_grace_period_seconds=GRACE_S,
        containers=(worker,),
        volumes=(scratch("tmp", "4Gi"), shared_memory("256Mi"), scratch("state", "1Gi"), _authority()),
    )


def _authority() -> Volume:
    """Of Redis' certificate; not there where Redis has no TLS, or an authority signed it that all trust."""
    items = [{"key": "ca.crt", "path": "ca.crt"}]
    return Volume(name="redis-tls", config_map={"name": AUTHORITY, "optional": True, "items": items})


def _api_token() -> Volume:
    """What the autoscaler's container alone has mounted."""
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": API_TOKEN_S}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
    ]
    return Volume(name="api-server", projected={"defaultMode": READABLE, "sources": sources})


def _resources(most: Size, asked: Size) -> Resources:
    return Resources(requests=asked.quantities(), limits=most.quantities())
