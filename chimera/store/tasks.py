"""Tasks: claimed, renewed, handed in, handed back, rescued, read."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

from chimera.core.action import Action, parse_actions
from chimera.core.lease import Claim, Lease, Renewal
from chimera.core.verdict import Verdict
from chimera.errors import LeaseLost, NotFound
from chimera.store.connection import Redis, ask, translated
from chimera.store.keys import TenantKeys
from chimera.store.reach import Reach
from chimera.store.scripts import Refusal, Scripts, SyncScripts, lease_lost, under_term
from chimera.telemetry.redaction import redact

POISON_AFTER = 3
"""Workers that died with a task, and with no other suspect, before it counts as poisoned."""
SOON_US = 1_000_000
"""A task that may run this soon is work for the swarm already."""
MAX_BATCH = 500
"""Tasks one script call may touch: it holds the store for some milliseconds."""

EndKind = Literal["error", "timeout", "return"]
Keeper = Literal["orchestrator", "spoke"]
"""Who keeps a tenant's workers: the hub's fleet controller, or its spoke."""


class HandedIn(NamedTuple):
    """A result for review, and the actions that share its fate."""

    task_id: str
    token: int
    state_version: int
    """Of the mission, when the work was done."""
    result_json: str
    actions: Sequence[str] = ()
    """Each an action's JSON."""
    told: str = ""
    """What the recorder is to have beside it (`lua/include/told.lua`): a JSON object."""


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that ends without a result."""

    task_id: str
    token: int
    kind: EndKind
    detail: str = ""
    delay_s: float = 0.0
    told: str = ""
    """As of a result."""


class Raw(NamedTuple):
    """A task's fields as they stand in Redis."""

    spec: dict[str, str]
    task: dict[str, str]
    commit: dict[str, str]
    verdicts: list[str]

    @property
    def whole(self) -> bool:
        """Whether nothing was taken out of Redis before it was read, or while it was."""
        return bool(self.task) and (
            self.task.get("status") != "ACCEPTED" or (bool(self.commit) and bool(self.verdicts))
        )


class Elsewhere(Protocol):
    """Where tasks are that are not in Redis any more (see `chimera.store.shelves`)."""

    async def find(self, task_ids: Sequence[str], *, most_bytes: int | None = None) -> dict[str, Raw]:
        """Those of them that are there, by id; not all, if they come to more bytes, but the first ones."""


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """A task as stored, for people to read."""

    task_id: str
    mission_id: str
    stage: str
    status: str
    attempt: int
    reason: str
    worker: str
    input: Any
    depends_on: tuple[str, ...]
    needed_by: tuple[str, ...]
    result: Any
    """The accepted result, or the one under review; None when there is none."""
    has_result: bool
    state_version: int | None
    """Of the mission, when the result was made; None without one."""
    proposed: tuple[Action, ...]
    """What waits for the verdict on the result."""
    actions: int
    """How many actions were accepted with the result."""
    feedback: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    spent_microusd: int
    last_error: str
    tallies: dict[str, int]
    """Crashes, lapses, errors, timeouts, rejections, stale results."""
    planned_at_us: int
    finished_at_us: int


