"""Who reaches whom: nobody, and then what a tenant's pods need."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field

from chimera.core.kube.names import COMPONENT, HEAD, SPACE, WORKER
from chimera.core.kube.part import Metadata, Part
from chimera.errors import ConfigurationError

CREDENTIALS = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
"""Where clouds hand out their machines' credentials: never open."""
ANYWHERE = ("0.0.0.0/0",)
API_SERVER_PORTS = (443, 6443)
REDIS_PORT, METRICS_PORT, DNS_PORT = 6379, 8080, 53


class Block(Part):
    """Addresses."""

    cidr: str
    except_: tuple[str, ...] | None = Field(None, alias="except")


class Selector(Part):
    """What carries these labels; all, when there are none."""

    match_labels: dict[str, str] | None = None


class Peer(Part):
    """The other side."""

    namespace_selector: Selector | None = None
    pod_selector: Selector | None = None
    ip_block: Block | None = None


class PolicyPort(Part):
    """A port, with its protocol."""

    protocol: Literal["TCP", "UDP"] = "TCP"
    port: int


class Ingress(Part):
    """What comes in."""

    from_: tuple[Peer, ...] = Field(alias="from")
    ports: tuple[PolicyPort, ...] | None = None


class Egress(Part):
    """What goes out."""

    to: tuple[Peer, ...]
    ports: tuple[PolicyPort, ...] | None = None


class PolicySpec(Part):
    """For the pods that are selected."""

    pod_selector: Selector
    policy_types: tuple[Literal["Ingress", "Egress"], ...]
    ingress: tuple[Ingress, ...] | None = None
    egress: tuple[Egress, ...] | None = None


class NetworkPolicy(Part):
    """One policy; what several let through is let through."""

    api_version: Literal["networking.k8s.io/v1"] = "networking.k8s.io/v1"
    kind: Literal["NetworkPolicy"] = "NetworkPolicy"
    metadata: Metadata
    spec: PolicySpec


@dataclass(frozen=True, slots=True)
class Opening:
    """Addresses and a port that workers may reach, a model's endpoint for example."""

    cidr: str
    port: int

    @classmethod
    def parse(cls, written: str) -> Self:
        """``203.0.113.7/32:443`` → an opening.

        Raises:
            ConfigurationError: it is none.
        """
        cidr, _, port = written.rpartition(":")
        if not port.isascii() or not port.isdigit() or not 1 <= int(port) <= 65_535:
            raise ConfigurationError(f"--egress {written!r} has no port: write 203.0.113.7/32:443")
        return cls(network(cidr.removeprefix("[").removesuffix("]"), "--egress"), int(port))


def network(written: str, flag: str) -> str:
    """A CIDR as Kubernetes writes it.

    Raises:
        ConfigurationError: it is none, has bits beyond its prefix, or lies where credentials are.
    """
    try:
        found = ipaddress.ip_network(written)
    except ValueError as exc:
        raise ConfigurationError(f"{flag} {written!r} is no CIDR ({exc}): write 203.0.113.7/32") from exc
    if any(found.version == one.version and found.subnet_of(one) for one in CREDENTIALS):  # type: ignore[arg-type]  # of one version
        raise ConfigurationError(f"{flag} {written!r} is link-local, where clouds hand out credentials")
    return str(found)


def policies(
    namespace: str, *, hub: str, api_server: Iterable[str], openings: Iterable[Opening]
) -> tuple[NetworkPolicy, ...]:
    """All of a tenant's namespace.

    Args:
        hub: the namespace of the hub, with its Redis.
        api_server: CIDRs where the API server answers.
        openings: what workers reach beside.
    """

    def policy(name: str, pods: str = "", **rules: tuple[Ingress, ...] | tuple[Egress, ...]) -> NetworkPolicy:
        types = tuple(kind for kind in ("Ingress", "Egress") if kind.lower() in rules)
        selected = Selector(match_labels={COMPONENT: pods} if pods else None)
        return NetworkPolicy.model_validate(
            {
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"podSelector": selected, "policyTypes": types or ("Ingress", "Egress"), **rules},
            }
        )

    own = Peer(pod_selector=Selector())
    redis = _in(hub, pods="redis")
    return (
        policy("default-deny"),
        # Ray's ports are chosen as it runs: among the namespace's pods all are open, and to nobody else.
        policy("cluster", ingress=(Ingress(from_=(own,)),), egress=(Egress(to=(own,)),)),
        policy("names", egress=(Egress(to=(_in("kube-system"),), ports=_ports(DNS_PORT, "UDP", "TCP")),)),
        policy("redis", egress=(Egress(to=(redis,), ports=_ports(REDIS_PORT)),)),
        policy(
            "api-server",
            HEAD,
            egress=(
                Egress(
                    to=tuple(_block(cidr) for cidr in api_server),
                    ports=tuple(PolicyPort(port=port) for port in API_SERVER_PORTS),
                ),
            ),
        ),
        policy("metrics", ingress=(Ingress(from_=(_in("monitoring"),), ports=_ports(METRICS_PORT)),)),
        # There also without an opening: who applies the bundle again takes back what was open before.
        policy(
            "egress",
            WORKER,
            egress=tuple(Egress(to=(_block(one.cidr),), ports=_ports(one.port)) for one in openings),
        ),
    )


def _in(namespace: str, pods: str = "") -> Peer:
    return Peer(
        namespace_selector=Selector(match_labels={SPACE: namespace}),
        pod_selector=Selector(match_labels={COMPONENT: pods}) if pods else None,
    )


def _ports(port: int, *protocols: Literal["TCP", "UDP"]) -> tuple[PolicyPort, ...]:
    return tuple(PolicyPort(protocol=protocol, port=port) for protocol in protocols or ("TCP",))


def _block(cidr: str) -> Peer:
    whole = ipaddress.ip_network(cidr)
    shut = tuple(
        str(one)
        for one in CREDENTIALS
        if one.version == whole.version and one.subnet_of(whole)  # type: ignore[arg-type]  # of one version
    )
    return Peer(ip_block=Block.model_validate({"cidr": cidr, "except": shut or None}))
