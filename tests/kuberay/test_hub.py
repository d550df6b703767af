"""What Chimera, Ray and Redis are told by the manifests fits them, and each other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from chimera.core.kube.quantity import MI
from chimera.core.kube.sizing import NODE_BYTES
from chimera.settings import PREFIX, GivenSettings, Settings, is_secret
from tests.kuberay.manifests import (
    ROOT,
    WITH_MODEL,
    Pod,
    all_pods,
    amount,
    built,
    cluster_of,
    each_build,
    each_deployment,
    of,
    pods,
)

WORKERS_IN = ("overlays/dev", "overlays/shared", WITH_MODEL)
each_with_workers = pytest.mark.parametrize("name", WORKERS_IN)


def told_of(name: str) -> Mapping[str, str]:
    """What every pod of a build's hub is told."""
    (found,) = [one["data"] for one in of(built(name), "ConfigMap") if "CHIMERA_REDIS_URL" in one["data"]]
    return dict(found)


@each_build
def test_every_variable_is_a_setting_of_chimera_or_of_ray(name: str) -> None:
    known = {f"{PREFIX}{field.upper()}" for field in Settings.model_fields}
    files = {
        f"{PREFIX}{field.upper()}_FILE" for field, info in Settings.model_fields.items() if is_secret(info)
    }
    told = {
        variable["name"]
        for pod in all_pods(name)
        for container in pod.spec["containers"]
        for variable in container.get("env", ())
    } | {key for document in of(built(name), "ConfigMap") for key in document["data"] if key.isupper()}
    assert {variable for variable in told if variable.startswith(PREFIX)} <= known | files


@each_deployment
def test_every_file_that_a_variable_names_is_mounted(name: str) -> None:
    for pod in all_pods(name):
        (container,) = pod.spec["containers"]
        mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
        for variable in container.get("env", ()):
            if variable["name"].endswith(("_FILE", "_CA_CERT")):
                assert variable["value"].rpartition("/")[0] in mounts, (pod.owner, variable)


@each_deployment
def test_the_hub_serves_what_serve_config_yaml_says(name: str) -> None:
    (service,) = of(built(name), "RayService")
    wanted = yaml.safe_load((ROOT / "serve_config.yaml").read_text(encoding="utf-8"))
    # The one difference: on a laptop it must not listen to the network, here a Service must reach it.
    assert wanted["http_options"].pop("host") == "127.0.0.1"
    served = yaml.safe_load(service["spec"]["serveConfigV2"])
    assert served["http_options"].pop("host") == "0.0.0.0"
    assert served == wanted


