"""The renewer: keeps a worker's leases from a thread of its own, and watches its event loop.

An agent that blocks the loop delays its neighbours but costs none of them its lease. One that
never gives the loop back is named in a warning, and its attempt ends at its time all the same:
the store refuses to renew it, and this thread reports it. If the loop is still blocked then, the worker
cannot go on, and its owner is told to end it. Code that holds the interpreter itself stops this thread
too: the leases run out, others take the work, and the culprit is named afterwards.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from chimera.core.lease import Lease, Renewal
from chimera.errors import StoreError
from chimera.runtime.steps import Steps
from chimera.store.tasks import Ended, Heartbeat

log = structlog.get_logger(__name__)

BLOCKED_AFTER_S = 1.0
WATCH_S = 0.25
STUCK_AFTER_S = 5.0
"""A loop blocked this long by an attempt whose lease is gone: the worker ends, and another is started."""
UNBLOCK = "await instead of blocking, or make the agent a plain `def`: it runs in a thread"


class Renewer:
    """Renews every `heartbeat_s`.

    Args:
        leases: gives the leases held now; called from the thread.
        steps: the attempts' steps, to tell who held the interpreter.
        heard: takes each renewal; called on the event loop.
        stuck: told, from the thread, that the event loop will not come back; then the worker falls silent.
    """

    def __init__(
        self,
        heartbeat: Heartbeat,
        *,
        lease_s: float,
        heartbeat_s: float,
        slots: int,
        leases: Callable[[], Sequence[Lease]],
        steps: Steps,
        heard: Callable[[Renewal], None],
        stuck: Callable[[], None] = lambda: None,
    ) -> None:
        self._heartbeat = heartbeat
        self._lease_s, self._heartbeat_s, self._slots = lease_s, heartbeat_s, slots
        self._leases = leases
        self._steps = steps
        self._heard = heard
        self._stuck = stuck
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pulse_at = time.monotonic()
        self._silence_s = 0.0
        """The event loop's longest since this thread looked last."""
        self._pulse: asyncio.TimerHandle | None = None
        self._named: str | None = None
        self._awake_at = self._heard_at = time.monotonic()

    @property
    def unheard_s(self) -> float:
        """Seconds since the store last answered."""
        return time.monotonic() - self._heard_at

    def start(self) -> None:
        """Begin; call it on the event loop to watch. Idempotent."""
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._heard_at = time.monotonic()
            self._beat()
            self._thread = threading.Thread(target=self._run, name="renewer", daemon=True)
            self._thread.start()

    async def stop(self) -> None:
        """End; idempotent."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping.set()
            await asyncio.to_thread(thread.join)
        if self._pulse is not None:
            self._pulse.cancel()

    def _beat(self) -> None:
        assert self._loop is not None  # nosec B101 (set by start)
        now = time.monotonic()
        self._silence_s = max(self._silence_s, now - self._pulse_at)
        self._pulse_at = now
        self._pulse = self._loop.call_later(WATCH_S, self._beat)

    def _run(self) -> None:
        due = self._awake_at = time.monotonic()
        while not self._stopping.wait(max(0.0, min(WATCH_S, due - time.monotonic()))):
            self._look_back()
            self._watch()
            if time.monotonic() < due:
                continue
            due = time.monotonic() + self._heartbeat_s
            try:
                gone = self._renew()
            except StoreError as exc:
                # Leases lapse by themselves; the store says so once it is back.
                log.warning("store.unavailable", service="renewer", error=str(exc))
            except Exception:
                log.exception("renew.failed")
            else:
                if self._is_stuck(gone):
                    self._stuck()
                    return

    def _renew(self) -> set[str]:
        """Renew once. Returns the tasks whose leases are gone."""
        leases = self._leases()
        renewal = self._heartbeat.renew(leases, lease_s=self._lease_s, slots=self._slots, busy=len(leases))
        self._heard_at = time.monotonic()
        if renewal.overdue:
            self._heartbeat.end(
                [
                    Ended(*lease, "timeout", "its time was up and it did not return")
                    for lease in renewal.overdue
                ]
            )
        assert self._loop is not None  # nosec B101 (set by start)
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._heard, renewal)
        return {task_id for task_id, _ in (*renewal.overdue, *renewal.lost)}

    def _is_stuck(self, gone: set[str]) -> bool:
        """Whether an attempt holds the loop whose lease is gone: from inside nobody can end it any more."""
        blocked_s = time.monotonic() - self._pulse_at
        if blocked_s < STUCK_AFTER_S or (name := self._running()) not in gone:
            return False
        log.error("worker.stuck", task_id=name, blocked_s=round(blocked_s, 1), next_step=UNBLOCK)
        return True

    def _look_back(self) -> None:
        """Name who kept this very thread from running: code that never lets go of the interpreter."""
        now = time.monotonic()
        away_s, self._awake_at = now - self._awake_at, now
        silence_s, self._silence_s = max(self._silence_s, now - self._pulse_at), 0.0
        longest = self._steps.longest()
        if away_s > BLOCKED_AFTER_S:
            self._pulse_at = now  # nothing ran here: that says nothing of the loop
        # A thread that waits for a slow store is away too, but then the loop goes on.
        if min(away_s, silence_s) > self._lease_s:
            log.error(
                "worker.stalled",
                task_id=longest.name if longest.took_s > away_s / 2 else "none of the event loop: a thread",
                stalled_s=round(away_s, 1),
                next_step="its leases ran out: run such code in a process of its own, or bound it "
                "(a regular expression that backtracks, a long call into C)",
            )

    def _running(self) -> str:
        """The task on the loop. Read from another thread: at worst the one that has just run."""
        assert self._loop is not None  # nosec B101 (set by start)
        task = asyncio.current_task(self._loop)
        return task.get_name() if task is not None else "the worker itself"

    def _watch(self) -> None:
        blocked_s = time.monotonic() - self._pulse_at
        if blocked_s < BLOCKED_AFTER_S + WATCH_S:
            self._named = None
            return
        name = self._running()
        if name != self._named:
            self._named = name
            log.warning(
                "agent.blocks_loop",
                task_id=name,
                blocked_s=round(blocked_s, 1),
                next_step=UNBLOCK,
            )