class TaskStore:
    """One tenant's tasks.

    Args:
        elsewhere: for readers: where those are that left Redis.
    """

    def __init__(self, redis: Redis, tenant: str, elsewhere: Elsewhere | None = None) -> None:
        self._redis = redis
        self._elsewhere = elsewhere
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def claim(
        self,
        worker: str,
        claim_id: str,
        *,
        lease_s: float,
        general: int,
        high: int,
        slots: int,
        max_agents: int = 0,
    ) -> list[Claim]:
        """Claim READY tasks: at most `high` of high priority, of these and others `general`.

        The same claim id again gives the same tasks. Of tasks whose worker died before, a worker of so many
        `slots` holds few at a time. A tenant without a quota of its own has at most `max_agents` tasks under
        lease; 0: no bound.
        """
        _, tasks = await self._scripts.run(
            "claim_tasks",
            [self.keys.root],
            worker,
            claim_id,
            round(lease_s * 1e6),
            min(general, MAX_BATCH),
            min(high, MAX_BATCH),
            10,
            POISON_AFTER,
            slots,
            max_agents,
        )
        with translated():
            return [
                Claim(
                    task_id=task[0],
                    token=int(task[1]),
                    attempt=int(task[2]),
                    expires_at_us=int(task[3]),
                    mission_id=task[4],
                    state_version=int(task[5]),
                    stage=task[6],
                    input_json=task[7],
                    depends_on=tuple(task[8].split()),
                    feedback=() if task[9] == "[]" else tuple(json.loads(task[9])),
                    round=int(task[10]),
                )
                for task in tasks
            ]

    async def submit(
        self, worker: str, results: Sequence[HandedIn], *, max_stale: int
    ) -> list[Refusal | LeaseLost | None]:
        """Hand in results for review.

        Returns, per result: None when it is in review (also when handed in before),
        `Refusal.STALE`, or the `LeaseLost`.
        """
        answers = await self._scripts.run(
            "submit_results",
            [self.keys.root],
            worker,
            max_stale,
            *(
                field
                for one in results
                for field in (
                    one.task_id,
                    one.token,
                    one.state_version,
                    one.result_json,
                    json.dumps(list(one.actions)) if one.actions else "",
                    hashlib.sha256(one.result_json.encode("utf-8", "surrogatepass")).hexdigest(),
                    one.told,
                )
            ),
        )
        return [
            None
            if answer[0] >= 0
            else Refusal.STALE
            if answer[0] == Refusal.STALE
            else lease_lost(one.task_id, one.token, answer)
            for one, answer in zip(results, answers, strict=True)
        ]

    async def end(self, worker: str, ended: Sequence[Ended]) -> list[str | LeaseLost]:
        """End attempts without a result. Returns what the task became: the same when repeated."""
        answers = await self._scripts.run("end_attempts", [self.keys.root], worker, *_end_fields(ended))
        return [
            lease_lost(one.task_id, one.token, answer) if answer[0] == Refusal.LOST else str(answer[1])
            for one, answer in zip(ended, answers, strict=True)
        ]

    async def rescue(
        self, by: str, *, lease_s: float, most: int = 200, reach: Reach | None = None
    ) -> tuple[int, int, int]:
        """Give expired leases back to work. Returns (rescued, workers forgotten, promoted).

        Nothing is rescued for one lease after the store was out of reach: after nobody looked at the tenant
        for long, unless the caller's `reach` shows that the store was there all the while.
        """
        steady, heard = ("", "") if reach is None or not reach.heard_us else (reach.steady_us, reach.heard_us)
        rescued, gone, promoted, now = await self._scripts.run(
            "rescue_leases", [self.keys.root], by, most, POISON_AFTER, round(lease_s * 1e6), steady, heard
        )
        if reach is not None:
            reach.hear(int(now), lease_s=lease_s)
        return int(rescued), int(gone), int(promoted)

    async def release(self, worker: str, by: str, *, died: bool = True, most: int = 2_000) -> int:
        """Give back to work all that a worker held which is gone. Returns how many tasks.

        Args:
            died: it may have died of a task; otherwise it was ended, and its tasks are not suspected.
        """
        total = rank = 0
        while rank >= 0:
            released, rank = await self._scripts.run(
                "release_worker",
                [self.keys.root],
                worker,
                by,
                rank,
                most,
                POISON_AFTER,
                "died" if died else "ended",
            )
            total += released
        return total

    async def next_expiry_us(self) -> int | None:
        """When the first lease, worker or delayed task comes due; None when there is none."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in ("leases", "later", "workers", "judging"):
                    pipe.zrange(getattr(self.keys, name), 0, 0, withscores=True)
                first = [int(found[0][1]) for found in await pipe.execute() if found]
        return min(first, default=None)

    async def leave(self, worker: str, reason: str) -> None:
        """The worker leaves the swarm of its own accord."""
        await self._scripts.run("leave_worker", [self.keys.root], worker, reason)

    async def workers(self) -> dict[str, dict[str, str]]:
        """Live workers and what each said at its last heartbeat."""
        with translated():
            names = await self._redis.zrange(self.keys.workers, 0, -1)
            async with self._redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.hgetall(self.keys.of("worker", name))
                return dict(zip(names, await pipe.execute(), strict=True))

    async def process(self, worker: str) -> str:
        """The worker's process as it last said, ``id@host``; "" when nothing is known of it."""
        with translated():
            return str(await self._redis.hget(self.keys.of("worker", worker), "process") or "")

    async def load(self) -> tuple[int, int, int, int]:
        """(READY tasks of missions that may run now, tasks under lease, of the READY those of high priority,
        a number that grows with whatever happens).

        Those that wait a moment for other company count: with one more worker they need not.
        """
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zrange(self.keys.high, 0, -1)
                pipe.zrange(self.keys.normal, 0, -1)
                pipe.zcard(self.keys.leases)
                pipe.get(self.keys.sequence)
                pipe.time()
                high, normal, running, newest, (seconds, micros) = await pipe.execute()
            soon_us = int(seconds) * 1_000_000 + int(micros) + SOON_US
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.zcount(self.keys.later, "-inf", soon_us)
                for mission_id in (*high, *normal):
                    pipe.llen(self.keys.of("ready", mission_id))
                soon, *ready = await pipe.execute()
            return int(soon) + sum(ready), int(running), sum(ready[: len(high)]), int(newest or 0)

    async def drain(
        self, worker: str, *, within_s: float | None = None, by: str = "hub", reason: str = ""
    ) -> None:
        """Ask a worker to take no more work and leave; it hears so at its next heartbeat.

        Args:
            within_s: what is not of high priority may go on for so long, and is then handed back; None for as
                long as the worker's own settings say. Asked again it may only be sooner.
        """
        left = "" if within_s is None else round(within_s * 1e6)
        await self._scripts.run("drain_worker", [self.keys.root], worker, left, by, reason)

    async def scaled(
        self, workers: int, *, why: dict[str, Any], term: int, by: str, role: Keeper = "orchestrator"
    ) -> bool:
        """Record that whoever keeps the tenant's workers wants so many of them.

        Returns False, and nothing is recorded, when it wanted as many before, or when they are another's to
        keep: a spoke's that leads, or the hub's.

        Raises:
            OldTerm: a newer leader acts.
        """
        answer = under_term(
            await self._scripts.run("scale_fleet", [self.keys.root], term, by, workers, json.dumps(why), role)
        )
        return bool(answer) and answer != Refusal.ELSEWHERE

    async def results(self, task_ids: Sequence[str]) -> dict[str, Any]:
        """Accepted results by task id, in the order asked; those not accepted are left out."""
        with translated():
            async with self._redis.pipeline(transaction=False) as pipe:
                for task_id in task_ids:
                    pipe.hget(self.keys.of("commit", task_id), "result")
                found = await pipe.execute()
            return {
                task_id: json.loads(text)
                for task_id, text in zip(task_ids, found, strict=True)
                if text is not None
            }

    async def get(self, task_id: str) -> TaskRecord:
        """One task.

        Raises:
            NotFound: there is none of that id.
        """
        return (await self.get_many([task_id]))[0]

    async def get_many(self, task_ids: Sequence[str]) -> list[TaskRecord]:
        """Tasks, in the order asked.

        Raises:
            NotFound: one of them does not exist.
        """
        raw = await self.fetch(task_ids)
        gone = [task_id for task_id, one in zip(task_ids, raw, strict=True) if not one.whole]
        # What leaves Redis is found elsewhere from that instant: so it is looked for there behind here.
        found = await self._elsewhere.find(gone) if gone and self._elsewhere else {}
        with translated():
            return [
                _record(task_id, found.get(task_id, one)) for task_id, one in zip(task_ids, raw, strict=True)
            ]

    async def status(self, task_id: str) -> str:
        """How a task stands, also where the rest of its record cannot be read.

        Raises:
            NotFound: there is none of that id in Redis.
        """
        with translated():
            status = await self._redis.hget(self.keys.of("task", task_id), "status")
        if status is None:
            raise NotFound(f"there is no task {task_id!r}")
        return str(status)

    async def fetch(self, task_ids: Sequence[str]) -> list[Raw]:
        """Tasks as they are in Redis, in the order asked; empty ones where there is nothing."""
        reads: list[tuple[str | int | float, ...]] = []
        for task_id in task_ids:
            reads += [("HGETALL", self.keys.of(name, task_id)) for name in ("spec", "task", "commit")]
            reads.append(("LRANGE", self.keys.of("verdicts", task_id), 0, -1))
        with translated():
            rows = await ask(self._redis, reads)
            return [
                Raw(_pairs(spec), _pairs(task), _pairs(commit), verdicts)
                for spec, task, commit, verdicts in zip(
                    rows[::4], rows[1::4], rows[2::4], rows[3::4], strict=True
                )
            ]


