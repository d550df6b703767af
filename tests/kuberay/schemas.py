"""Checks a manifest as a strict API server would: fields that no schema knows, wrong types, unknown kinds.

Built-in kinds are checked against the schemas that `kubernetes-validate` carries, those of KubeRay against
its CRDs. These are not part of this tree: KUBERAY_CRDS names a folder that holds them as YAML files, as
KubeRay's release has them in `helm-chart/kuberay-operator/crds`.

What needs a server is not checked: CEL rules (`x-kubernetes-validations`), admission, references.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml
from jsonschema.protocols import Validator
from kubernetes_validate.utils import schema_contents
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

KUBERNETES = "1.34.0"
"""The version whose schemas are asked."""
SHIPPED = f"kubernetes-json-schema/v{KUBERNETES}-local-strict"
SHARED = "https://kubernetes.io/api/_definitions.json"
"""The `$id` of what those schemas have in common."""
OBJECT_META = {"$ref": f"{SHARED}#/$defs/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
VARIABLE = "KUBERAY_CRDS"
GROUP = "ray.io"

KEPT = frozenset(
    {"type", "enum", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"}
    | {"required", "multipleOf", "uniqueItems", "minProperties", "maxProperties"}
)
"""Keywords that mean in JSON Schema what they mean in a CRD."""


def check_manifest(document: Mapping[str, Any]) -> list[str]:
    """What a strict API server would refuse of this object, as sentences `path: problem`; [] if nothing.

    Raises:
        AssertionError: the object is KubeRay's and KUBERAY_CRDS names no folder with its CRD.
    """
    api, kind = document.get("apiVersion"), document.get("kind")
    if not isinstance(api, str) or not isinstance(kind, str):
        return ["apiVersion, kind: both must be given, as strings"]
    if not isinstance(named := document.get("metadata"), dict) or not named.get("name"):
        return [f"{kind}: metadata/name: it must be given"]
    group, _, version = api.rpartition("/")
    validator = _custom(kind, version) if group == GROUP else _built_in(kind, api)
    if validator is None:
        return [f"{kind}: no such kind in {api}"]
    found = sorted(validator.iter_errors(document), key=lambda error: list(map(str, error.absolute_path)))
    return [
        f"{kind}/{named['name']}: {'/'.join(map(str, error.absolute_path)) or '.'}: {error.message[:200]}"
        for error in found
    ]


@cache
def _built_in(kind: str, api: str) -> Validator | None:
    # rbac.authorization.k8s.io/v1 is kept as rbac-v1, and v1 as v1.
    group, _, version = api.rpartition("/")
    shipped = "-".join(filter(None, (kind.lower(), group.partition(".")[0], version)))
    try:
        schema = schema_contents(f"{SHIPPED}/{shipped}.json", KUBERNETES)
    except FileNotFoundError:
        return None
    return _validator(schema)


@cache
def _custom(kind: str, version: str) -> Validator | None:
    for definition in _definitions():
        if definition["spec"]["names"]["kind"] != kind:
            continue
        for served in definition["spec"]["versions"]:
            if served["name"] == version and served["served"]:
                schema = dict(structural(served["schema"]["openAPIV3Schema"]))
                schema["properties"]["metadata"] = OBJECT_META
                schema["required"] = sorted({*schema.get("required", ()), "spec"})
                return _validator(schema)
    return None


@cache
def _definitions() -> tuple[dict[str, Any], ...]:
    """All CRDs of the folder."""
    named = os.environ.get(VARIABLE, "")
    assert named, (
        f"{VARIABLE} is not set: let it name a folder with the YAML files of KubeRay's CRDs "
        "(helm-chart/kuberay-operator/crds of its release 1.7.0)"
    )
    files = sorted([*Path(named).glob("*.yaml"), *Path(named).glob("*.yml")])
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # megabytes: the one in Python takes 20 s
    found = [document for file in files for document in yaml.load_all(file.read_text("utf-8"), loader)]
    found = [document for document in found if (document or {}).get("kind") == "CustomResourceDefinition"]
    assert found, f"{VARIABLE} names {named}, where no file holds a CustomResourceDefinition"
    return tuple(found)


def structural(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A CRD's structural schema as JSON Schema that refuses what the server would prune.

    Differences: fields are closed unless `x-kubernetes-preserve-unknown-fields`; `nullable` admits null;
    `x-kubernetes-int-or-string` is a type; items of a list of type `map` are told apart by their keys.
    Formats and defaults are not looked at.
    """
    made: dict[str, Any] = {name: value for name, value in schema.items() if name in KEPT}
    if schema.get("x-kubernetes-int-or-string"):
        text = {"type": "string", **{name: made.pop(name) for name in ("pattern",) if name in made}}
        made.pop("type", None)
        made["anyOf"] = [{"type": "integer"}, text]
    if "properties" in schema:
        made["properties"] = {name: structural(value) for name, value in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            made["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        made["additionalProperties"] = structural(schema["additionalProperties"])
    if "items" in schema:
        made["items"] = structural(schema["items"])
    if schema.get("x-kubernetes-list-type") == "map":
        made["x-keys"] = schema["x-kubernetes-list-map-keys"]
    elif schema.get("x-kubernetes-list-type") == "set":
        made["uniqueItems"] = True
    if schema.get("nullable") and "type" in made:
        made["type"] = [made["type"], "null"]
    return made


def _told_apart(_: Validator, by: list[str], items: Any, __: Any) -> Iterator[jsonschema.ValidationError]:
    seen: set[tuple[Any, ...]] = set()
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and (key := tuple(str(item.get(name)) for name in by)) in seen:
            yield jsonschema.ValidationError(f"two items with the same {', '.join(by)}: {', '.join(key)}")
        elif isinstance(item, dict):
            seen.add(key)


_Strict: Any = jsonschema.validators.extend(  # type: ignore[no-untyped-call]  # its stubs leave it out
    jsonschema.Draft202012Validator, {"x-keys": _told_apart}
)


def _validator(schema: Mapping[str, Any]) -> Validator:
    made: Validator = _Strict(schema, registry=_registry())
    return made


@cache
def _registry() -> Registry[Any]:
    shared = schema_contents(f"{SHIPPED}/_definitions.json", KUBERNETES)
    empty: Registry[Any] = Registry()
    held: Registry[Any] = empty.with_resource(SHARED, Resource.from_contents(shared, DRAFT202012))
    return held
