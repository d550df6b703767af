"""The checker finds every violation that is planted in a sound history, and none that is not."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from chimera.chaos.calls import AGENT, COST_MICROUSD, LIMITS, MODEL
from chimera.chaos.checker import check
from chimera.chaos.deaths import BOUND_S, recoveries, times
from chimera.chaos.faults import Fault
from chimera.chaos.history import History
from chimera.chaos.rest import WAKE_S, ZERO_S
from chimera.chaos.urgent import Served, served
from chimera.core.brake import Rules, plan_per_day
from chimera.core.event import Event
from chimera.core.money import Window
from chimera.runtime.base import open_base
from chimera.serving.local.redis_server import RedisServer
from chimera.settings import load
from tests.chaos.histories import ACME, HOLD, OTHER, Drill

Plant = Callable[["Field"], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """What a small real run leaves behind."""
    directory = tmp_path_factory.mktemp("drill")
    with RedisServer(directory / "redis", fsync="no") as server:
        settings = load(redis_url=server.url, state_dir=directory)

        async def run() -> History:
            base = await open_base(settings)
            for tenant in (ACME, OTHER):
                await base.tenants.add(tenant)
            try:
                return await Drill(base, directory).run()
            finally:
                await base.close()

        yield asyncio.run(run())


class Field:
    """A history to plant in: its parts as plain values, put together again by `harvest`."""

    def __init__(self, history: History) -> None:
        self.told = history.model_dump()
        self.acme = self.told["tenants"][ACME]
        self.events = [event.model_dump() for event in history.tenants[ACME].events]
        self.instants = {event["at"] for event in self.events}

    def harvest(self, *, numbered: bool = True) -> History:
        """The history with what was planted; its entries numbered through unless that is the point."""
        if numbered:
            for seq, event in enumerate(self.events, start=1):
                event["seq"] = seq
        self.acme["events"] = self.events
        if {event["at"] for event in self.events} - self.instants:
            # Charges may be in other minutes now than the ledger has them: as if these were long over.
            for cut in self.acme["ledger"]:
                cut["at"] += timedelta(days=500)
        return History.model_validate(self.told)

    def mission(self, name: str) -> dict[str, Any]:
        """A mission as the store has it at the end."""
        return next(one for one in self.acme["missions"] if one["mission_id"] == name)

    def drop_mission(self, name: str) -> None:
        self.acme["missions"] = [one for one in self.acme["missions"] if one["mission_id"] != name]

    def forget(self, name: str) -> None:
        """No client was told of it."""
        self.told["acknowledged"] = [one for one in self.told["acknowledged"] if one["mission_id"] != name]

    def ack(self, name: str) -> dict[str, Any]:
        """What its client was told."""
        return next(one for one in self.told["acknowledged"] if one["mission_id"] == name)

    def at(self, kind: str, task: str = "", nth: int = 0, **details: Any) -> int:
        """Where the nth entry of a kind stands, of a task or mission."""
        found = [
            at
            for at, event in enumerate(self.events)
            if event["kind"] == kind
            and task in {"", event["task_id"], event["mission_id"]}
            and details.items() <= event["details"].items()
        ]
        return found[nth]

    def event(self, kind: str, task: str = "", nth: int = 0, **details: Any) -> dict[str, Any]:
        """That entry."""
        return self.events[self.at(kind, task, nth, **details)]

    def drop(self, wanted: Callable[[dict[str, Any]], bool]) -> None:
        """Take entries out."""
        self.events = [event for event in self.events if not wanted(event)]

    def insert(self, at: int, like: dict[str, Any], /, **changed: Any) -> dict[str, Any]:
        """Put an entry in before a place: one like another, changed."""
        made = {**like, "details": dict(like["details"]), **changed}
        self.events.insert(at, made)
        return made

    def again(self, kind: str, task: str = "", nth: int = 0, /, **changed: Any) -> dict[str, Any]:
        """The same entry once more, right after itself."""
        at = self.at(kind, task, nth)
        return self.insert(at + 1, self.events[at], **changed)


@dataclass(frozen=True)
class Case:
    """One violation.

    Attributes:
        broken: the invariants that it breaks: these are found, and no other.
        says: what the first of them must say, a pattern.
    """

    name: str
    broken: tuple[str, ...]
    says: str
    plant: Plant
    numbered: bool = True


CASES: list[Case] = []


def case(*broken: str, says: str, numbered: bool = True) -> Callable[[Plant], Plant]:
    def add(plant: Plant) -> Plant:
        CASES.append(Case(plant.__name__, broken, says, plant, numbered))
        return plant

    return add


# I1: missions.


@case("I1", says="m2 was acknowledged and is gone")
def a_mission_is_lost(field: Field) -> None:
    field.drop_mission("m2")


@case("I1", says="m2 was acknowledged and is gone")
def a_mission_is_lost_with_all_that_was_recorded_of_it(field: Field) -> None:
    field.drop_mission("m2")
    field.drop(lambda event: event["mission_id"] == "m2")
    for name in ("results", "verdicts"):
        field.acme[name] = {k: v for k, v in field.acme[name].items() if not k.startswith("m2.")}


@case("I1", says="m2 has entries and is gone")
def a_mission_that_nobody_was_told_of_is_lost(field: Field) -> None:
    field.drop_mission("m2")
    field.forget("m2")


@case("I1", says="m1 was acknowledged and is gone")
def a_mission_is_with_another_tenant(field: Field) -> None:
    field.ack("m1")["tenant"] = OTHER


@case("I1", says="m1 was acknowledged to a tenant that is gone")
def a_tenant_is_lost(field: Field) -> None:
    field.ack("m1")["tenant"] = "nobody"


@case("I1", says="m1 was acknowledged twice")
def two_missions_are_one(field: Field) -> None:
    field.told["acknowledged"] += (dict(field.ack("m1")),)


@case("I1", says="m2 is RUNNING, tasks")
def a_mission_never_ends(field: Field) -> None:
    field.mission("m2")["status"] = "RUNNING"
    del field.events[field.at("mission.completed", "m2")]


@case("I1", says="m2 is RUNNING, tasks")
def a_mission_that_nobody_was_told_of_never_ends(field: Field) -> None:
    field.forget("m2")
    a_mission_never_ends(field)


@case("I1", "I2b", says="m2 is COMPLETED with open tasks")
def a_task_is_open_at_the_end(field: Field) -> None:
    field.mission("m2")["counts"] = {"ACCEPTED": 1, "READY": 1}


@case("I1", says="m3 is of 3 tasks, 4 were acknowledged")
def a_mission_that_was_cancelled_is_smaller_than_it_was(field: Field) -> None:
    field.ack("m3")["tasks"] = 4


@case("I1", "I2b", says="m2 is COMPLETED and has .* of 2 tasks")
def a_task_is_lost(field: Field) -> None:
    field.mission("m2")["counts"] = {"ACCEPTED": 1}


@case("I1", "I2b", says="m2 is COMPLETED and has .* of 2 tasks")
def a_task_is_there_twice(field: Field) -> None:
    field.mission("m2")["counts"] = {"ACCEPTED": 3}


# I2: results.


@case("I2", "I2b", "I7", says="m1.0 was accepted 2 times")
def a_task_is_accepted_twice(field: Field) -> None:
    field.again("task.accepted", "m1.0")


@case("I2", says="m1.0 has 2 results")
def a_task_has_two_results(field: Field) -> None:
    field.acme["results"]["m1.0"] = 2


@case("I2", says="m1.0 was accepted and has no result")
def a_result_is_lost(field: Field) -> None:
    del field.acme["results"]["m1.0"]


@case("I2", says="m3.0 has a result nobody accepted")
def a_result_is_there_that_nobody_accepted(field: Field) -> None:
    field.acme["results"]["m3.0"] = 1


# I2b: steps.


@case("I2b", says=r"m2.b: entry \d+ \(task.claimed\) is made of a task that is PENDING")
def a_task_is_claimed_while_another_holds_it(field: Field) -> None:
    field.again("task.claimed", "m2.b")["details"]["attempt"] = 2


@case("I2b", says=r"m2.b: entry \d+ \(task.submitted\) is by w9, and w2 holds it")
def a_result_comes_from_one_who_lost_the_lease(field: Field) -> None:
    field.event("task.submitted", "m2.b")["by"] = "w9"


@case("I2b", says=r"m1.1: entry \d+ \(task.erred\) is by w1, and w2 holds it")
def an_attempt_is_ended_by_one_who_lost_the_lease(field: Field) -> None:
    field.event("task.erred", "m1.1")["by"] = "w1"


@case("I2b", says=r"m2.b: entry \d+ \(task.claimed\) begins attempt 3 after 0")
def attempts_are_lost(field: Field) -> None:
    field.event("task.claimed", "m2.b")["details"]["attempt"] = 3


@case("I2b", says=r"m2.a: entry \d+ \(task.redriven\) is made of a task that is PENDING")
def a_task_that_did_not_fail_is_redriven(field: Field) -> None:
    failed = field.at("task.failed", "m2.a")
    del field.events[failed - 1 : failed + 1]


@case("I2b", says=r"m1.\d: entry \d+ \(task.accepted\) is made of a task that is ESCALATED")
def a_judge_accepts_what_waits_for_a_human(field: Field) -> None:
    field.event("task.approved")["kind"] = "task.accepted"


@case("I2b", says=r"entry \d+ has 'm2.b' in mission 'm3'")
def an_entry_is_of_another_mission(field: Field) -> None:
    field.event("task.claimed", "m2.b")["mission_id"] = "m3"


@case("I2b", says="m3: 3 tasks were planned, 2 have entries")
def a_task_vanishes(field: Field) -> None:
    field.drop(lambda event: event["task_id"] == "m3.2")
    field.mission("m3")["counts"] = {"CANCELLED": 2}


@case("I2b", says="m3 has .* in the store; its entries make it")
def the_store_counts_otherwise(field: Field) -> None:
    field.mission("m3")["counts"] = {"CANCELLED": 2, "FAILED": 1}


@case("I2b", says=r"m2: entry \d+ leads from COMPLETED to PAUSED")
def a_mission_makes_an_impossible_step(field: Field) -> None:
    paused = field.event("mission.paused", "m3")
    at = field.at("mission.completed", "m2")
    field.insert(at + 1, paused, mission_id="m2")
    field.insert(at + 2, field.event("mission.running", "m2"))
    field.insert(at + 3, field.events[at])


@case("I2b", says=r"m2: entry \d+ submits it a second time")
def a_mission_is_submitted_twice(field: Field) -> None:
    field.again("mission.submitted", "m2")


@case("I2b", says=r"m1: entry \d+ archives it, and it is not over")
def an_unfinished_mission_is_archived(field: Field) -> None:
    archived = field.event("mission.archived", "m1")
    field.events.remove(archived)
    field.events.insert(field.at("mission.completed", "m1"), archived)


@case("I2b", says=r"m1: entry \d+ \(mission.running\) is of one that was archived")
def an_archived_mission_goes_on(field: Field) -> None:
    running, completed = field.event("mission.running", "m1"), field.event("mission.completed", "m1")
    for again in (running, completed):
        field.insert(len(field.events), again, at=field.events[-1]["at"])


@case("I2b", says=r"m2: entry \d+ leads from nothing to RUNNING")
def a_mission_comes_from_nowhere(field: Field) -> None:
    del field.events[field.at("mission.submitted", "m2")]


@case("I2b", says="m2 is CANCELLED in the store; its entries make it COMPLETED")
def a_missions_end_is_not_the_recorded_one(field: Field) -> None:
    field.mission("m2")["status"] = "CANCELLED"


# I3: money.


@case("I3", says=r"m1: entry \d+ grants 20000: 0 settled and 20000 held of 10000, its budget")
def a_grant_is_over_the_budget(field: Field) -> None:
    field.event("spend.held", hold="h1")["details"]["amount"] = 20_000


@case("I3", says=r"m4: entry \d+ grants 6000: .* of 5000, its budget")
def a_grant_is_over_the_budget_before_it_was_raised(field: Field) -> None:
    field.event("spend.held", hold="h5")["details"]["amount"] = 6_000
    raised = field.insert(len(field.events), field.event("mission.resumed", "m4"))
    raised["details"]["budget"] = 9_000
    field.insert(len(field.events) - 1, field.event("mission.paused", "m3"), mission_id="m4")
    done = field.event("mission.completed", "m4")
    field.events.remove(done)
    field.events.append(done)
    field.mission("m4")["budget_microusd"] = 9_000


def lowered(field: Field, limit: str) -> None:
    """Between two grants of m1 a limit goes down below what the second holds."""
    entry = field.again("spend.settled", hold_kind(field, "h1"))
    details = {"limits": {limit: 300}, "reason": "", "raised": 0}
    entry.update(kind="limits.set", mission_id="", task_id="", details=details)


OVER = r"m1: entry \d+ grants 400: 80 settled and 400 held of 300, the "


@case("I3", says=rf"{OVER}tenant's limit a day")
def a_grant_is_over_a_limit_of_the_tenant(field: Field) -> None:
    lowered(field, "day")


@case("I3", says=rf"{OVER}limit of agent/chaos-drill a minute")
def a_grant_is_over_a_limit_of_its_agent(field: Field) -> None:
    lowered(field, "agent/chaos-drill/minute")


@case("I3", says=rf"{OVER}limit of model/metered a lifetime")
def a_grant_is_over_a_limit_of_its_model(field: Field) -> None:
    lowered(field, "model/metered/lifetime")


def hold_kind(field: Field, hold: str) -> str:
    """The task that a hold is of."""
    return str(field.event("spend.held", hold=hold)["task_id"])


@case("I3", says=r"m4: entry \d+ holds -1, less than nothing")
def less_than_nothing_is_held(field: Field) -> None:
    at = len(field.events)
    held = field.insert(at, field.event("spend.held", hold="h5"))
    held["details"] |= {"hold": "h9", "amount": -1}
    field.insert(at + 1, held, kind="spend.released", details={"hold": "h9"})


@case("I3", says=r"m1: entry \d+ grants hold h1 a second time")
def a_hold_is_granted_twice(field: Field) -> None:
    field.again("spend.held", "m1.0")


@case("I3", "I3b", says=rf"m1: entry \d+ charges 9000 to a hold of {HOLD}")
def a_call_costs_more_than_was_held(field: Field) -> None:
    field.event("spend.settled", hold="h1")["details"]["cost"] = 9_000
    field.mission("m1")["settled_microusd"] += 9_000 - 80


@case("I3", "I3b", says=r"m1: entry \d+ charges -5 to a hold")
def a_call_gives_money_back(field: Field) -> None:
    field.event("spend.settled", hold="h1")["details"]["cost"] = -5


@case("I3", says=r"m1: entry \d+ ends hold h1, which is not open")
def a_hold_ends_twice(field: Field) -> None:
    field.again("spend.settled", "m1.0")


@case("I3", says=r"m1: entry \d+ ends hold h8, which is not open")
def a_hold_ends_that_never_was(field: Field) -> None:
    field.again("spend.settled", "m1.0")["details"]["hold"] = "h8"


@case("I3", says="m1: 161 settled in the store, 160 recorded")
def the_stores_figure_is_not_the_recorders(field: Field) -> None:
    field.mission("m1")["settled_microusd"] += 1


@case("I3", says="m2.a: call 1 of 1 was served before as many holds were granted")
def a_call_is_served_without_a_hold(field: Field) -> None:
    field.told["calls"] += ({**field.told["calls"][0], "task": "m2.a", "cost": 0},)


@case("I3", says="m1.0: call 2 of 2 was served before as many holds were granted")
def a_hold_is_used_for_two_calls(field: Field) -> None:
    field.told["calls"] += ({**field.told["calls"][0], "cost": 0},)


@case("I3", says="m1.0: call 1 of 1 was served before as many holds were granted")
def a_call_is_served_before_its_hold(field: Field) -> None:
    field.told["calls"][0]["at"] -= 10


@case("I3", says="m1.0: calls for 81 µ. were served, 80 charged")
def a_call_is_not_charged(field: Field) -> None:
    field.told["calls"][0]["cost"] += 1


@case("I3", says="a call for 'm9.9' was served, which is no task")
def a_call_is_for_no_task(field: Field) -> None:
    field.told["calls"][0]["task"] = "m9.9"


# I3b: the audit.


def ledger(field: Field) -> dict[str, Any]:
    """The store's figures of the tenant."""
    found: dict[str, Any] = field.acme["ledger"][0]
    return found