def _pairs(row: dict[str, str] | list[str]) -> dict[str, str]:
    """A hash as it was answered: over RESP2 (`?protocol=2` in the URL) as a list."""
    return row if isinstance(row, dict) else dict(zip(row[::2], row[1::2], strict=True))


class Heartbeat:
    """Renews a worker's leases from a thread of its own, so that no agent can hold it up.

    Args:
        pid: the worker's process.
        node: the id of the cluster's node that it is on, or "".
    """

    def __init__(self, scripts: SyncScripts, tenant: str, worker: str, *, pid: int, node: str = "") -> None:
        self._scripts = scripts
        self._pid, self._node = pid, node
        self._keys = TenantKeys(tenant)
        self.worker = worker

    def renew(self, leases: Sequence[Lease], *, lease_s: float, slots: int, busy: int) -> Renewal:
        """Renew leases and say that the worker lives. Thousands go in several calls, with others between."""
        lost: dict[Lease, Exception] = {}
        overdue: list[Lease] = []
        for first in range(0, max(1, len(leases)), MAX_BATCH):
            some = leases[first : first + MAX_BATCH]
            now, drain, answers, left = self._scripts.run(
                "renew_leases",
                [self._keys.root],
                self.worker,
                round(lease_s * 1e6),
                slots,
                busy,
                f"{self._pid}@{socket.gethostname()}",
                self._node,
                *(field for lease in some for field in lease),
            )
            for lease, answer in zip(some, answers, strict=True):
                if answer[0] == Refusal.OVERDUE:
                    overdue.append(lease)
                elif answer[0] == Refusal.LOST:
                    lost[lease] = lease_lost(*lease, answer)
        hurry_s = None if int(left) < 0 else int(left) / 1e6
        return Renewal(int(now), bool(drain), lost, tuple(overdue), hurry_s)

    def end(self, ended: Sequence[Ended]) -> None:
        """End attempts from this thread: for those whose agent holds the event loop."""
        self._scripts.run("end_attempts", [self._keys.root], self.worker, *_end_fields(ended))


