"""Every metric of the table is brought about through the real scripts, and found at `/metrics`."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import product

import httpx
import pytest
from pydantic import SecretStr

from chimera.core.action import Action, Outcome
from chimera.core.money import Window
from chimera.core.views import Health
from chimera.runtime.base import Base, base_of
from chimera.runtime.exporting import SERVER
from chimera.serving.gateway import Hub, create_app
from chimera.serving.gateway.figures import exposition, read
from chimera.serving.local.ports import free_port
from chimera.store.actions import Report
from chimera.store.brakes import BrakeStore, Order
from chimera.store.connection import connect_sync
from chimera.store.ledger import Reservation, Settlement
from chimera.store.scripts import SyncScripts
from chimera.store.tasks import Ended, Heartbeat
from chimera.telemetry.metrics import BY_NAME, METRICS, Metric
from tests.redis_fixtures import logged_in
from tests.render_metrics import PAGE, rendered
from tests.store import drive
from tests.store.letters import refuse

LINE = re.compile(r"^(chimera_[a-z_]+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)


async def well() -> Health:
    return Health(ok=True)


@pytest.fixture
async def busy(base: Base, tenant: str) -> AsyncIterator[str]:
    """A tenant to which everything happened once."""
    await refuse(base, tenant, 1)  # first: the events it writes are changes of limits
    await missions(base, tenant)
    await attempts(base, tenant)
    await reviews(base, tenant)
    await actions(base, tenant)
    await money(base, tenant)
    await drive.begin(base, tenant, drive.spec(priority="high"), "late")
    brakes = BrakeStore(base.redis)
    await brakes.order(tenant, Order.FREEZE, "op", by="test", reason="to see it")
    since = datetime(2026, 1, 2, tzinfo=UTC)
    troubled = [(base.troubles, tenant), (base.retention_troubles, tenant), (base.export_troubles, SERVER)]
    for troubles, of in troubled:
        await troubles.report(of, "No space left on device", since=since, failures=3)
    yield tenant
    for troubles, of in troubled:
        await troubles.clear(of)


async def missions(base: Base, tenant: str) -> None:
    stores = await drive.over(base, tenant, "gone")
    await drive.archive(stores, "gone")
    await drive.over(base, tenant, "done")
    await drive.begin(base, tenant, drive.spec(), "dropped")
    await stores.missions.cancel("dropped", by="test", reason="not wanted")
    await drive.end(stores, "dropped")
    await drive.begin(base, tenant, drive.spec(), "held")
    await stores.missions.pause("held", "p", by="test")
    await stores.missions.resume("held", "r", by="test")
    await stores.missions.cancel("held", by="test", reason="not wanted")
    await drive.end(stores, "held")


async def attempts(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1], max_attempts=2, min_accepted=1), "failed")
    for kind in ("return", "timeout", "error"):
        (one,) = await drive.claim(stores)
        await stores.tasks.end("w1", [Ended(one.task_id, one.token, kind)])
    await drive.end(stores, "failed")
    await stores.missions.redrive("failed", ["failed.0"], "op", by="test")
    (one,) = await drive.claim(stores, worker="w2")
    await stores.tasks.release("w2", "test", died=True)
    await drive.finish(stores, 1)
    await drive.end(stores, "failed")
    for priority in ("high", "medium", "low"):
        stores = await drive.begin(base, tenant, drive.spec(inputs=[1], priority=priority), priority)
        if priority == "high":
            await base.redis.hset(stores.missions.keys.of("mission", "high"), "slo_us", 0)
        await drive.finish(stores, 1)


async def reviews(base: Base, tenant: str) -> None:
    stores = await drive.begin(base, tenant, drive.spec(inputs=[1, 2, 3, 4, 5]), "asked")
    for one in await drive.claim(stores, 5):
        await drive.hand_in(stores, one)
    approved, declined, rejected, stale, kept = await drive.review(stores, 5)
    for held in (approved, declined, kept):
        await drive.judge(stores, held, drive.verdict("escalate", 0.8))
    await drive.judge(stores, rejected, drive.verdict("reject", 0.1))
    await stores.reviews.answer(approved.task_id, "a", verdict=drive.verdict(), by="eve", max_stale=5)
    no = drive.verdict("reject", 0.0)
    await stores.reviews.answer(declined.task_id, "d", verdict=no, by="eve", max_stale=5)
    await stores.missions.edit("asked", "e", by="test", goal="another")
    await drive.judge(stores, stale)
    # What stands afterwards: some of each.
    for priority in ("high", "medium", "low"):
        await drive.begin(base, tenant, drive.spec(inputs=[1, 2], priority=priority), f"open-{priority}")
    claims = await drive.claim(stores, 2)
    await drive.hand_in(stores, claims[0])

    def beat() -> None:
        with closing(connect_sync(base.settings)) as connection:
            of = SyncScripts(connection)
            Heartbeat(of, tenant, "w1", pid=7).renew([], lease_s=600, slots=16, busy=3)
            Heartbeat(of, tenant, "w3", pid=8).renew([], lease_s=600, slots=16, busy=3)

    await asyncio.to_thread(beat)
    await stores.tasks.leave("w3", "done")


async def actions(base: Base, tenant: str) -> None:
    hooks: list[Action] = [drive.HOOK] * 4
    stores = await drive.begin(base, tenant, drive.spec(inputs=["x"], priority="high"), "acting")
    while True:
        (one,) = await drive.claim(stores)
        await drive.hand_in(stores, one, actions=hooks)
        if one.mission_id == "acting":
            break
    for held in await drive.review(stores, 100):
        if held.mission_id == "acting":
            await drive.judge(stores, held)
    done, failed, retried, _ = await drive.errands(stores)
    for errand, outcome in ((done, Outcome.DONE), (failed, Outcome.FAILED), (retried, Outcome.RETRY)):
        await stores.actions.report("c1", [Report(errand.action_id, errand.token, outcome, "said", 0)])


async def money(base: Base, tenant: str) -> None:
    ledger = base.of(tenant).ledger
    await ledger.set_limits(dict.fromkeys(Window, 1_000), by="test")
    asked = [Reservation(f"h{n}", "", 0, 100, 600) for n in range(4)] + [Reservation("out", "", 0, 100, -1)]
    await ledger.reserve(asked, term=drive.TERM, by="g")
    tokens = {"input_tokens": 30, "cached_tokens": 5, "output_tokens": 7, "reasoning_tokens": 2}
    charge = json.dumps({**tokens, "latency_ms": 420})
    ends = [Settlement("h0", 100, charge), Settlement("h1", None)]
    await ledger.settle(ends, term=drive.TERM, by="g", **drive.KEEP)
    assert await ledger.expire(term=drive.TERM, by="g") == 1
    # Not while others are open · not in this minute · never.
    for hold, amount in (("c", 750), ("w", 950), ("x", 5_000)):
        await ledger.reserve([Reservation(hold, "", 0, amount, 60)], term=drive.TERM, by="g")
    await ledger.set_limits({**dict.fromkeys(Window, 100_000), Window.MINUTE: 1_000}, by="test")
    await ledger.reserve([Reservation("w2", "", 0, 950, 60)], term=drive.TERM, by="g")


async def spend(base: Base, tenant: str) -> None:
    ledger = base.of(tenant).ledger
    await ledger.reserve([Reservation("now", "", 0, 10, 60)], term=drive.TERM, by="g")
    await ledger.settle([Settlement("now", 10, "{}")], term=drive.TERM, by="g", **drive.KEEP)


def wanted(metric: Metric, tenant: str) -> list[dict[str, str]]:
    """Every combination of labels that the table knows of a metric; those of routes are any."""
    known = {label: metric.values[label] for label in metric.labels if label in metric.values}
    of_tenant = {"tenant": tenant} if "tenant" in metric.labels else {}
    return [{**of_tenant, **dict(zip(known, values, strict=True))} for values in product(*known.values())]


def found(text: str) -> list[tuple[str, dict[str, str], float]]:
    return [
        (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
        for name, labels, value in LINE.findall(text)
    ]


async def test_every_metric_is_brought_about_and_shown(base: Base, busy: str) -> None:
    settings = base.settings.model_copy(update={"brake_plan": "0.0001"})
    async with logged_in(settings, "gateway") as gateway:
        parts = BY_NAME["chimera_part_well"].values["part"]
        app = create_app(Hub(gateway, dict.fromkeys(parts, well)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
            await client.get("/v1/spend")
            await spend(base, busy)  # in this minute
            text = (await client.get("/metrics")).text
    shown = found(text)
    missing = [
        (metric.name, labels)
        for metric in METRICS
        for labels in wanted(metric, busy)
        if not any(
            name in {metric.name, f"{metric.name}_count"} and labels.items() <= said.items() and value > 0
            for name, said, value in shown
        )
    ]
    assert missing == []
    known = {metric.name for metric in METRICS}
    bare = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name, _, _ in shown}
    assert {name if name in known else f"{name}_total" for name in bare} == known


async def test_a_label_has_no_value_that_the_table_does_not_name(base: Base, busy: str) -> None:
    for name, labels, _ in found(exposition(await read(base))):
        metric = BY_NAME.get(name) or BY_NAME[re.sub(r"_(bucket|count|sum)$", "", name)]
        assert set(labels) - {"le"} == set(metric.labels), name
        for label, values in metric.values.items():
            assert labels[label] in values, name


async def test_every_gateway_tells_the_same(base: Base, busy: str) -> None:
    async with logged_in(base.settings, "gateway") as one, logged_in(base.settings, "gateway") as another:
        first, second = exposition(await read(one)), exposition(await read(another))
    assert first == second
    assert f'tenant="{busy}"' in first


async def test_histograms_are_cumulative_and_end_at_their_count(base: Base, busy: str) -> None:
    shown = found(exposition(await read(base)))
    buckets = [
        value
        for name, labels, value in shown
        if name == "chimera_task_seconds_bucket" and labels["priority"] == "low"
    ]
    (count,) = (
        value
        for name, labels, value in shown
        if name == "chimera_task_seconds_count" and labels["priority"] == "low"
    )
    assert len(buckets) == 13
    assert buckets == sorted(buckets)
    assert buckets[-1] == count > 0


async def test_a_tenant_that_was_removed_is_shown_no_more(base: Base, tenant: str) -> None:
    await base.tenants.add(f"{tenant}-x")
    assert f'tenant="{tenant}-x"' in exposition(await read(base))
    await base.tenants.remove(f"{tenant}-x")
    assert f'tenant="{tenant}-x"' not in exposition(await read(base))


async def test_a_store_that_is_away_shows_as_a_part_and_the_process_tells_its_own(base: Base) -> None:
    nowhere = SecretStr(f"redis://127.0.0.1:{free_port()}/0")
    gone = base_of(base.settings.model_copy(update={"redis_url": nowhere}))
    transport = httpx.ASGITransport(create_app(Hub(gone)))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:
        await client.get("/healthz")
        text = (await client.get("/metrics")).text
    await gone.close()
    assert 'chimera_http_seconds_count{route="/healthz"} 1.0' in text
    assert 'chimera_part_well{part="redis"} 0.0' in text
    assert "chimera_workers{" not in text


def test_the_page_has_the_table_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert rendered(page) == page, "make it anew: python -m tests.render_docs"
