"""What is done to a fleet, and when: a pure function of a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """One kind of harm."""

    WORKER_KILL = "worker-kill"
    WORKER_STOP = "worker-stop"
    JUDGE_KILL = "judge-kill"
    JUDGE_STOP = "judge-stop"
    ORCHESTRATOR_KILL = "orchestrator-kill"
    ORCHESTRATOR_STOP = "orchestrator-stop"
    WORKER_AND_LEADER_KILL = "worker-and-leader-kill"
    GOVERNOR_KILL = "governor-kill"
    GOVERNOR_STOP = "governor-stop"
    SECOND_HUB = "second-hub"
    GATEWAY_KILL = "gateway-kill"
    REDIS_KILL = "redis-kill"
    REDIS_STOP = "redis-stop"
    REDIS_SLOW = "redis-slow"
    REDIS_CUT = "redis-cut"
    REDIS_READ_ONLY = "redis-read-only"
    REDIS_FULL = "redis-full"
    SCRIPT_FLUSH = "script-flush"
    MODEL_REFUSES = "model-refuses"
    MODEL_HANGS = "model-hangs"
    NODE_KILL = "node-kill"
    REDEPLOY = "redeploy"
    HEAD_KILL = "head-kill"

    @property
    def means(self) -> str:
        """What is done, in words."""
        return MEANS[self]


F = Fault

MEANS = {
    F.WORKER_KILL: "SIGKILL of a worker with tasks in hand",
    F.WORKER_STOP: "SIGSTOP of a worker beyond its leases, then SIGCONT",
    F.JUDGE_KILL: "SIGKILL of the judge's replica",
    F.JUDGE_STOP: "SIGSTOP of the judge beyond its leases, then SIGCONT",
    F.ORCHESTRATOR_KILL: "SIGKILL of the orchestrator's replica, the leader",
    F.ORCHESTRATOR_STOP: "SIGSTOP of the leader beyond its lead, then SIGCONT",
    F.WORKER_AND_LEADER_KILL: "SIGKILL of a worker and of the leader at once",
    F.GOVERNOR_KILL: "SIGKILL of the governor",
    F.GOVERNOR_STOP: "SIGSTOP of the governor beyond its lead, then SIGCONT",
    F.SECOND_HUB: "a second hub joins; leader and governor of the first are stopped under it, and wake",
    F.GATEWAY_KILL: "SIGKILL of the gateway's replica",
    F.REDIS_KILL: "SIGKILL of Redis",
    F.REDIS_STOP: "SIGSTOP of Redis, then SIGCONT",
    F.REDIS_SLOW: "every command of Redis waits, up to a quarter of a second",
    F.REDIS_CUT: "every connection to Redis is cut, replies under way included",
    F.REDIS_READ_ONLY: "Redis becomes a read-only replica, as in a failover",
    F.REDIS_FULL: "Redis has reached its maxmemory",
    F.SCRIPT_FLUSH: "Redis forgets its scripts",
    F.MODEL_REFUSES: "the model's endpoint answers 429",
    F.MODEL_HANGS: "the model's endpoint takes calls and answers none",
    F.NODE_KILL: "SIGKILL of a Ray node with all its workers",
    F.REDEPLOY: "the hub is deployed anew under load, replica by replica",
    F.HEAD_KILL: "SIGKILL of Ray's head, with the hub on it",
}

HEAVY = (Fault.NODE_KILL, Fault.REDEPLOY, Fault.HEAD_KILL)
"""Those that take up to half a minute to heal."""
LIGHT = tuple(fault for fault in Fault if fault not in HEAVY)
SETS = {"light": LIGHT, "heavy": HEAVY, "all": tuple(Fault)}

LASTS_S = {
    F.WORKER_STOP: 8.0,
    F.JUDGE_STOP: 6.0,
    F.ORCHESTRATOR_STOP: 6.0,
    F.GOVERNOR_STOP: 6.0,
    F.SECOND_HUB: 12.0,
    F.REDIS_STOP: 4.0,
    F.REDIS_SLOW: 5.0,
    F.REDIS_READ_ONLY: 3.0,
    F.REDIS_FULL: 4.0,
    F.MODEL_REFUSES: 3.0,
    F.MODEL_HANGS: 3.0,
}
"""How long a fault is held. Stops outlast the default lease of 3 s, so that whoever wakes has lost it."""

HEALS_S = {F.REDIS_KILL: 10.0, F.NODE_KILL: 10.0, F.REDEPLOY: 15.0, F.HEAD_KILL: 30.0}
"""Until the next fault that needs its victim there: a supervisor gives up a fleet whose parts die again and
again, and a fault on what is not there yet shows nothing."""

MEAN_GAP_S = 3.2
"""Between faults, on average and at the least: as many rounds as fit are spread over the time."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A fault to come.

    Attributes:
        at_s: seconds after the load began.
        chance: picks the victim among those there are then, from 0 to 1.
    """

    at_s: float
    fault: Fault
    lasts_s: float
    chance: float


def schedule(seed: int, seconds: float, faults: tuple[Fault, ...]) -> tuple[Planned, ...]:
    """Faults over so many seconds; the same seed gives the same schedule.

    Every light fault comes once a round and every heavy one about every second round, in an order shuffled
    anew, at uneven distances, so that they overlap.
    """
    chance = random.Random(seed)  # nosec B311 (to be repeated, not to be secret)
    order = _order(chance, seconds, faults)
    rest_s = sum(HEALS_S.get(fault, 0.0) for fault in order)
    gap_s = max(MEAN_GAP_S, (seconds - rest_s - START_S) / max(1, len(order)))
    planned: list[Planned] = []
    at = START_S
    for fault in order:
        if at >= seconds:
            break
        planned.append(Planned(round(at, 3), fault, LASTS_S.get(fault, 0.0), chance.random()))
        at += HEALS_S.get(fault, 0.0) + chance.uniform(0.3, 1.7) * gap_s
    return tuple(planned)


START_S = 3.0
"""The first fault comes this long after the load."""


def _order(chance: random.Random, seconds: float, faults: tuple[Fault, ...]) -> list[Fault]:
    """Rounds of faults, as many as the time has room for, at least one."""
    light = [fault for fault in faults if fault not in HEAVY]
    heavy = [fault for fault in faults if fault in HEAVY]
    order: list[Fault] = []
    spent, rounds = START_S, 0
    while not order or spent < seconds:
        turn = light + (heavy if rounds % 2 == 0 or not light else [])
        cost = sum(MEAN_GAP_S + HEALS_S.get(fault, 0.0) for fault in turn)
        if order and spent + cost > seconds:
            break
        chance.shuffle(turn)
        order += turn
        spent, rounds = spent + cost, rounds + 1
    return order


def named(text: str) -> tuple[Fault, ...]:
    """``light``, ``heavy``, ``all``, or names with commas.

    Raises:
        ValueError: there is no such fault; lists them.
    """
    if text in SETS:
        return SETS[text]
    try:
        return tuple(Fault(name.strip()) for name in text.split(","))
    except ValueError:
        raise ValueError(
            f"{text!r} names no faults: give {', '.join(SETS)}, or some of {', '.join(Fault)}"
        ) from None