@case("I3b", says=r"acme: tenant lifetime: 241 in the ledger, 240 recorded \(\+1\)")
def a_window_of_the_ledger_drifts(field: Field) -> None:
    ledger(field)["subjects"][""]["settled:lifetime"] += 1


@case("I3b", says="acme: tenant year:2001: 5 in the ledger, 0 recorded")
def the_ledger_has_a_window_in_which_nothing_was_charged(field: Field) -> None:
    ledger(field)["subjects"][""]["settled:year:2001"] = 5


@case("I3b", says="acme: tenant lifetime: 0 in the ledger, 240 recorded")
def a_window_of_the_ledger_is_gone(field: Field) -> None:
    del ledger(field)["subjects"][""]["settled:lifetime"]


@case("I3b", "I4", says="acme: agent/chaos-drill held: 5 in the ledger, 0 recorded")
def a_figure_of_an_agent_drifts(field: Field) -> None:
    ledger(field)["subjects"]["agent/chaos-drill"]["held"] = 5


@case("I3b", says="acme: model/metered calls: 4 in the ledger, 3 recorded")
def a_figure_of_a_model_drifts(field: Field) -> None:
    ledger(field)["subjects"]["model/metered"]["calls"] += 1


@case("I3b", says="acme: mission/m4 settled: 79 in the ledger, 80 recorded")
def a_missions_figure_drifts(field: Field) -> None:
    ledger(field)["missions"]["m4"] = (79, 0)


