"""`chimera spend` and `chimera mission estimate`: what people and programs see, and the exit codes."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import timedelta

import pytest

from chimera.cli.instant import instant
from chimera.cli.spend import lasting, sparkline
from chimera.errors import ConfigurationError
from chimera.runtime.base import Base
from chimera.store.fleetledger import FleetLedger
from tests.cli.conftest import Shell
from tests.cli.test_missions import mission
from tests.core.ledgers import START
from tests.store import paid


@pytest.fixture
async def spent(base: Base, tenant: str) -> None:
    """Calls of two models, and a refusal; the mission is over when the services come."""
    stores, claims = await paid.leased(base, tenant, inputs=2)
    await stores.ledger.set_limits({"day": 1_000_000, "model/gpt/hour": 500}, by="eve")
    await paid.call(stores, claims[0], 40, provider_request_id="r1")
    await paid.call(stores, claims[1], 60, model="small", provider_request_id="r2")
    assert not isinstance(await paid.hold(stores, claims[0], 501), str)
    await stores.missions.cancel("m1", by="eve", reason="enough")


@pytest.fixture
def operator(hub: Shell, base: Base) -> Shell:
    """A shell that knows the fleet's Redis and blob store too."""
    redis_url = base.settings.redis_url
    assert redis_url is not None
    own = {"CHIMERA_REDIS_URL": redis_url.get_secret_value(), "CHIMERA_BLOB_URL": base.settings.blob_location}
    return replace(hub, environment={**hub.environment, **own})


@pytest.mark.usefixtures("spent")
async def test_spend_shows_rows_limits_and_flags(hub: Shell) -> None:
    done = await hub("spend")
    assert done.code == 0, done.err
    assert "$0.000100 spent" in done.out
    assert "small" in done.out
    assert "model/gpt/hour" in done.out
    assert "a year       not told" in done.out
    assert "REFUSED BY" in done.out
    assert "█" not in done.out, "no bars where nobody looks"


async def test_a_key_that_is_not_known_is_told_apart_from_none(hub: Shell, base: Base, tenant: str) -> None:
    wrong = await replace(hub, environment={**hub.environment, "CHIMERA_API_KEY": "chi_wrong"})("spend")
    assert wrong.code == 3
    assert "the key that was given is not taken: this call needs a key that is known here" in wrong.err
    without = {name: value for name, value in hub.environment.items() if name != "CHIMERA_API_KEY"}
    none = await replace(hub, environment=without)("spend")
    assert (none.code, "was given" in none.err) == (3, False)
    ended = await base.api_keys.create(tenant, "a", by="o", name="old")
    await base.api_keys.rotate(tenant, ended.record.key_id, "b", by="o", overlap_s=0)
    late = await replace(hub, environment={**hub.environment, "CHIMERA_API_KEY": ended.key})("spend")
    assert f"key {ended.record.key_id} has ended" in late.err


@pytest.mark.usefixtures("spent")
async def test_spend_writes_json_and_csv(hub: Shell) -> None:
    told = (await hub("spend", "--by", "model,day", "-o", "json")).document
    assert told["total"]["cost_microusd"] == 100
    for how in (("--csv",), ("-o", "csv")):
        rows = list(csv.DictReader(io.StringIO((await hub("spend", "--by", "model", *how)).out)))
        assert [(row["model"], row["cost_microusd"]) for row in rows] == [("small", "60"), ("gpt", "40")]


