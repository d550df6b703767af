"""How many worker pods a tenant may have; and what is said when they do not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chimera.core.kube.quantity import GI, MI, Size
from chimera.core.kube.sizing import HEAD, HEAD_RESTS, LEAST_WORKER, sized
from chimera.errors import ConfigurationError
from tests.core.kube.requests import QUOTAS, WORKERS

ROOT = Path(__file__).parents[3]
WORKER = Size(1000, 2 * GI)


@pytest.mark.parametrize(
    ("agents", "slots", "replicas"),
    [(1, 16, 1), (16, 16, 1), (17, 16, 2), (200, 16, 13), (1, 1, 1), (7, 2, 4)],
)
def test_there_are_as_many_pods_as_it_takes_to_run_all_agents_at_once(
    agents: int, slots: int, replicas: int
) -> None:
    made = sized(quota=Size(100_000, 500 * GI), worker=WORKER, slots=slots, max_agents=agents)
    assert made.replicas == replicas
    assert made.taken == HEAD + WORKER * replicas


@given(QUOTAS, WORKERS, st.integers(1, 256), st.integers(1, 5_000))
def test_what_a_refusal_says_would_fit_fits(quota: Size, worker: Size, slots: int, agents: int) -> None:
    try:
        made = sized(quota=quota, worker=worker, slots=slots, max_agents=agents)
    except ConfigurationError as refusal:
        said = str(refusal)
        given = re.search(r"--cpu (\S+) --memory (\S+)$", said)
        assert given
        enough = Size.parse(given[1], given[2], flags=("--cpu", "--memory"))
        assert sized(quota=enough, worker=worker, slots=slots, max_agents=agents).taken == enough
        if room := re.search(r"room for (\d+) agents", said):
            fewer = int(room[1])
            assert fewer < agents
            assert sized(quota=quota, worker=worker, slots=slots, max_agents=fewer).taken.within(quota)
            with pytest.raises(ConfigurationError, match="lower --max-agents"):
                sized(quota=quota, worker=worker, slots=slots, max_agents=fewer + 1)
        else:
            assert not (HEAD + worker).within(quota)
    else:
        assert made.taken.within(quota)


def test_the_document_says_what_a_tenant_costs_at_rest_and_how_it_is_refused() -> None:
    said = " ".join((ROOT / "docs/spokes.md").read_text(encoding="utf-8").split())
    assert Size(500, 3 * GI) == HEAD_RESTS
    assert Size(1_500, 3 * GI) == HEAD
    assert "| **at rest: the head's pod** | **0.5** | **1.5** | **3 GiB** |" in said
    with pytest.raises(ConfigurationError) as refusal:
        sized(quota=Size(16_000, 32 * GI), worker=WORKER, slots=16, max_agents=300)
    assert str(refusal.value) in said


def test_a_quota_without_room_for_the_head_says_so() -> None:
    with pytest.raises(ConfigurationError, match="where the head's pod does not fit"):
        sized(quota=Size(1000, 64 * GI), worker=WORKER, slots=16, max_agents=1)
    with pytest.raises(ConfigurationError, match="where not one worker pod fits"):
        sized(quota=HEAD, worker=WORKER, slots=16, max_agents=1)


def test_a_worker_pod_that_ray_alone_would_fill_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"too small.*--worker-cpu 250m --worker-memory 1Gi"):
        sized(quota=Size(9000, 99 * GI), worker=Size(1000, 512 * MI), slots=16, max_agents=1)
    least = sized(quota=Size(9000, 99 * GI), worker=LEAST_WORKER, slots=16, max_agents=1)
    assert least.agents_mib == 256, "and agents have what Ray leaves"


def test_more_pods_than_a_fleet_may_have_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="raise --slots"):
        sized(quota=Size(10**9, 10**6 * GI), worker=WORKER, slots=1, max_agents=10_001)


@pytest.mark.parametrize(
    ("cpu", "memory", "size"),
    [
        ("1", "2Gi", Size(1000, 2 * GI)),
        ("500m", "512Mi", Size(500, 512 * MI)),
        ("0.25", "1.5Gi", Size(250, 1536 * MI)),
        ("2", "1G", Size(2000, 10**9)),
    ],
)
def test_quantities_are_read_as_kubernetes_reads_them_and_written_so_again(
    cpu: str, memory: str, size: Size
) -> None:
    read = Size.parse(cpu, memory, flags=("--cpu", "--memory"))
    assert read == size
    assert Size.parse(read.written_cpu, read.written_memory, flags=("--cpu", "--memory")) == size


@pytest.mark.parametrize(
    ("cpu", "memory", "said"),
    [
        ("many", "2Gi", "--cpu 'many' is no quantity"),
        ("1", "2GB", "--memory '2GB' is no quantity"),
        ("-1", "2Gi", "--cpu '-1' is no quantity"),
        ("0.0001", "2Gi", "--cpu must be a whole number of a thousandth"),
        ("1", "0", "--memory must be a whole number of a byte"),
        ("1", "100m", "--memory must be a whole number of a byte"),
        ("1e3", "2Gi", "--cpu '1e3' is no quantity"),
    ],
)
def test_what_is_no_quantity_is_refused_by_its_flag(cpu: str, memory: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(said)):
        Size.parse(cpu, memory, flags=("--cpu", "--memory"))