@case("I3b", says="acme: tenant open hold h1: 1 in the ledger, 0 recorded")
def the_ledger_holds_what_ended(field: Field) -> None:
    ledger(field)["holds"] = ("h1",)


# I4: holds.


@case("I4", "I3b", says="acme: hold h9 never ended")
def a_hold_never_ends(field: Field) -> None:
    held = field.insert(len(field.events), field.event("spend.held", hold="h5"))
    held["details"] |= {"hold": "h9", "amount": 1}


@case("I4", says="acme: 0 µ. in 1 holds at the end")
def the_store_has_an_open_hold(field: Field) -> None:
    field.acme["open_holds"] = 1


@case("I4", says="acme: 7 µ. in 0 holds at the end")
def the_store_holds_money_for_nothing(field: Field) -> None:
    field.acme["held_microusd"] = 7


@case("I4", says="m1: 7 µ. held at the end")
def a_mission_holds_money_for_nothing(field: Field) -> None:
    field.mission("m1")["held_microusd"] = 7


@case("I4", "I3b", says="acme: 7 µ. held of model/metered at the end")
def a_model_holds_money_for_nothing(field: Field) -> None:
    ledger(field)["subjects"]["model/metered"]["held"] = 7


# I6: deaths.


@case("I6", says=r"m1.1 of w1 came back to work after 7\.\d s")
def a_dead_workers_task_comes_back_late(field: Field) -> None:
    field.event("task.rescued", "m1.1")["at"] += timedelta(seconds=BOUND_S + 2)