@each_deployment
def test_the_hub_outlives_upgrades_and_dead_heads(name: str) -> None:
    (service,) = of(built(name), "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    assert service["spec"]["upgradeStrategy"] == {"type": "NewCluster"}
    kept = cluster["gcsFaultToleranceOptions"]
    assert kept["redisAddress"].partition("://")[2] == "chimera-redis.chimera-system.svc:6379"
    # Two clusters live at once during an upgrade: one name space for both would mix them.
    assert "externalStorageNamespace" not in kept
    assert cluster["enableInTreeAutoscaling"]
    assert cluster["autoscalerOptions"]["version"] == "v2"
    assert cluster["autoscalerOptions"]["idleTimeoutSeconds"] > 0
    assert cluster["authOptions"] == {"mode": "token", "secretName": "chimera-ray"}


@each_build
def test_ray_keeps_off_redis_port_and_off_its_own_workers_ports(name: str) -> None:
    for document in built(name):
        if cluster := cluster_of(document):
            head = cluster["headGroupSpec"]
            assert head["rayStartParams"]["port"] == "6380"
            (container,) = head["template"]["spec"]["containers"]
            ports = {port["name"]: port["containerPort"] for port in container["ports"]}
            assert ports["gcs-server"] == 6380
            assert not 10_002 <= ports["client"] <= 19_999
            # Autoscaler v2 replaces pods itself, and the operator refuses another policy.
            assert all("restartPolicy" not in pod.spec for pod in pods(document))


@each_build
def test_ray_is_of_the_locked_version(name: str) -> None:
    locked = re.search(
        r"^ray\[[\w,]+\]==([\d.]+)|^ray==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE
    )
    assert locked
    for document in built(name):
        if cluster := cluster_of(document):
            assert cluster["rayVersion"] == (locked[1] or locked[2])


@each_deployment
def test_groups_offer_the_resources_that_the_code_asks_for(name: str) -> None:
    from chimera.serving.backend import PLACE

    (service,) = of(built(name), "RayService")
    cluster = service["spec"]["rayClusterConfig"]
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert _offered(cluster["headGroupSpec"]) == {"hub": 1}
    if name in WORKERS_IN:
        offered = {one for group in groups.values() for one in _offered(group)}
        told = told_of(name)
        spares = (
            {PLACE["spare"]}
            if int(told.get("CHIMERA_SPARES", Settings.model_fields["spares"].default))
            else set()
        )
        assert offered == {PLACE["worker"]} | spares, "a spare that is asked for has a place, and none else"
        for group in groups.values():
            if _offered(group):
                # Serve's replicas ask for processors, and must find none beside tenants' code.
                assert group["rayStartParams"]["num-cpus"] == "0"
    else:
        assert groups.keys() == {"hub"}
    for group in groups.values():
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def _offered(group: Mapping[str, Any]) -> dict[str, int]:
    """A group's resources, as the shell hands them to `ray start`."""
    given = group["rayStartParams"].get("resources", '"{}"')
    found: dict[str, int] = json.loads(json.loads(given))
    return found


@each_deployment
def test_what_ray_counts_fits_the_container(name: str) -> None:
    for pod in all_pods(name):
        if pod.group:
            limits = pod.spec["containers"][0]["resources"]["limits"]
            given = pod.group["rayStartParams"]
            assert float(given["num-cpus"]) <= amount(limits["cpu"]), pod.owner
            (shm,) = [one["emptyDir"] for one in pod.spec["volumes"] if one["name"] == "shm"]
            store = int(given["object-store-memory"])
            assert store < amount(shm["sizeLimit"]) < amount(limits["memory"]) / 2, pod.owner


@each_deployment
def test_redis_keeps_room_beside_its_data_for_what_it_does(name: str) -> None:
    (server,) = of(built(name), "StatefulSet")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    (conf,) = [
        one["data"]["redis.conf"] for one in of(built(name), "ConfigMap") if "redis.conf" in one["data"]
    ]
    words = container["command"]
    said = words[words.index("--maxmemory") + 1] if "--maxmemory" in words else ""
    most = said or re.search(r"^maxmemory (\w+)$", conf, re.MULTILINE)[1]  # type: ignore[index]  # (it is there)
    size = float(most[:-2]) * {"mb": 2**20, "gb": 2**30}[most[-2:]]
    # A rewrite of the append-only file forks: pages that change meanwhile are there twice.
    assert size <= 0.76 * amount(container["resources"]["limits"]["memory"])
    assert "maxmemory-policy noeviction" in conf
    assert "appendonly yes" in conf


@pytest.mark.parametrize("name", ["overlays/prod", "overlays/shared"])
def test_in_production_redis_speaks_tls_alone_and_all_check_it(name: str) -> None:
    (server,) = of(built(name), "StatefulSet")
    words = server["spec"]["template"]["spec"]["containers"][0]["command"]
    assert words[words.index("--port") + 1] == "0"
    assert words[words.index("--tls-port") + 1] == "6379"
    told = told_of(name)
    assert told["CHIMERA_REDIS_URL"].startswith("rediss://")
    authority = told["CHIMERA_REDIS_URL"].partition("?ssl_ca_certs=")[2]
    for pod in all_pods(name):
        if pod.group:
            mounts = {mount["mountPath"] for mount in pod.spec["containers"][0]["volumeMounts"]}
            assert authority.rpartition("/")[0] in mounts, pod.owner
    (service,) = of(built(name), "RayService")
    assert service["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"].startswith(
        "rediss://"
    )


@each_with_workers
def test_the_hub_asks_for_as_many_workers_as_their_group_may_have_pods(name: str) -> None:
    """Fewer, and a thousand agents would never have places, whatever the group allows."""
    most = _groups(name)["workers"].group["maxReplicas"]
    assert int(told_of(name)["CHIMERA_MAX_WORKERS"]) == most
    if name != "overlays/dev":
        assert most * Settings.model_fields["slots"].default >= 1_000


@each_with_workers
def test_an_agent_meets_its_own_limit_of_memory_before_the_kernel_meets_the_pods(name: str) -> None:
    """The kernel ends the whole container, with everybody's attempts in it."""
    given = int(told_of(name)["CHIMERA_WORKER_MEMORY_MB"])
    for group in _groups(name).values():
        limit = amount(group.spec["containers"][0]["resources"]["limits"]["memory"])
        assert given * MI == limit - NODE_BYTES, group.owner


def _groups(name: str) -> dict[str, Pod]:
    """Pods with agents, by their group."""
    return {
        pod.group["groupName"]: pod
        for pod in all_pods(name)
        if pod.labels["app.kubernetes.io/component"] == "worker"
    }


def test_the_key_of_a_model_is_mounted_in_the_hubs_pods_alone() -> None:
    """Agents of other tenants would find it; the hub hands it to those workers that may have it."""
    told = told_of(WITH_MODEL)
    GivenSettings(model=told["CHIMERA_MODEL"], model_url=told["CHIMERA_MODEL_URL"])
    assert told["CHIMERA_MODEL"]
    for pod in all_pods(WITH_MODEL):
        (container,) = pod.spec["containers"]
        files = {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}
        secrets = {one["secret"]["secretName"] for one in pod.spec["volumes"] if "secret" in one}
        hub = pod.labels["app.kubernetes.io/component"] == "hub"
        assert ("chimera-model" in secrets) == hub, pod.owner
        assert files.get("CHIMERA_MODEL_API_KEY_FILE") == ("/etc/chimera/model/api-key" if hub else None)
