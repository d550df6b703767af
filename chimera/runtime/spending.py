"""Reports of a tenant's money: the ledger's counters and the flight recorder, read together.

Totals and limits come from the counters. What they were spent on is in the recorder alone, which is read from
its archive and its stream as it comes, so a report takes time with its span, not memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from chimera.core.calendar import window_ids
from chimera.core.event import Position
from chimera.core.money import MICRO, Window, usd
from chimera.core.replay import TENANT, window_of_limit
from chimera.core.report import (
    FlagView,
    LevelView,
    OutlookView,
    PaceView,
    ReportView,
    UseView,
    WorkersView,
    YearView,
    rows_of,
)
from chimera.core.spending import Level, Year, level, pace, settled, year
from chimera.core.usage import LEAD_S, By, Usage, WorkerHours
from chimera.errors import InvalidRequest
from chimera.runtime.base import Base, TenantStores
from chimera.runtime.unhurried import events
from chimera.store.flags import Flag
from chimera.store.keys import FLEET
from chimera.store.spending import Spending, Standing

DEFAULT_SPAN = timedelta(days=30)
LONGEST = timedelta(days=400)
"""Of one report: what lies further back is a report of its own."""
EARLIEST = datetime(1970, 3, 1, tzinfo=UTC)
"""There was nothing before, and a calendar ends somewhere."""
MOST_BUDGETS = 20
"""Open missions whose budgets are told with a report."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a report is to tell.

    Attributes:
        since, until: aware instants; None: so long before, and now.
        mission_id: of this mission alone; "": of all.
        length: how far back it goes where `since` is not said.
    """

    by: tuple[By, ...] = (By.MODEL,)
    since: datetime | None = None
    until: datetime | None = None
    mission_id: str = ""
    length: timedelta = DEFAULT_SPAN

    def span(self, now: datetime) -> tuple[datetime, datetime]:
        """From when until when.

        Raises:
            InvalidRequest: it is no span, or too long a one.
        """
        until = max(min(self.until or now, now), EARLIEST)
        since = max(self.since or until - self.length, EARLIEST)
        if since >= until:
            raise InvalidRequest(
                f"since ({since:%Y-%m-%d %H:%MZ}) must be before until ({until:%Y-%m-%d %H:%MZ})"
            )
        if until - since > LONGEST:
            raise InvalidRequest(
                f"a report covers {LONGEST.days} days at most: ask for less with since and until"
            )
        return since, until


async def report(base: Base, tenant: str, question: Question) -> ReportView:
    """One tenant's report.

    Raises:
        InvalidRequest: the question cannot be answered.
        NotFound: there is no such mission.
        CorruptRecord, StoreUnavailable: the recorder cannot be read.
    """
    stores = base.of(tenant)
    standing = await stores.spending.standing()
    now = standing.at
    since, until = question.span(now)
    budget = await _budget(stores, question.mission_id) if question.mission_id else None
    usage = Usage(question.by, since, until, tenant, question.mission_id)
    price = base.settings.worker_hour_usd
    hours = WorkerHours(since, until) if price is not None and not question.mission_id else None
    start = Position.before(round((since.timestamp() - LEAD_S) * 1000))
    async for event in events(stores.recorder, after=start, mission_id=question.mission_id):
        if event.at > now or (hours is None and event.at > until + timedelta(seconds=LEAD_S)):
            break  # a correction of what is in the span comes no later
        usage.take(event)
        if hours is not None:
            hours.take(event)
    if hours is not None:
        hours.finish(list(await stores.tasks.workers()), now)
    budgets, left_out = ([budget], 0) if budget else await _budgets(stores)
    flags = await stores.flags.all()
    stands = outlook_of(tenant, standing, budgets, left_out, flags, limited=not budget)
    return ReportView(
        **dict(stands),
        by=question.by,
        since=since,
        until=until,
        mission_id=question.mission_id,
        rows=rows_of(usage.rows, question.by),
        total=UseView.of(usage.total),
        folded=usage.folded,
        events=usage.events,
        first_at=usage.first_at,
        last_at=usage.last_at,
        workers=None if hours is None or price is None else _workers(hours, round(price * MICRO)),
    )


async def outlook(base: Base, tenant: str) -> OutlookView:
    """How one tenant's money stands, without what it went to: quick, for the recorder is not read.

    Raises:
        CorruptRecord, StoreUnavailable: the ledger cannot be read.
    """
    stores = base.of(tenant)
    standing = await stores.spending.standing()
    budgets, left_out = await _budgets(stores)
    return outlook_of(tenant, standing, budgets, left_out, await stores.flags.all())


def outlook_of(
    tenant: str,
    standing: Standing,
    budgets: Sequence[LevelView] = (),
    left_out: int = 0,
    flags: Sequence[Flag] = (),
    *,
    limited: bool = True,
) -> OutlookView:
    """The same of what was read.

    Args:
        budgets: of open missions, `left_out` others there are.
        limited: the tenant's limits are told too.
    """
    now, own = standing.at, standing.subjects.get(TENANT, {})
    levels = [LevelView.of(one) for one in limits(standing)] if limited else []
    a_year = year(own, now)
    return OutlookView(
        tenant=tenant,
        at=now,
        settled_microusd={identity: settled(own, identity) for identity in window_ids(now)},
        held_microusd=own.get("held", 0),
        levels=(*levels, *budgets),
        missions_left_out=left_out,
        pace_hour=PaceView.of(pace(own, now, Window.MINUTE, timedelta(hours=1))),
        pace_day=PaceView.of(pace(own, now, Window.HOUR, timedelta(days=1))),
        year=YearView.of(a_year) if isinstance(a_year, Year) else None,
        year_note=_rests_on(a_year),
        flags=tuple(map(flag_view, flags)),
    )


def limits(standing: Standing) -> list[Level]:
    """Every limit that is set, and how it stands."""
    found = []
    for limit, most in sorted(standing.limits.items()):
        subject, window = window_of_limit(limit)
        name = f"{subject or 'tenant'}/{window}"
        found.append(level(name, most, standing.subjects.get(subject, {}), standing.at))
    return found


async def fleet_levels(base: Base) -> list[LevelView]:
    """The limits over all tenants, and how they stand: spent is what tenants told, held what they drew."""
    standing = await Spending(base.redis, FLEET).standing()
    own = standing.subjects.get(TENANT, {})
    return [
        LevelView.of(level(f"fleet/{window}", most, own, standing.at))
        for window, most in sorted(standing.limits.items())
    ]


def flag_view(flag: Flag) -> FlagView:
    """A flag as the API shows it."""
    return FlagView(
        level=flag.level,
        mission_id=flag.mission_id,
        kind=flag.kind,
        count=flag.count,
        first_at=_instant(flag.first_us),
        last_at=_instant(flag.last_us),
        amount_microusd=flag.amount,
        fits_microusd=flag.fits,
        limit_microusd=flag.limit,
    )


def _instant(us: int) -> datetime:
    return datetime.fromtimestamp(us / 1_000_000, UTC)


def _rests_on(found: Year | str) -> str:
    if isinstance(found, str):
        return found
    return (
        f"the last {found.units} full {found.unit}s, the cheapest {usd(found.least_microusd)}, the dearest "
        f"{usd(found.most_microusd)}; the range is two standard errors of their mean"
    )


def _workers(hours: WorkerHours, price_microusd: int) -> WorkersView:
    found = hours.seconds / 3_600
    said = f"{hours.spans} workers whose start and end (or whose being alive now) are in the flight recorder"
    if hours.guessed:
        said += f"; {hours.guessed} that were there before are counted from the span's beginning"
    return WorkersView(
        hours=round(found, 6),
        price_microusd_per_h=price_microusd,
        cost_microusd=-(-round(hours.seconds * price_microusd) // 3_600),
        rests_on=said,
    )


async def _budget(stores: TenantStores, mission_id: str) -> LevelView:
    one = await stores.readings.mission(mission_id)
    return LevelView.of(
        Level("mission", one.budget_microusd, one.settled_microusd, one.held_microusd), mission_id
    )


async def _budgets(stores: TenantStores) -> tuple[Sequence[LevelView], int]:
    ids = sorted(await stores.missions.active(), reverse=True)
    found = await stores.missions.find_many(ids[:MOST_BUDGETS])
    views = [
        LevelView.of(
            Level("mission", one.budget_microusd, one.settled_microusd, one.held_microusd), one.mission_id
        )
        for one in found.values()
    ]
    return views, max(0, len(ids) - MOST_BUDGETS)