@case("I6", says=r"m1.1 of w1 waited for more than 5 s, and m1.2 was claimed before it")
def a_dead_workers_task_is_passed_by(field: Field) -> None:
    again = field.at("task.claimed", "m1.1", 1)
    for event in field.events[:again]:
        event["at"] -= timedelta(seconds=BOUND_S + 2)
    for moment in ("at", "began", "until"):
        field.told["faults"][0][moment] -= BOUND_S + 2
    field.events[again : again + 2] = reversed(field.events[again : again + 2])


@case("I6", "I1", says="m1.1 of w1 never came back to work")
def a_dead_workers_task_never_comes_back(field: Field) -> None:
    lost = field.at("task.rescued", "m1.1")
    later = [event for event in field.events[lost:] if event["task_id"] == "m1.1"]
    spent = sum(event["details"].get("cost", 0) for event in later if event["kind"] == "spend.settled")
    field.drop(lambda event: any(event is one for one in later))
    field.mission("m1")["counts"] = {"ACCEPTED": 5, "PENDING": 1}
    field.mission("m1")["settled_microusd"] -= spent
    field.told["calls"] = tuple(one for one in field.told["calls"] if one["task"] != "m1.1")
    for name in ("results", "verdicts"):
        field.acme[name].pop("m1.1")


