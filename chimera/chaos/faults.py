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
    GOVERNOR_KILL = "governor-kill"
    GOVERNOR_STOP = "governor-stop"
    GATEWAY_KILL = "gateway-kill"
    REDIS_KILL = "redis-kill"
    REDIS_STOP = "redis-stop"
    SCRIPT_FLUSH = "script-flush"
    MODEL_REFUSES = "model-refuses"
    MODEL_HANGS = "model-hangs"
    HEAD_KILL = "head-kill"


HEAVY = (Fault.HEAD_KILL,)
"""Those that take half a minute to heal."""
LIGHT = tuple(fault for fault in Fault if fault not in HEAVY)
SETS = {"light": LIGHT, "heavy": HEAVY, "all": tuple(Fault)}

LASTS_S = {
    Fault.WORKER_STOP: 8.0,
    Fault.JUDGE_STOP: 6.0,
    Fault.ORCHESTRATOR_STOP: 6.0,
    Fault.GOVERNOR_STOP: 6.0,
    Fault.REDIS_STOP: 4.0,
    Fault.MODEL_REFUSES: 3.0,
    Fault.MODEL_HANGS: 3.0,
}
"""How long a fault is held. Stops outlast the default lease of 3 s, so that whoever wakes has lost it."""

APART_S = {Fault.REDIS_KILL: 20.0, Fault.HEAD_KILL: 60.0}
"""The least time from one fault of this kind to the next of any kind that stops the whole fleet: a supervisor
gives a fleet up whose parts die again and again."""


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
    """Faults over so many seconds: each kind in turn in a shuffled order, at uneven distances, so that
    they overlap. The same seed gives the same schedule."""
    chance = random.Random(seed)  # nosec B311 (to be repeated, not to be secret)
    planned: list[Planned] = []
    at, turn, not_before = 3.0, list[Fault](), 0.0
    while at < seconds:
        if not turn:
            turn = list(faults)
            chance.shuffle(turn)
        fault = turn.pop()
        if fault in APART_S:
            at = max(at, not_before)
            not_before = at + APART_S[fault]
        if at < seconds:
            planned.append(Planned(round(at, 3), fault, LASTS_S.get(fault, 0.0), chance.random()))
        at += chance.uniform(1.5, 9.0)
    return tuple(planned)


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
