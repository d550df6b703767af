"""The brake of one tenant's spend: what was spent, what was planned, where it stands → where it shall. Pure.

Two causes set it by themselves. **Burn**: money is spent faster than planned, in a short and in a long
window at once, as multi-window burn-rate alerts have it: the long one tells a spike from a moment, the short
one lets the brake go soon after the spending stops. **Progress**: money is spent on tasks, and nothing is
accepted.
It goes back by itself one step at a time, each only after it was calm for a while, well below what set it.
A person's word stands above both, and the canary's above all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

RELEASE = 0.5
"""A state is left below this share of what sets it."""
MAX_OVERRIDE_S = 86_400
"""No override lasts longer than a day."""
LEAST_PAUSE_S, MOST_PAUSE_S = 5, 30
"""A call that a brake refused is tried again after so long: the longer, the longer the brake has stood. As
the script has it (lua/include/braked.lua; a test compares)."""
DAY_S = 86_400
PERIODS_S = {"minute": 60, "hour": 3_600, "day": DAY_S, "month": 30 * DAY_S, "year": 365 * DAY_S}
"""Windows of a tenant's limits that make a plan, each with its length. A lifetime has none."""


class BrakeState(StrEnum):
    """What a tenant's brake lets through."""

    OPEN = "open"
    """Every call that the limits allow."""
    THROTTLED = "throttled"
    """Only calls for missions of high priority."""
    FROZEN = "frozen"
    """None: no paid call starts."""


class BrakeCause(StrEnum):
    """Why a brake stands where it stands."""

    NONE = ""
    """It never moved."""
    BURN = "burn"
    """Money was spent faster than planned."""
    PROGRESS = "progress"
    """Money was spent, and nothing was accepted."""
    CALM = "calm"
    """What had set it is over."""
    OPERATOR = "operator"
    """A person moved it."""
    CANARY = "canary"
    """A reservation was granted that had to be refused: limits do not hold."""


STATES = tuple(BrakeState)
"""In the order of their severity."""

S, C = BrakeState, BrakeCause

BRAKE_STEPS: dict[tuple[BrakeState, BrakeState], str] = {
    (S.OPEN, S.THROTTLED): "burn, or spend without progress, is over its threshold",
    (S.OPEN, S.FROZEN): "either is over its higher threshold; a person freezes; the canary was granted",
    (S.THROTTLED, S.FROZEN): "the same",
    (S.FROZEN, S.THROTTLED): "calm for a while; never out of a person's freeze or the canary's",
    (S.THROTTLED, S.OPEN): "calm for a while; a person thaws or overrides",
    (S.FROZEN, S.OPEN): "a person thaws or overrides",
}
"""(from, to) → why a brake makes that step. A step that is not here is impossible."""


@dataclass(frozen=True, slots=True)
class Rules:
    """When a brake moves. Money in µ$; a threshold of 0 never moves it.

    Attributes:
        short_s, long_s: the two windows.
        throttle_burn, freeze_burn: multiples of the plan that must be passed in both.
        floor: the brake never acts on less than this, spent in the long window.
        unaccepted: spent on tasks since the last acceptance: over this throttles, over twice this freezes.
        calm_s: so long it must be calm before it goes back a step.
        plan_per_day: the plan; 0: there is none, or that of the tenant's limits.
        of_limits: without one it is the tightest of the tenant's limits, spread over its window.
    """

    short_s: int = 300
    long_s: int = 1_800
    throttle_burn: float = 4.0
    freeze_burn: float = 8.0
    floor: int = 1_000_000
    unaccepted: int = 10_000_000
    calm_s: int = 60
    plan_per_day: int = 0
    of_limits: bool = False


@dataclass(frozen=True, slots=True)
class Burn:
    """What a tenant spent, at one instant of the store's clock. Money in µ$, instants in µs.

    Attributes:
        short, long: settled in the two windows, all together.
        unaccepted: settled for tasks in the long window since the last acceptance.
        since_us: when that began; 0 when there is none.
        busy: settled for tasks in the short window.
        limits: the tenant's own, by window.
    """

    now_us: int
    short: int = 0
    long: int = 0
    unaccepted: int = 0
    since_us: int = 0
    busy: int = 0
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Brake:
    """Where a brake stands. Instants in µs, 0: none.

    Attributes:
        since_us: of its last step.
        by, reason: who made that, and in whose words.
        calm_since_us: from when on it has been calm.
        counted_from_us: what was spent before is not counted: a person thawed it then.
        override_until_us: until then it moves for nobody but the canary and a person's freeze.
        canary: for which failure of the canary it was frozen last.
        changes: how often it was written.
        figures: what its last step rests on.
    """

    state: BrakeState = S.OPEN
    cause: BrakeCause = C.NONE
    since_us: int = 0
    by: str = ""
    reason: str = ""
    calm_since_us: int = 0
    counted_from_us: int = 0
    override_until_us: int = 0
    canary: str = ""
    changes: int = 0
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a brake shall stand.

    Attributes:
        figures: what it rests on, for the record.
    """

    state: BrakeState
    cause: BrakeCause
    calm_since_us: int
    canary: str
    figures: Mapping[str, Any]

    def moves(self, brake: Brake) -> bool:
        """Whether it is another state, or the same for the canary's sake."""
        return self.state is not brake.state or self.canary != brake.canary

    def changes(self, brake: Brake) -> bool:
        """Whether anything is to be written."""
        return self.moves(brake) or self.calm_since_us != brake.calm_since_us