@case("I6", says=r"w1 is dead, and entry \d+ \(worker.started\) is by it")
def the_dead_go_on(field: Field) -> None:
    at = field.told["faults"][0]["at"]
    late = field.events[-1]["at"] + timedelta(seconds=5)
    assert late.timestamp() > at
    field.insert(len(field.events), field.event("worker.started"), by="w1", at=late)


# I6b: blame.


@case("I6b", says=r"m1.5: entry \d+ counts a crash of w2, which lived on")
def the_living_are_blamed(field: Field) -> None:
    field.event("task.rescued", "m1.5")["details"]["crash"] = True


@case("I6b", says="counts a crash of w2, which lived on")
def the_living_are_blamed_beside_another_ones_stop(field: Field) -> None:
    at = field.told["faults"][0]["at"]
    stop = {"fault": Fault.WORKER_STOP, "target": "w7", "tenant": ACME, "at": at, "until": at + 8}
    field.told["faults"] += (stop,)
    the_living_are_blamed(field)


# I7: verdicts.


@case("I7", says="m1.0 was accepted without a verdict")
def a_commit_has_no_verdict(field: Field) -> None:
    field.acme["verdicts"]["m1.0"] = 0


@case("I7", "I2b", says=r"m2.b: entry \d+ accepts what was not handed in")
def a_commit_comes_before_the_hand_in(field: Field) -> None:
    at = field.at("task.submitted", "m2.b")
    accepted = field.event("task.accepted", "m2.b")
    field.events.remove(accepted)
    field.events.insert(at, accepted)


@case("I7", says=r"m2.b: entry \d+ accepts what was not handed in, or not since its mission was edited")
def a_stale_result_is_committed(field: Field) -> None:
    edited = field.event("mission.edited", "m1")
    field.insert(field.at("task.accepted", "m2.b"), edited, mission_id="m2")


