"""Every manifest and every build of them is what a strict API server takes, and holds together."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import yaml

from chimera.core.mission import MissionFile
from chimera.settings import PREFIX, Settings, is_secret
from tests.kuberay.manifests import (
    BUILT,
    DEPLOYED,
    KUBERAY,
    ROOT,
    Document,
    Pod,
    all_pods,
    built,
    cluster_of,
    examples,
    named,
    of,
    pods,
    restoring,
)
from tests.kuberay.schemas import check_manifest

each_build = pytest.mark.parametrize("name", BUILT)
each_deployment = pytest.mark.parametrize("name", DEPLOYED)
OF_OTHERS = {"chimera-redis-tls": {"tls.crt", "tls.key", "ca.crt"}, "chimera-tls": {"tls.crt", "tls.key"}}
"""Secrets that whoever issues certificates makes, in the form that Kubernetes has for them."""


@each_build
def test_a_build_is_what_a_strict_api_server_takes(name: str) -> None:
    documents = built(name)
    assert documents
    assert [problem for document in documents for problem in check_manifest(document)] == []


def test_the_examples_of_secrets_are_what_a_strict_api_server_takes() -> None:
    assert [problem for document in examples() for problem in check_manifest(document)] == []


def test_the_pod_of_a_restore_is_sound_and_holds_redis_volume() -> None:
    pod = restoring()
    assert check_manifest(pod) == []
    (server,) = of(built("base"), "StatefulSet")
    (claim,) = server["spec"]["volumeClaimTemplates"]
    (volume,) = pod["spec"]["volumes"]
    of_the_server = f"{claim['metadata']['name']}-{server['metadata']['name']}-0"
    assert volume["persistentVolumeClaim"]["claimName"] == of_the_server
    assert (
        pod["spec"]["securityContext"] | {"fsGroupChangePolicy": "OnRootMismatch"}
        == (server["spec"]["template"]["spec"]["securityContext"])
    )


@each_build
def test_a_build_names_each_object_once_and_all_stand_in_one_namespace(name: str) -> None:
    names = [named(document) for document in built(name)]
    assert len(names) == len(set(names))
    spaces = {document["metadata"].get("namespace") for document in built(name)} - {None}
    assert spaces == {"chimera-system"}


def test_every_file_of_manifests_is_part_of_a_build() -> None:
    kustomizations = sorted(KUBERAY.rglob("kustomization.yaml"))
    named_there = {
        (file.parent / entry).resolve()
        for file in kustomizations
        for entry in re.findall(r"[\w./-]+", file.read_text(encoding="utf-8"))
    }
    apart = {KUBERAY / "examples/secrets.yaml", KUBERAY / "examples/restore.yaml"}
    files = {file for file in KUBERAY.rglob("*") if file.is_file()} - set(kustomizations) - apart
    assert sorted(str(file) for file in files - named_there) == []


# What is named is there.


def _keys_by_name(documents: list[Document], kind: str) -> dict[str, set[str]]:
    return {
        document["metadata"]["name"]: {*document.get("data", {}), *document.get("stringData", {})}
        for document in of(documents, kind)
    }


def _wanted(value: Any) -> Iterator[tuple[str, str, set[str]]]:
    """Every ConfigMap and Secret that a tree names: its kind, its name, the keys it must have."""
    if isinstance(value, list):
        for item in value:
            yield from _wanted(item)
    if not isinstance(value, dict):
        return
    for field, kind in (("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")):
        if isinstance(reference := value.get(field), dict):
            yield kind, reference["name"], {reference["key"]}
    for field, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
        if isinstance(reference := value.get(field), dict):
            yield kind, reference["name"], set()
    for field, kind, key in (("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")):
        if isinstance(volume := value.get(field), dict):
            yield kind, volume[key], {item["key"] for item in volume.get("items", ())}
    if isinstance(value.get("authOptions"), dict) and "secretName" in value["authOptions"]:
        yield "Secret", value["authOptions"]["secretName"], {"auth_token"}
    for item in value.get("tls", ()) if isinstance(value.get("tls"), list) else ():
        yield "Secret", item["secretName"], {"tls.crt", "tls.key"}
    for item in value.values():
        yield from _wanted(item)


@each_build
def test_every_secret_and_config_map_that_is_named_is_there_with_its_keys(name: str) -> None:
    there = {
        "ConfigMap": _keys_by_name(built(name), "ConfigMap"),
        "Secret": _keys_by_name(examples(), "Secret") | OF_OTHERS,
    }
    wanted = [reference for document in built(name) for reference in _wanted(document)]
    assert wanted
    missing = [(kind, one, keys) for kind, one, keys in wanted if not keys <= there[kind].get(one, set())]
    assert [entry for entry in missing if entry[2] or entry[1] not in there[entry[0]]] == []


def test_every_example_of_a_secret_is_named_by_a_manifest() -> None:
    wanted = {one for name in BUILT for document in built(name) for _, one, _ in _wanted(document)}
    assert {document["metadata"]["name"] for document in examples()} <= wanted


@each_build
def test_every_account_and_volume_that_a_pod_names_is_there(name: str) -> None:
    whole = [*built(name), *built("base")]
    accounts = {document["metadata"]["name"] for document in of(whole, "ServiceAccount")}
    claims = {document["metadata"]["name"] for document in of(whole, "PersistentVolumeClaim")}
    for pod in all_pods(name):
        assert pod.spec["serviceAccountName"] in accounts, pod.owner
        volumes = {volume["name"] for volume in pod.spec["volumes"]} | (
            {"data"} if pod.owner.startswith("StatefulSet") else set()
        )
        for container in pod.spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes, pod.owner
        for volume in pod.spec["volumes"]:
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "chimera-blobs") in claims


@each_deployment
def test_every_role_is_bound_to_an_account_that_is_there(name: str) -> None:
    accounts = {document["metadata"]["name"] for document in of(built(name), "ServiceAccount")}
    roles = {document["metadata"]["name"] for document in of(built(name), "Role")}
    bindings = of(built(name), "RoleBinding")
    assert {binding["roleRef"]["name"] for binding in bindings} == roles
    assert {subject["name"] for binding in bindings for subject in binding["subjects"]} <= accounts


def _selected(selector: Mapping[str, Any], found: list[Pod]) -> list[Pod]:
    wanted = selector.get("matchLabels", selector)
    return [pod for pod in found if wanted.items() <= pod.labels.items()]


@each_deployment
def test_every_selector_finds_pods_and_every_port_is_one_of_theirs(name: str) -> None:
    found = [*all_pods(name), *all_pods("examples")]
    for document in of(built(name), "Service"):
        selected = _selected(document["spec"]["selector"], found)
        assert selected, named(document)
        ports = {port["name"] for pod in selected for box in pod.spec["containers"] for port in box["ports"]}
        assert {port["targetPort"] for port in document["spec"]["ports"]} <= ports
    for document in of(built(name), "PodDisruptionBudget"):
        assert _selected(document["spec"]["selector"], found), named(document)


@each_deployment
def test_policies_let_through_what_the_pods_listen_on_and_nobody_is_left_out(name: str) -> None:
    found = [*all_pods(name), *all_pods("examples")]
    policies = of(built(name), "NetworkPolicy")
    shared = any(policy["metadata"]["name"] == "worker" for policy in policies)
    components = {"hub", "redis", "client", *({"worker"} if shared else ())}
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        selected = _selected(selector, found) if selector else found
        assert selected, policy["metadata"]["name"]
        for rule in policy["spec"].get("ingress", ()):
            listening = {
                port["containerPort"]
                for pod in selected
                for box in pod.spec["containers"]
                for port in box["ports"]
            }
            assert {port["port"] for port in rule.get("ports", ())} <= listening | {52365}
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())):
            for peer in (*rule.get("from", ()), *rule.get("to", ())):
                named_there = (
                    peer.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/component")
                )
                # The policy of Redis lets shared workers in also where there are none.
                assert named_there in {None, "worker", *components}


@each_deployment
def test_everything_is_denied_that_no_policy_allows(name: str) -> None:
    (deny,) = [one for one in of(built(name), "NetworkPolicy") if one["metadata"]["name"] == "default-deny"]
    assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    for policy in of(built(name), "NetworkPolicy"):
        rules = [*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ())]
        assert all(rule.get("from") or rule.get("to") for rule in rules), policy["metadata"]["name"]


# What a pod may do.


@each_build
def test_every_pod_is_as_restricted_as_its_namespace_demands(name: str) -> None:
    for space in of(built(name), "Namespace"):
        assert space["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in all_pods(name):
        security = pod.spec["securityContext"]
        assert security["runAsNonRoot"], pod.owner
        assert security["runAsUser"] >= 10_000, pod.owner
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, pod.owner
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.spec.keys(), pod.owner
        allowed = {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected"}
        assert {kind for volume in pod.spec["volumes"] for kind in volume} - {"name"} <= allowed, pod.owner
        for container in _boxes(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, pod.owner


def _boxes(pod: Pod) -> list[Mapping[str, Any]]:
    return [*pod.spec["containers"], *pod.spec.get("initContainers", ())]


@each_build
def test_every_container_has_probes_and_bounds(name: str) -> None:
    for pod in all_pods(name):
        for container in pod.spec["containers"]:
            assert {"readinessProbe", "livenessProbe"} <= container.keys(), pod.owner
            resources = container["resources"]
            assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory"}, pod.owner
            for unit in ("cpu", "memory"):
                asked, most = _amount(resources["requests"][unit]), _amount(resources["limits"][unit])
                assert asked <= most, pod.owner
            assert resources["requests"]["memory"] == resources["limits"]["memory"], pod.owner


def _amount(quantity: str) -> float:
    """A quantity of Kubernetes as a number."""
    units = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 1e3, "M": 1e6, "G": 1e9}
    matched = re.fullmatch(r"([\d.]+)([A-Za-z]*)", quantity)
    assert matched, quantity
    return float(matched[1]) * units[matched[2]]


@each_deployment
def test_only_the_head_gets_a_token_of_the_api_server(name: str) -> None:
    given = [pod.owner for pod in all_pods(name) if pod.spec["automountServiceAccountToken"]]
    assert given == ["RayService/chimera/head"]
    assert not any(account["automountServiceAccountToken"] for account in of(built(name), "ServiceAccount"))


@each_deployment
def test_no_secret_of_the_hub_is_in_a_workers_pod(name: str) -> None:
    for pod in all_pods(name):
        if pod.labels["app.kubernetes.io/component"] == "worker":
            secret = [volume["secret"] for volume in pod.spec["volumes"] if "secret" in volume]
            assert [one["items"] for one in secret] == [[{"key": "ca.crt", "path": "ca.crt"}]]
            assert "env" not in pod.spec["containers"][0]


@each_build
def test_no_value_of_a_variable_is_a_secret(name: str) -> None:
    secret = {f"{PREFIX}{field.upper()}" for field, info in Settings.model_fields.items() if is_secret(info)}
    for pod in all_pods(name):
        for container in pod.spec["containers"]:
            assert not {variable["name"] for variable in container.get("env", ())} & secret, pod.owner


# What Chimera is told.


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
    if name == "overlays/shared":
        offered = {one for group in groups.values() for one in _offered(group)}
        assert offered == set(PLACE.values())
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
            assert float(given["num-cpus"]) <= _amount(limits["cpu"]), pod.owner
            (shm,) = [one["emptyDir"] for one in pod.spec["volumes"] if one["name"] == "shm"]
            store = int(given["object-store-memory"])
            assert store < _amount(shm["sizeLimit"]) < _amount(limits["memory"]) / 2, pod.owner


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
    assert size <= 0.76 * _amount(container["resources"]["limits"]["memory"])
    assert "maxmemory-policy noeviction" in conf
    assert "appendonly yes" in conf


@pytest.mark.parametrize("name", ["overlays/prod", "overlays/shared"])
def test_in_production_redis_speaks_tls_alone_and_all_check_it(name: str) -> None:
    (server,) = of(built(name), "StatefulSet")
    words = server["spec"]["template"]["spec"]["containers"][0]["command"]
    assert words[words.index("--port") + 1] == "0"
    assert words[words.index("--tls-port") + 1] == "6379"
    (told,) = [one["data"] for one in of(built(name), "ConfigMap") if "CHIMERA_REDIS_URL" in one["data"]]
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


@each_build
def test_a_change_of_settings_makes_pods_anew(name: str) -> None:
    there = {one["metadata"]["name"] for one in of(built(name), "ConfigMap")}
    assert all(re.fullmatch(r"[a-z-]+-[a-z0-9]{10}", one) for one in there), "no hash of the content"


def test_the_example_of_a_mission_is_one() -> None:
    MissionFile.model_validate(
        yaml.safe_load((KUBERAY / "examples/mission.yaml").read_text(encoding="utf-8"))
    )