@pytest.mark.usefixtures("spent")
async def test_the_operator_sees_every_tenant(operator: Shell, tenant: str, base: Base) -> None:
    await base.tenants.add(f"{tenant}-x")
    try:
        done = await operator("spend", "--by", "tenant,model", "--csv")
        rows = list(csv.DictReader(io.StringIO(done.out)))
        assert {
            (row["tenant"], row["model"], row["cost_microusd"]) for row in rows if row["tenant"] == tenant
        } == {
            (tenant, "gpt", "40"),
            (tenant, "small", "60"),
        }
        fleet = FleetLedger(base.redis)
        await fleet.set_limits({"day": 5_000_000}, by="eve")
        told = (await operator("spend", "--by", "tenant", "-o", "json")).document
        assert {tenant, f"{tenant}-x"} <= {one["tenant"] for one in told["tenants"]}
        assert [(one["level"], one["limit_microusd"]) for one in told["fleet"]] == [("fleet/day", 5_000_000)]
        assert "fleet/day" in (await operator("spend", "--by", "tenant")).out
        assert f"tenant {tenant}-x" in (await operator("spend", "--by", "tenant")).out
        of_one = (await operator("spend", "--by", "tenant", "--mission", "m1", "-o", "json")).document
        assert [one["tenant"] for one in of_one["tenants"]] == [tenant], "the others have no such mission"
        nobodys = await operator("spend", "--by", "tenant", "--mission", "m9")
        assert (nobodys.code, "no tenant has a mission 'm9'" in nobodys.err) == (2, True)
    finally:
        await FleetLedger(base.redis).set_limits({}, by="eve")
        await base.tenants.remove(f"{tenant}-x")


@pytest.mark.parametrize("since", ["999999d", "0001-01-01T00:00+23:00", "yesterday"])
async def test_an_instant_that_is_none_is_refused(hub: Shell, since: str) -> None:
    done = await hub("spend", "--since", since)
    assert (done.code, "is no instant" in done.err) == (2, True), done.err


@pytest.mark.usefixtures("spent")
async def test_flags_stand_in_reviews_too_until_acknowledged(hub: Shell) -> None:
    assert "model/gpt/hour" in (await hub("spend", "flags")).out
    listed = await hub("review", "list")
    assert "nothing waits for a human" in listed.err
    assert "model/gpt/hour" in listed.out
    assert (await hub("spend", "ack")).code == 2
    mistaken = await hub("spend", "ack", "tenant/day")
    assert mistaken.code == 2
    assert "there is no flag of tenant/day: there are model/gpt/hour" in mistaken.err
    assert (await hub("spend", "ack", "model/gpt/hour", "-m", "known")).out == "1 flag acknowledged\n"
    assert (await hub("spend", "ack", "--all", "-o", "json")).document == {"acknowledged": 0}
    none = await hub("spend", "ack", "--mission", "m1", "-o", "json")
    assert (none.code, none.out) == (2, "")
    assert "nothing was refused since somebody looked" in none.err
    assert "nothing was refused" in (await hub("spend", "flags")).err
    assert "REFUSED BY" not in (await hub("review", "list")).out


@pytest.fixture
async def poor(base: Base, tenant: str) -> None:
    """Two missions, each refused a call by its budget."""
    for mission_id in ("m1", "m2"):
        stores, claims = await paid.leased(base, tenant, mission_id, inputs=1, budget_usd="0.0001")
        assert not isinstance(await paid.hold(stores, claims[0], 500), str)


@pytest.mark.usefixtures("poor")  # before the fleet of the hub, which would claim their tasks
async def test_one_missions_flag_is_acknowledged_and_the_others_stay(hub: Shell) -> None:
    assert (await hub("spend", "ack", "--mission", "m1")).out == "1 flag acknowledged\n"
    assert [one["mission_id"] for one in (await hub("spend", "flags", "-o", "json")).document] == ["m2"]


@pytest.mark.usefixtures("spent")
async def test_an_audit_exits_0_with_what_was_checked_and_1_on_drift(
    operator: Shell, base: Base, tenant: str
) -> None:
    sound = await operator("spend", "audit", "--tenant", tenant)
    assert sound.code == 0, sound.out + sound.err
    assert f"{tenant}: " in sound.out
    assert "no drift" in sound.out
    await base.redis.hincrby(base.of(tenant).ledger.keys.of("subject", "model/gpt"), "settled:lifetime", 1)
    drifted = await operator("spend", "audit", "--tenant", tenant)
    assert drifted.code == 1
    assert "model/gpt lifetime: 41 in the ledger, 40 recorded (+1)" in drifted.out
    told = await operator("spend", "audit", "--tenant", tenant, "-o", "json")
    assert told.code == 1
    assert told.document[0]["drifts"] == [
        {"level": "model/gpt", "figure": "lifetime", "ledger": 41, "recorder": 40}
    ]
    assert (await operator("spend", "audit", "--tenant", "nobody")).code == 2