@case("I7", says=r"m2.b: entry \d+ accepts what w2 itself made")
def a_worker_accepts_its_own_work(field: Field) -> None:
    field.event("task.accepted", "m2.b")["by"] = "w2"


@case("I7", says=r"m1.0: entry \d+ \(action.queued\) comes before its verdict")
def an_action_comes_before_its_verdict(field: Field) -> None:
    at = field.at("action.queued", "m1.0")
    queued = field.events.pop(at)
    field.events.insert(field.at("task.accepted", "m1.0"), queued)


# I7b: side effects.


@case("I7b", says="m3.0: its webhook was sent, and its result was never accepted")
def a_webhook_is_sent_for_nothing(field: Field) -> None:
    field.told["hooks"] += ({**field.told["hooks"][0], "task": "m3.0"},)


@case("I7b", says=r"m1.0: its webhook was sent \d+\.\d+ s before the verdict")
def a_webhook_is_sent_before_the_verdict(field: Field) -> None:
    field.told["hooks"][0]["at"] -= 60


@case("I7b", says="m1.0: sent under 2 keys")
def a_webhook_is_sent_under_two_keys(field: Field) -> None:
    field.told["hooks"] += ({**field.told["hooks"][0], "key": "another"},)


@case("I7b", says="m2.a: its webhook was sent, and it had asked for none")
def a_webhook_is_sent_that_was_not_asked_for(field: Field) -> None:
    at = field.events[-1]["at"].timestamp()
    field.told["hooks"] += ({**field.told["hooks"][0], "task": "m2.a", "at": at},)


@case("I7b", says="m1.0/0 is DONE, and its receiver has not seen it")
def a_webhook_was_never_received(field: Field) -> None:
    field.told["hooks"] = ()


@case("I7b", says="m1.0/0 is QUEUED at the end")
def an_action_is_never_carried_out(field: Field) -> None:
    field.acme["actions"]["m1.0/0"] = "QUEUED"


# I9: the recorder.


@case("I9", says=r"acme: entry 7 follows 5", numbered=False)
def an_entry_is_lost(field: Field) -> None:
    del field.events[field.at("worker.started", nth=1)]


# I8: high priority.


def accepted_late(field: Field, by_s: float = 11.0) -> None:
    """m5.0 is accepted so much later, and its entry tells so."""
    event = field.event("task.accepted", "m5.0")
    event["at"] += timedelta(seconds=by_s)
    event["details"]["took_ms"] += round(by_s * 1000)


@case("I8", says=r"p99 of 2 tasks is 11\.\d s: m5\.0 took 11\.\d s")
def high_priority_comes_late(field: Field) -> None:
    accepted_late(field)
    event = field.event("task.accepted", "m5.0")
    field.insert(field.at("task.accepted", "m5.0") + 1, event, kind="slo.breached")


@case("I8", says=r"m5\.0 took 11\.\d\d s, told as a breach: False")
def a_breach_is_not_told(field: Field) -> None:
    accepted_late(field)


@case("I8", says=r"m5\.1 took 0\.\d\d s, told as a breach: True")
def a_breach_is_told_that_was_none(field: Field) -> None:
    event = field.event("task.approved", "m5.1")
    field.insert(field.at("task.approved", "m5.1") + 1, event, kind="slo.breached")


@case(
    "I8", says=r"m5\.0 took 0\.\d\d s, and its entry tells 1 ms \(from [0-9:.]+; still [0-9:.]+ to [0-9:.]+\)"
)
def a_time_is_told_wrong(field: Field) -> None:
    event = field.event("mission.submitted", "m5")
    event["at"] -= timedelta(seconds=0.5)
    field.event("task.accepted", "m5.0")["details"]["took_ms"] = 1
    field.event("task.approved", "m5.1")["details"]["took_ms"] += 500


@case("I9", says=r"acme: entry 1 follows 1", numbered=False)
def a_number_comes_twice(field: Field) -> None:
    field.again("limits.set")


@case("I9", says=r"acme: entry 2 follows 0", numbered=False)
def the_first_entry_is_lost(field: Field) -> None:
    del field.events[0]


@case("I9b", says=r"acme: segment 1: line 3 does not follow")
def an_archived_entry_is_edited(field: Field) -> None:
    field.acme["breaks"] = ("segment 1: line 3 does not follow",)


def rest(field: Field, event: str) -> dict[str, Any]:
    return next(one for one in field.told["rests"] if one["event"] == event)


