"""Who reaches whom in a tenant's namespace."""

from __future__ import annotations

import re
from typing import Any

import pytest

from chimera.core.kube.network import Opening, network, policies
from chimera.errors import ConfigurationError


def made(
    *openings: str, api_server: tuple[str, ...] = ("0.0.0.0/0",), hub: str = "chimera-system"
) -> dict[str, Any]:
    found = policies(
        "tenant-acme", hub=hub, api_server=api_server, openings=[Opening.parse(one) for one in openings]
    )
    return {one.metadata.name or "": one.manifest()["spec"] for one in found}


def test_nothing_goes_in_or_out_unless_a_policy_says_so() -> None:
    assert made()["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_pods_of_the_namespace_reach_each_other_and_no_other_namespaces_reach_them() -> None:
    found = made()
    assert found["cluster"]["ingress"] == [{"from": [{"podSelector": {}}]}]
    assert found["cluster"]["egress"] == [{"to": [{"podSelector": {}}]}]
    comes = {name: spec["ingress"] for name, spec in found.items() if "ingress" in spec and name != "cluster"}
    assert comes.keys() == {"metrics"}
    assert comes["metrics"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]


def test_the_hubs_redis_is_reached_and_nothing_else_of_the_hub() -> None:
    (rule,) = made(hub="elsewhere")["redis"]["egress"]
    assert rule == {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/component": "redis"}},
            }
        ],
        "ports": [{"protocol": "TCP", "port": 6379}],
    }


def test_an_opening_is_the_workers_alone() -> None:
    found = made("203.0.113.7/32:443", "[2001:db8::/64]:8443")
    assert found["egress"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "worker"}}
    assert found["egress"]["egress"] == [
        {"to": [{"ipBlock": {"cidr": "203.0.113.7/32"}}], "ports": [{"protocol": "TCP", "port": 443}]},
        {"to": [{"ipBlock": {"cidr": "2001:db8::/64"}}], "ports": [{"protocol": "TCP", "port": 8443}]},
    ]


def test_an_opening_that_is_taken_back_leaves_no_policy_behind() -> None:
    """`kubectl apply` changes what it is given, and deletes nothing."""
    opened, closed = made("203.0.113.7/32:443", "198.51.100.7/32:443"), made()
    assert opened.keys() == closed.keys()
    assert closed["egress"]["egress"] == []
    assert closed["egress"]["policyTypes"] == ["Egress"]


def test_the_api_server_is_reached_by_the_head_alone() -> None:
    (rule,) = made(api_server=("10.96.0.1/32",))["api-server"]["egress"]
    assert rule["to"] == [{"ipBlock": {"cidr": "10.96.0.1/32"}}]
    assert made()["api-server"]["podSelector"] == {"matchLabels": {"app.kubernetes.io/component": "spoke"}}


def test_where_clouds_hand_out_credentials_is_never_open() -> None:
    found = made("0.0.0.0/0:443")
    for name in ("egress", "api-server"):
        block = found[name]["egress"][0]["to"][0]["ipBlock"]
        assert block == {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}
    with pytest.raises(ConfigurationError, match="link-local"):
        Opening.parse("169.254.169.254/32:80")
    with pytest.raises(ConfigurationError, match="link-local"):
        network("fe80::1/128", "--api-server")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("203.0.113.7/32", "has no port"),
        ("203.0.113.7/32:0", "has no port"),
        ("203.0.113.7/32:99999", "has no port"),
        ("models.example.com:443", "is no CIDR"),
        ("203.0.113.7/24:443", "is no CIDR"),
    ],
)
def test_what_is_no_opening_is_refused(written: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Opening.parse(written)
