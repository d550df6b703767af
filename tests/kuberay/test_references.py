"""What a manifest names is there: secrets and their keys, accounts, volumes, pods, ports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.kuberay.manifests import (
    BUILT,
    Document,
    Pod,
    all_pods,
    built,
    each_build,
    each_deployment,
    examples,
    named,
    of,
)

OF_OTHERS = {"chimera-redis-tls": {"tls.crt", "tls.key", "ca.crt"}, "chimera-tls": {"tls.crt", "tls.key"}}
"""Secrets that whoever issues certificates makes, in the form that Kubernetes has for them."""


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
def test_the_api_is_found_on_the_hubs_pods_alone_and_on_those_of_one_cluster(name: str) -> None:
    """The operator's Service for Serve selects by labels that it gives pods with tenants' agents too."""
    (service,) = of(built(name), "RayService")
    wanted = service["spec"]["serveService"]
    running = [
        pod._replace(labels=labelled(pod, cluster))
        for pod in all_pods(name)
        if pod.owner.startswith("RayService/")
        for cluster in ("chimera-old", "chimera-new")
    ]
    # KubeRay 1.7.0, BuildServeService: it hears no selector of the manifest's.
    selected = _selected({"ray.io/cluster": "chimera-new", "ray.io/serve": "true"}, running)
    if name not in {"base", "overlays/prod"}:
        assert any(pod.labels["app.kubernetes.io/component"] == "worker" for pod in selected)
    (port,) = wanted["spec"]["ports"]
    answering = [pod for pod in selected if _has_port(pod, port["targetPort"])]
    assert {pod.labels["app.kubernetes.io/component"] for pod in answering} == {"hub"}
    assert {pod.labels["ray.io/cluster"] for pod in answering} == {"chimera-new"}
    assert {pod.group.get("groupName", "head") for pod in answering} == {"head", "hub"}
    # For the port that the head names so, the operator takes what stands here.
    assert (port["name"], port["port"], "selector" in wanted["spec"]) == ("serve", 8000, False)


def labelled(pod: Pod, cluster: str) -> dict[str, str]:
    """Labels of a pod of a RayService that serves, as KubeRay 1.7.0 makes them (`labelPod`, `BuildPod`)."""
    return {**pod.labels, "ray.io/cluster": cluster, "ray.io/serve": "true"}


def _has_port(pod: Pod, wanted: str | int) -> bool:
    """Whether a Service's endpoints have this pod: by number each has, by name those that have the name."""
    if isinstance(wanted, int):
        return True
    return any(port["name"] == wanted for box in pod.spec["containers"] for port in box["ports"])


def test_who_calls_the_api_calls_the_service_that_the_operator_makes() -> None:
    (hub,) = of(built("base"), "RayService")
    service = hub["spec"]["serveService"]
    (ingress,) = of(built("base"), "Ingress")
    (path,) = ingress["spec"]["rules"][0]["http"]["paths"]
    (port,) = service["spec"]["ports"]
    assert path["backend"]["service"] == {
        "name": service["metadata"]["name"],
        "port": {"number": port["port"]},
    }
    (job,) = all_pods("examples")
    told = {one["name"]: one["value"] for one in job.spec["containers"][0]["env"]}
    assert (
        told["CHIMERA_URL"]
        == f"http://{service['metadata']['name']}.{hub['metadata']['namespace']}.svc:{port['port']}"
    )


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