@case("I5", says=r"m1\.0 of acme, by the login of its worker: read j of other went through")
def a_neighbour_is_read(field: Field) -> None:
    field.told["probes"][0]["outcome"] = "through"


@case("I5", says=r"\{nobody\}:q:t:m1\.0 is no tenant's key")
def a_key_is_nobodys(field: Field) -> None:
    field.told["strangers"] = ("{nobody}:q:t:m1.0",)


@case("I5", says=r"chimera\.judge was refused key \{acme\}:g:ledger")
def a_part_of_the_hub_lacks_a_right(field: Field) -> None:
    field.told["denied"] = (("chimera.judge", "key {acme}:g:ledger"),)


@case("I10", says=r"acme: workers were left 30 s after CHIMERA_IDLE_S without work")
def a_worker_never_goes(field: Field) -> None:
    field.told["rests"] = [one for one in field.told["rests"] if one["event"] != "zero"]


@case("I10", says=r"acme: it took until 5\.\d s after the bound")
def a_worker_goes_late(field: Field) -> None:
    rest(field, "idle")["at"] -= ZERO_S + 5


@case("I10", says=r"acme: w2 had no end in the recorder when none was left")
def a_worker_is_gone_without_an_entry(field: Field) -> None:
    field.drop(lambda event: event["kind"] == "worker.ended" and event["details"]["worker"] == "w2")


@case("I10", says=r"acme: nothing woke it")
def nothing_wakes_the_fleet(field: Field) -> None:
    del field.ack("m6")["wakes"]


@case("I10", says=r"m6 woke it after 3[01]\.\d s, not 30")
def the_fleet_wakes_late(field: Field) -> None:
    for event in field.events:
        if event["mission_id"] == "m6" and event["kind"] != "mission.submitted":
            event["at"] += timedelta(seconds=WAKE_S + 0.5)


def found(history: History) -> dict[str, tuple[str, ...]]:
    return {one.invariant: one.violations for one in check(history) if one.violations}


def test_nothing_is_found_where_nothing_is_wrong(sound: History) -> None:
    assert found(sound) == {}
    verdicts = {one.invariant: (one.checked, one.verdict) for one in check(sound)}
    # No archivist runs in so small a drill.
    assert {name for name, (checked, _) in verdicts.items() if checked == 0} == {"I9b"}


def urgent(field: Field) -> dict[str, Served]:
    return {one.task_id: one for one in served(field.harvest())}


@pytest.mark.parametrize(
    ("fault", "left_s"),
    [
        (Fault.REDIS_STOP, (0.0, 1.0)),  # held for 4 s, and six to heal
        (Fault.HEAD_KILL, (0.0, 0.5)),
        (Fault.WORKER_KILL, (11.0, 12.0)),
        (Fault.MODEL_HANGS, (11.0, 12.0)),
    ],
)
def test_what_takes_hub_or_store_away_is_subtracted_with_its_healing_and_nothing_else(
    fault: Fault, left_s: tuple[float, float], sound: History
) -> None:
    field = Field(sound)
    accepted_late(field)
    began = field.event("mission.submitted", "m5")["at"].timestamp()
    struck = {"fault": fault, "target": "", "tenant": "", "at": began + 0.5, "until": began + 5}
    field.told["faults"] = (*field.told["faults"], struck)
    one = urgent(field)["m5.0"]
    assert left_s[0] <= one.took_s <= left_s[1]
    assert one.own_s > 11, "what the fleet tells is what its callers saw"


@pytest.mark.parametrize("goes_on", ["mission.resumed", "task.approved"])
def test_what_waits_for_people_is_subtracted_once(goes_on: str, sound: History) -> None:
    field = Field(sound)
    before = urgent(field)["m5.1"].own_s
    late = timedelta(seconds=100)
    begun = False
    for event in field.events:
        begun = begun or (event["kind"] == goes_on and event["mission_id"] == "m5")
        if begun:
            event["at"] += late
    assert abs(urgent(field)["m5.1"].own_s - before) < 0.001


def test_the_sound_history_has_all_that_is_planted_in(sound: History) -> None:
    kinds = {event.kind for event in sound.tenants[ACME].events}
    assert {"task.rescued", "task.stale", "task.approved", "task.redriven", "spend.expired"} <= kinds
    assert {one.status for one in sound.tenants[ACME].missions} == {"COMPLETED", "CANCELLED"}


