"""What may be asked for a tenant, as hypothesis draws it."""

from __future__ import annotations

from hypothesis import strategies as st

from chimera.core.kube.names import namespace_of
from chimera.core.kube.network import Opening
from chimera.core.kube.quantity import GI, MI, Size
from chimera.core.kube.request import Request

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,37}[a-z0-9])?", fullmatch=True)
QUOTAS = st.builds(Size, st.integers(100, 500_000), st.integers(256, 1_000_000).map(lambda mib: mib * MI))
WORKERS = st.builds(Size, st.integers(250, 16_000), st.integers(GI, 64 * GI))
OPENINGS = st.builds(
    Opening,
    st.ip_addresses().filter(lambda one: not one.is_link_local).map(str),
    st.integers(1, 65_535),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    """Any that the command could make."""
    tenant = draw(NAMES)
    return Request(
        tenant=tenant,
        namespace=namespace_of(tenant),
        quota=draw(QUOTAS),
        max_agents=draw(st.integers(1, 5_000)),
        slots=draw(st.integers(1, 256)),
        worker=draw(WORKERS),
        image=draw(st.sampled_from(["chimera:dev", "registry.example.com/chimera@sha256:0f"])),
        openings=tuple(draw(st.lists(OPENINGS, max_size=3))),
        suspend=draw(st.booleans()),
    )


def asked(
    tenant: str = "acme", *, cpu: int = 16_000, memory: int = 32 * GI, max_agents: int = 200
) -> Request:
    """One that fits: 13 worker pods of 16 agents each."""
    quota = Size(cpu, memory)
    return Request(
        tenant=tenant,
        namespace=namespace_of(tenant),
        quota=quota,
        max_agents=max_agents,
        slots=16,
        image="chimera:dev",
    )
