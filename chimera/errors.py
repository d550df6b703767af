"""Every error Chimera raises on purpose.

    ChimeraError
    ├── ConfigurationError            start only: the environment or a file is wrong
    ├── NotFound
    ├── Conflict
    │   ├── InvalidTransition
    │   ├── LeaseLost                 a fence token is no longer the current one
    │   ├── StaleVerdict              the mission's state moved on since the work began
    │   └── AlreadyExists
    ├── Rejected                      asked for properly, refused on purpose
    │   ├── InvalidRequest            with every problem, each with its place
    │   ├── RateLimited
    │   ├── BudgetExceeded
    │   ├── QueueFull
    │   │   └── QuotaReached          the tenant's own room, not the store's
    │   ├── PayloadTooLarge
    │   └── RequestTimeout            the request itself did not come in time
    ├── Unauthorized
    ├── Forbidden
    ├── StoreError
    │   ├── StoreUnavailable
    │   │   └── BlobsUnavailable      the blob store, not Redis
    │   ├── StoreTimeout
    │   └── CorruptRecord
    └── BackendError
        ├── FleetUnavailable          no hub answers at the address
        │   └── HubBusy               one answers, and has too many calls
        ├── AgentCrashed
        ├── ModelUnavailable
        ├── AnswerUnusable            paid for, and not what was asked
        └── judging.JudgeFailed       a policy could not judge: never a rejection

Each error crosses process borders, so each survives pickle: raw fields go to
``super().__init__`` in the order of the signature, and ``__str__`` makes the sentence. A
message says what is wrong and what to do next. HTTP codes and exit codes are tables at the
edges (`serving.problems`, `cli.exits`), not fields here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum


class ChimeraError(Exception):
    """The root: catch it to catch all of Chimera's errors."""


class ConfigurationError(ChimeraError):
    """The environment, a file or an argument is wrong; nothing was started."""


class NotFound(ChimeraError):
    """What was named does not exist, or belongs to another tenant."""


class Conflict(ChimeraError):
    """The thing is in another state than the request needs."""


class InvalidTransition(Conflict):
    """The state machine has no such step from where the thing stands."""


class LeaseLost(Conflict):
    """A fence token is no longer current: somebody else owns the task, or nobody does.

    Args:
        task_id: the task whose lease is gone.
        token: the token that was presented.
        holder: worker that holds the lease now, or "" when nobody does.
        since_ms: when the present holder took it (ms since the epoch, store's clock), or 0.
        status: the task's status now.
    """

    def __init__(
        self, task_id: str, token: int, holder: str = "", since_ms: int = 0, status: str = ""
    ) -> None:
        super().__init__(task_id, token, holder, since_ms, status)
        self.task_id, self.token, self.holder = task_id, token, holder
        self.since_ms, self.status = since_ms, status

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat(timespec="milliseconds")
        now = f"held by {self.holder} since {since}" if self.holder else "held by nobody"
        lost = f"the lease on task {self.task_id} (token {self.token}) is lost: it is {now}"
        if self.status == "CANCELLED":
            return f"{lost}, status CANCELLED: its work is no longer wanted."
        return (
            f"{lost}{f', status {self.status}' if self.status else ''}. If its worker was only slow or "
            "paused, raise CHIMERA_LEASE_S; if the attempt ran out of time, raise the mission's "
            "task_timeout_s, or CHIMERA_TASK_TIMEOUT_S where it sets none."
        )


class StaleVerdict(Conflict):
    """A result was made under an older state_version than the mission has now."""


class AlreadyExists(Conflict):
    """A thing of that name is there already, with other content."""


class Rejected(ChimeraError):
    """A well-formed request that is refused on purpose."""