def test_a_proposal_before_its_verdict_is_no_violation(sound: History) -> None:
    field = Field(sound)
    field.insert(
        field.at("task.accepted", "m1.0"), field.event("action.queued", "m1.0"), kind="action.proposed"
    )
    assert found(field.harvest()) == {}


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.name)
def test_a_planted_violation_is_found_by_its_invariant_and_no_other(one: Case, sound: History) -> None:
    field = Field(sound)
    one.plant(field)
    violations = found(field.harvest(numbered=one.numbered))
    assert set(violations) == set(one.broken), violations
    assert any(re.search(one.says, said) for said in violations[one.broken[0]]), violations


def test_every_invariant_that_is_checked_has_violations_planted(sound: History) -> None:
    checked = {one.invariant for one in check(sound) if one.checked is not None}
    assert {name for one in CASES for name in one.broken} == checked


def test_a_finding_counts_its_violations(sound: History) -> None:
    field = Field(sound)
    field.acme["results"] |= {"m1.0": 2, "m1.1": 2}
    assert {one.verdict for one in check(field.harvest()) if one.violations} == {"2 violations"}


def faulty(sound: History, kind: Fault, after_s: float, target: str = "") -> Field:
    """The sound history with one more fault, so long after the worker's death."""
    field = Field(sound)
    at = field.told["faults"][0]["at"] + after_s
    fault = {"fault": kind, "target": target, "tenant": ACME, "at": at, "until": at + 1}
    field.told["faults"] += (fault,)
    return field


def test_a_death_beside_a_fault_of_the_store_has_no_bound(sound: History) -> None:
    field = faulty(sound, Fault.REDIS_KILL, 3)
    field.event("task.rescued", "m1.1")["at"] += timedelta(seconds=BOUND_S + 2)
    history = field.harvest()
    assert found(history) == {}
    assert {one.clean for one in recoveries(history)} == {False}
    assert list(times(history)) == ["claimed, beside other faults", "freed, beside other faults"]


def test_a_suspect_may_be_passed_by_for_it_waits_for_smaller_company(sound: History) -> None:
    field = Field(sound)
    a_dead_workers_task_is_passed_by(field)
    earlier = field.at("task.claimed", "m1.1")
    field.insert(earlier, field.event("task.rescued", "m1.1"), at=field.events[earlier]["at"])
    history = field.harvest()
    (one,) = recoveries(history)
    assert (one.suspect, one.passed_by[0]) == (True, "m1.2")
    assert "I6" not in found(history)
    assert set(times(history)) == {"claimed, alone, suspects", "freed, alone, suspects"}


def test_a_task_whose_last_word_was_on_its_way_is_no_recovery(sound: History) -> None:
    field = Field(sound)
    rescued = field.event("task.rescued", "m1.1")
    rescued.update(kind="task.erred", by="w1", details={"attempt": 1})
    history = field.harvest()
    assert list(recoveries(history)) == []
    assert found(history) == {}


def test_a_store_that_stood_still_reads_the_last_words_of_the_dead_later(sound: History) -> None:
    field = faulty(sound, Fault.REDIS_STOP, 0.5, "redis")
    the_dead_go_on(field)
    assert found(field.harvest()) == {}


def test_a_stopped_worker_that_goes_on_was_rightly_taken_for_dead(sound: History) -> None:
    field = faulty(sound, Fault.WORKER_STOP, 0, "w2")
    the_living_are_blamed(field)
    assert found(field.harvest()) == {}


def test_a_crash_that_was_taken_back_is_none(sound: History) -> None:
    field = Field(sound)
    the_living_are_blamed(field)
    lapsed = field.again("task.rescued", "m1.5", kind="task.lapsed", by="w2")
    lapsed["details"] = {"worker": "w2"}
    assert found(field.harvest()) == {}


def test_times_tell_how_long_the_dead_ones_tasks_waited(sound: History) -> None:
    measured = times(sound)
    assert measured["freed, alone"]["tasks"] == 1
    assert 0 <= measured["freed, alone"]["p99"] <= measured["claimed, alone"]["max"] < BOUND_S


def test_a_history_is_read_back_as_it_was_kept(sound: History, tmp_path: Any) -> None:
    sound.keep(tmp_path / "history.json")
    assert History.kept(tmp_path / "history.json") == sound
    assert isinstance(sound.tenants[ACME].events[0], Event)


def test_the_drills_limits_are_at_every_level_and_plan_for_more_than_it_spends() -> None:
    subjects = {limit.rpartition("/")[0] for limit in LIMITS}
    assert subjects == {"", f"agent/{AGENT}", f"model/{MODEL}"}
    assert len(LIMITS) == len(subjects) * len(Window)
    # Two hundred calls a second are far more than a drill makes.
    assert plan_per_day(LIMITS, Rules(of_limits=True)) >= 10 * 200 * COST_MICROUSD * 86_400