def figures(burn: Burn, rules: Rules) -> Mapping[str, Any]:
    """What a brake is decided on, for people: money in µ$, burns as multiples of the plan."""
    return _measure(burn, rules).figures


def plan_per_day(limits: Mapping[str, int], rules: Rules) -> int:
    """What a tenant plans to spend in a day, µ$. 0: there is no plan."""
    if rules.plan_per_day or not rules.of_limits:
        return rules.plan_per_day
    rates = [limit * DAY_S // PERIODS_S[window] for window, limit in limits.items() if window in PERIODS_S]
    return min(rates, default=0)


def decide(brake: Brake, burn: Burn, rules: Rules, *, canary: str = "") -> Decision:
    """Where the brake shall stand now.

    Args:
        canary: names the failure of the canary that stands; "" when there is none.
    """
    measured = _measure(burn, rules)
    stay = Decision(brake.state, brake.cause, 0, brake.canary, measured.figures)
    by_person = brake.state is S.FROZEN and brake.cause is C.OPERATOR
    if canary and brake.canary != canary and not by_person:
        return replace(stay, state=S.FROZEN, cause=C.CANARY, canary=canary)
    by_canary = brake.state is S.FROZEN and brake.cause is C.CANARY
    if by_person or by_canary or brake.override_until_us > burn.now_us:
        return stay
    wanted, cause = measured.demand(1.0)
    if _rank(wanted) > _rank(brake.state):
        return replace(stay, state=wanted, cause=cause)
    # What set it must be well below; what did not, only below its own threshold.
    holding = measured.demand(RELEASE, brake.cause)[0], wanted
    released = max(map(_rank, holding)) < _rank(brake.state)
    return _eased(brake, stay, burn.now_us, rules) if released else stay


def _eased(brake: Brake, stay: Decision, now_us: int, rules: Rules) -> Decision:
    """A step back, once it has been calm for long enough."""
    calm_since = brake.calm_since_us or now_us
    if now_us - calm_since < rules.calm_s * 1_000_000:
        return replace(stay, calm_since_us=calm_since)
    if brake.state is S.FROZEN:
        # Still for what had set it, and calm anew before the next step.
        return replace(stay, state=S.THROTTLED)
    return replace(stay, state=S.OPEN, cause=C.CALM)


@dataclass(frozen=True, slots=True)
class _Measured:
    burn: float
    unaccepted: int
    busy: bool
    rules: Rules
    figures: Mapping[str, Any]

    def demand(self, share: float, only: BrakeCause | None = None) -> tuple[BrakeState, BrakeCause]:
        """The state that this share of the thresholds demands, by any cause or one only; and the cause."""
        rules = self.rules
        by_burn = _over(self.burn, rules.throttle_burn * share, rules.freeze_burn * share)
        # It sets a brake only while more is spent; it keeps one set until that leaves the window, or
        # something is accepted: a brake that stops all spending would else let go and catch, over and over.
        unaccepted = self.unaccepted if self.busy or share < 1 else 0
        by_progress = _over(unaccepted, rules.unaccepted * share, rules.unaccepted * share * 2)
        if only is C.BURN:
            return by_burn, only
        if only is C.PROGRESS:
            return by_progress, only
        if by_burn is S.OPEN and by_progress is S.OPEN:
            return S.OPEN, C.CALM
        if _rank(by_progress) > _rank(by_burn):
            return by_progress, C.PROGRESS
        return by_burn, C.BURN


def _measure(burn: Burn, rules: Rules) -> _Measured:
    plan = plan_per_day(burn.limits, rules)
    rates = [
        max(0, spent) * DAY_S / (plan * seconds) if plan else 0.0
        for spent, seconds in ((burn.short, rules.short_s), (burn.long, rules.long_s))
    ]
    enough = burn.long >= max(1, rules.floor)
    # Of tasks that began just now nothing can be accepted yet.
    lasted = burn.since_us and burn.now_us - burn.since_us >= rules.short_s * 1_000_000
    shown = {
        "burn_short": round(rates[0], 3),
        "burn_long": round(rates[1], 3),
        "short_s": rules.short_s,
        "long_s": rules.long_s,
        "short_microusd": burn.short,
        "long_microusd": burn.long,
        "plan_microusd_per_day": plan,
        "unaccepted_microusd": burn.unaccepted,
        "unaccepted_s": (burn.now_us - burn.since_us) // 1_000_000 if burn.since_us else 0,
    }
    unaccepted = burn.unaccepted if enough and lasted else 0
    return _Measured(min(rates) if enough else 0.0, unaccepted, burn.busy > 0, rules, shown)


def _over(value: float, throttle: float, freeze: float) -> BrakeState:
    if freeze and value > freeze:
        return S.FROZEN
    return S.THROTTLED if throttle and value > throttle else S.OPEN


def _rank(state: BrakeState) -> int:
    return STATES.index(state)