class InvalidRequest(Rejected):
    """The request does not fit its schema.

    Args:
        summary: one sentence.
        problems: one line each, with the place (`line 4, budget_usd: …`).
    """

    def __init__(self, summary: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(summary, problems)
        self.summary, self.problems = summary, tuple(problems)

    def __str__(self) -> str:
        return "\n  ".join((self.summary, *self.problems))


class RateLimited(Rejected):
    """Too many requests: try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return f"{self.message}; try again in {self.retry_after_s:g} s"


class RefusalKind(StrEnum):
    """Why the governor refused a spend, which decides what happens next."""

    CONTENDED = "contended"
    """Fits once open holds settle: wait in place."""
    WINDOW = "window"
    """Fits after the window's reset: come back then."""
    EXHAUSTED = "exhausted"
    """Can never fit this limit: the mission ends unless the limit is raised."""


class BudgetExceeded(Rejected):
    """A spend over a limit was refused; nothing was spent.

    Args:
        kind: see `RefusalKind`.
        level: the limit that refused, for example ``mission`` or ``tenant/day``; or the tenant's brake,
            ``brake/throttled`` or ``brake/frozen``, whose figures are 0.
        limit_microusd, settled_microusd, held_microusd, amount_microusd: the figures, in µ$.
        retry_after_s: for ``window``, seconds to the reset; else 0.
        fits_microusd: the largest amount that every level would grant now.
    """

    def __init__(
        self,
        kind: RefusalKind,
        level: str,
        limit_microusd: int,
        settled_microusd: int,
        held_microusd: int,
        amount_microusd: int,
        retry_after_s: float = 0.0,
        fits_microusd: int = 0,
    ) -> None:
        super().__init__(
            kind,
            level,
            limit_microusd,
            settled_microusd,
            held_microusd,
            amount_microusd,
            retry_after_s,
            fits_microusd,
        )
        self.kind, self.level, self.limit_microusd = kind, level, limit_microusd
        self.settled_microusd, self.held_microusd = settled_microusd, held_microusd
        self.amount_microusd, self.retry_after_s = amount_microusd, retry_after_s
        self.fits_microusd = fits_microusd

    @property
    def left_microusd(self) -> int:
        """What is left at the level that refused."""
        return max(0, self.limit_microusd - self.settled_microusd - self.held_microusd)

    @property
    def braked(self) -> bool:
        """Whether the tenant's brake refused it, and no limit: waiting in place does not help."""
        return self.level.startswith("brake/")

    def __str__(self) -> str:
        if self.braked:
            return (
                f"refused by the tenant's brake, which is {self.level.removeprefix('brake/')}: nothing was "
                f"spent, and it is tried again in {self.retry_after_s:.0f} s; see `chimera governor status`"
            )

        def usd(amount: int) -> str:
            return f"${amount / 1_000_000:.6f}"

        next_step = {
            RefusalKind.CONTENDED: "it fits once open calls settle",
            RefusalKind.WINDOW: f"it fits after the reset in {self.retry_after_s:.0f} s",
            RefusalKind.EXHAUSTED: "raise the limit to go on",
        }[self.kind]
        return (
            f"refused by the {self.level} limit ({self.kind}): {usd(self.amount_microusd)} asked, "
            f"{usd(self.left_microusd)} left of {usd(self.limit_microusd)} "
            f"({usd(self.settled_microusd)} spent, {usd(self.held_microusd)} held), "
            f"{usd(self.fits_microusd)} would fit now; {next_step}"
        )


class QueueFull(Rejected):
    """The store or the tenant has no room for more work now."""

    def __init__(self, message: str, retry_after_s: float = 5.0) -> None:
        super().__init__(message, retry_after_s)
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return f"{self.message}; try again in {self.retry_after_s:g} s"


class QuotaReached(QueueFull):
    """The tenant has as much unfinished work as its quota allows."""


class PayloadTooLarge(Rejected):
    """An input, a result or a request is over its stated limit."""

    def __init__(self, what: str, size_bytes: int, limit_bytes: int, setting: str) -> None:
        super().__init__(what, size_bytes, limit_bytes, setting)
        self.what, self.size_bytes, self.limit_bytes = what, size_bytes, limit_bytes
        self.setting = setting

    def __str__(self) -> str:
        return (
            f"{self.what} has {self.size_bytes:,} bytes, over the limit of {self.limit_bytes:,}: "
            f"split it, or raise {self.setting}"
        )


class RequestTimeout(Rejected):
    """A request was sent so slowly that it was given up; nothing was changed."""


class Unauthorized(ChimeraError):
    """No key, or one that is not known."""


class Forbidden(ChimeraError):
    """The key is known and may not do this."""


class StoreError(ChimeraError):
    """Redis failed us."""


class StoreUnavailable(StoreError):
    """Redis cannot be reached, is loading, is read-only or is full."""


class BlobsUnavailable(StoreUnavailable):
    """The blob store cannot be read or written: it is full, or there is no way to it."""


class StoreTimeout(StoreError):
    """Redis did not answer in time; the write may or may not have happened."""


class CorruptRecord(StoreError):
    """A record in Redis cannot be read: another version wrote it, or somebody edited it."""


class BackendError(ChimeraError):
    """Something Chimera runs on failed."""


class FleetUnavailable(BackendError):
    """No hub answers at the address."""


class HubBusy(FleetUnavailable):
    """The hub has as many calls as it answers at once: try again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message, retry_after_s)
        self.message, self.retry_after_s = message, retry_after_s

    def __str__(self) -> str:
        return f"{self.message}; try again in {self.retry_after_s:g} s"


class AgentCrashed(BackendError):
    """An agent's own code raised.

    Args:
        agent: its registered name.
        cause: type and message of what it raised.
    """

    def __init__(self, agent: str, cause: str) -> None:
        super().__init__(agent, cause)
        self.agent, self.cause = agent, cause

    def __str__(self) -> str:
        return f"agent {self.agent!r} raised {self.cause}"


class ModelUnavailable(BackendError):
    """The model endpoint is down, refuses us, or never answered."""


class AnswerUnusable(BackendError):
    """The model answered, and was paid, but not with what was asked for.

    Args:
        model: the model's name.
        problem: what is wrong with the answer.
        text: the answer as it came.
    """

    def __init__(self, model: str, problem: str, text: str = "") -> None:
        super().__init__(model, problem, text)
        self.model, self.problem, self.text = model, problem, text

    def __str__(self) -> str:
        return f"model {self.model!r} gave no usable answer: {self.problem}"