def _end_fields(ended: Sequence[Ended]) -> list[str | int]:
    return [
        field
        for one in ended
        for field in (
            one.task_id,
            one.token,
            one.kind,
            round(one.delay_s * 1e6),
            redact(one.detail)[:2000],
            one.told,
        )
    ]


def mission_of(task_id: str) -> str:
    """The mission that a task belongs to."""
    return task_id.partition(".")[0]


_TALLIES = ("crashes", "lapses", "errors", "timeouts", "rejections", "stale", "judge_errors")


def _record(task_id: str, raw: Raw) -> TaskRecord:
    spec, task, commit, verdicts = raw
    if not task:
        raise NotFound(f"there is no task {task_id!r}")
    result = commit.get("result", task.get("result"))
    return TaskRecord(
        task_id=task_id,
        mission_id=mission_of(task_id),
        stage=spec.get("stage", ""),
        status=task["status"],
        attempt=int(task.get("attempt", 0)),
        reason=task.get("reason", "") if task["status"] != "ACCEPTED" else "",
        worker=task.get("worker", ""),
        input=json.loads(spec["input"]) if spec.get("input") else None,
        depends_on=tuple(spec.get("depends_on", "").split()),
        needed_by=tuple(spec.get("needed_by", "").split()),
        result=None if result is None else json.loads(result),
        has_result=result is not None,
        state_version=None if result is None else int(commit.get("version") or task["version"]),
        proposed=parse_actions(task.get("actions", "")),
        actions=int(commit.get("actions", 0)),
        feedback=tuple(json.loads(task.get("feedback", "[]"))),
        verdicts=tuple(Verdict.model_validate_json(verdict) for verdict in verdicts),
        spent_microusd=int(task.get("spent", 0)),
        last_error=task.get("last_error", ""),
        tallies={name: int(task[name]) for name in _TALLIES if int(task.get(name, 0))},
        planned_at_us=int(task.get("planned_at", 0)),
        finished_at_us=int(task.get("finished_at", 0)),
    )
