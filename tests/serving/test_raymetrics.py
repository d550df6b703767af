"""What Ray is told of every tenant: what happened while this process led, and what stands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from chimera.core.gauges import Gauges
from chimera.core.series import Sample
from chimera.core.tally import Tally
from chimera.runtime.base import Base
from chimera.runtime.elector import Elector
from chimera.runtime.sampler import Sampler
from chimera.serving.raymetrics import NAMES, RayInstruments, RayMetrics
from chimera.telemetry.metrics import BY_NAME
from tests.redis_fixtures import base, redis_server, settings, tenant
from tests.store import drive

__all__ = ["base", "redis_server", "settings", "tenant"]


class Written:
    """Instruments that keep what they are told."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.stands: dict[str, float] = {}

    def count(self, name: str, labels: Mapping[str, str], more: float) -> None:
        assert more > 0, "Ray refuses others"
        self.counted[_line(name, labels)] += int(more)

    def stand(self, name: str, labels: Mapping[str, str], at: float) -> None:
        self.stands[_line(name, labels)] = at


def _line(name: str, labels: Mapping[str, str]) -> str:
    assert set(labels) == set(BY_NAME[name].labels)
    return " ".join((name, *labels.values()))


@pytest.fixture
def written() -> Written:
    return Written()


def sample(accepted: int, busy: int = 0, spent: int = 0) -> Sample:
    return Sample(1, Tally({"task.accepted": accepted}), Gauges(slots_busy=busy, settled_microusd=spent))


ACCEPTED = "chimera_tasks_total acme accepted"


def test_a_counter_counts_what_happened_while_it_led(written: Written) -> None:
    metrics = RayMetrics(written)
    for accepted in (100, 100, 103, 108):
        metrics.tell({"acme": sample(accepted)})
    assert written.counted[ACCEPTED] == 8
    metrics.tell({})
    for accepted in (500, 501):
        metrics.tell({"acme": sample(accepted)})
    assert written.counted[ACCEPTED] == 9


def test_leaders_one_after_another_add_up(written: Written) -> None:
    first, second = RayMetrics(written), RayMetrics(written)
    for metrics, seen in ((first, (0, 5)), (second, (5, 7)), (first, ())):
        for accepted in seen:
            metrics.tell({"acme": sample(accepted)})
    assert written.counted[ACCEPTED] == 7


def test_a_tenant_that_comes_later_comes_with_all_it_has(written: Written) -> None:
    metrics = RayMetrics(written)
    metrics.tell({"other": sample(1)})
    metrics.tell({"other": sample(1), "acme": sample(4)})
    assert written.counted[ACCEPTED] == 4


def test_a_gauge_is_0_once_its_tenant_is_gone_or_another_leads(written: Written) -> None:
    metrics = RayMetrics(written)
    metrics.tell({"acme": sample(1, busy=3, spent=70), "other": sample(1, busy=2)})
    assert written.stands["chimera_slots acme busy"] == 3
    assert written.stands["chimera_settled_microusd acme"] == 70
    metrics.tell({"other": sample(1, busy=2)})
    assert written.stands["chimera_slots acme busy"] == 0
    metrics.tell({})
    assert set(written.stands.values()) == {0}


def test_ray_takes_every_name_with_its_labels() -> None:
    instruments = RayInstruments()
    for name in NAMES:
        labels = dict.fromkeys(BY_NAME[name].labels, "acme")
        tell = instruments.count if BY_NAME[name].kind == "counter" else instruments.stand
        tell(name, labels, 1)


async def test_what_the_leader_sees_is_told_by_every_name(base: Base, tenant: str, written: Written) -> None:
    elector = Elector(base.election(f"orchestrator of {tenant}"), "r1")
    sampler = Sampler(base, elector, RayMetrics(written).tell)
    await sampler.run_once()
    assert not written.stands, "it does not lead"
    await elector.run_once()
    await sampler.run_once()
    await drive.over(base, tenant)
    await sampler.sample(drive.TERM)
    assert written.counted[f"chimera_tasks_total {tenant} accepted"] == 3
    assert written.counted[f"chimera_missions_total {tenant} completed"] == 1
    assert written.stands[f"chimera_missions_finished {tenant}"] == 1
    told = {line.split()[0] for line in (*written.counted, *written.stands)}
    assert told <= set(NAMES)
    assert all(BY_NAME[name].kind != "histogram" for name in NAMES)