@pytest.mark.usefixtures("spent")
async def test_an_invoice_is_compared_and_its_mistakes_are_named(operator: Shell, tenant: str) -> None:
    operator.write("good.csv", "request_id,cost\nr1,0.00004\nr2,0.00006\n")
    audit = ("spend", "audit", "--tenant", tenant, "--against")
    good = await operator(*audit, "good.csv")
    assert good.code == 0, good.out + good.err
    assert "2 lines, 2 charges, 2 agree" in good.out
    operator.write("other.csv", "Request;x\n")
    operator.write("poor.csv", "Ref,Paid\nr1,0.00009\nr9,1\n")
    poor = await operator(*audit, "poor.csv", "--column", "id=Ref", "--column", "amount=Paid")
    assert poor.code == 1
    assert "only on the invoice: r9: $1.000000 invoiced (line 3)" in poor.out
    assert "only in the ledger: r2: $0.000060 charged" in poor.out
    assert "differs: r1" in poor.out
    told = await operator(*audit, "poor.csv", "--column", "id=Ref", "--column", "amount=Paid", "-o", "json")
    assert (told.code, told.document["within"]) == (1, False)
    wrong = await operator(*audit, "other.csv")
    assert wrong.code == 2
    assert "line 1: no column is known to be the amount" in wrong.err
    assert (await operator(*audit, "none.csv")).code == 2
    assert (await operator(*audit, "good.csv", "--tolerance", "much")).code == 2
    assert (await operator(*audit, "good.csv", "--column", "colour=red")).code == 2


async def test_a_mission_is_estimated_before_it_runs(hub: Shell) -> None:
    hub.write("m.json", mission(inputs=["a", "b"]))
    done = await hub("mission", "estimate", "m.json", "--every", "day")
    assert done.code == 0, done.err
    assert "2 tasks: likely $" in done.out
    assert "EVERY DAY" in done.out
    assert "a year, every day" in done.out
    assert "the budget alone bounds its worst case" in done.out
    told = (await hub("mission", "estimate", "m.json", "-o", "json")).document
    assert told["tasks"] == 2
    assert (await hub("mission", "list", "-o", "json")).document == []


@pytest.mark.parametrize("option", [("--by", "colour"), ("--since", "yesterday"), ("--until", "7x")])
async def test_what_cannot_be_asked_is_a_usage_error(hub: Shell, option: tuple[str, str]) -> None:
    assert (await hub("spend", *option)).code == 2


def test_instants_are_days_times_or_spans_back() -> None:
    assert str(instant("7d", START, "--since")) == "2026-11-21 10:00:00+00:00"
    assert str(instant("12h", START, "--since")) == "2026-11-27 22:00:00+00:00"
    assert str(instant("2026-11-01", START, "--since")) == "2026-11-01 00:00:00+00:00"
    assert str(instant("2026-11-01T01:00+02:00", START, "--since")) == "2026-10-31 23:00:00+00:00"
    assert instant("", START, "--since") is None
    with pytest.raises(ConfigurationError, match="--since: 'soon' is no instant"):
        instant("soon", START, "--since")


def test_a_sparkline_is_as_high_as_its_values() -> None:
    assert sparkline([0, 50, 100]) == "▁▅█"
    assert sparkline([0, 0]) == "▁▁"


@pytest.mark.parametrize(
    ("hours", "said"), [(0, "0 s"), (0.5, "30 min"), (5, "5 h 0 min"), (50, "2 d 2 h"), (9_000, "375 d")]
)
def test_spans_are_told_in_two_units(hours: float, said: str) -> None:
    assert lasting(timedelta(hours=hours)) == said
