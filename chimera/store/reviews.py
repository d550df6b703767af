"""Reviews: results a judge takes under lease, verdicts it commits, answers humans give."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime

from chimera.core.lease import Review
from chimera.core.verdict import Decision, Verdict
from chimera.errors import Conflict, NotFound, StaleVerdict
from chimera.store.connection import Redis, translated
from chimera.store.inboxes import standing
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts
from chimera.telemetry.redaction import redact


def _judged(review: Review) -> str:
    """The digest of what a judge saw. What a worker put in its place meanwhile is not what is accepted."""
    seen = f"{review.result_json}\n{review.actions_json}".encode()
    return hashlib.sha1(seen, usedforsecurity=False).hexdigest()


class ReviewStore:
    """One tenant's reviews."""

    def __init__(self, redis: Redis, tenant: str) -> None:
        self._redis = redis
        self._scripts = Scripts(redis)
        self.keys = TenantKeys(tenant)

    async def claim(self, judge: str, claim_id: str, *, lease_s: float, most: int) -> list[Review]:
        """Take results to judge. The same claim id again gives the same reviews."""
        _, reviews = await self._scripts.run(
            "claim_reviews", [self.keys.root], judge, claim_id, round(lease_s * 1e6), most
        )
        with translated():
            return [
                Review(
                    task_id=review[0],
                    token=int(review[1]),
                    attempt=int(review[2]),
                    state_version=int(review[3]),
                    mission_id=review[4],
                    stage=review[5],
                    input_json=review[6],
                    depends_on=tuple(review[7].split()),
                    result_json=review[8],
                    judge_errors=int(review[9]),
                    actions_json=review[10],
                    round=int(review[11]),
                    claimed_at_us=int(review[12]),
                )
                for review in reviews
            ]

    async def renew(self, leases: Sequence[tuple[str, int]], *, lease_s: float) -> list[bool]:
        """Keep ``(task_id, token)`` reviews. False: that one is lost."""
        answers = await self._scripts.run(
            "renew_reviews",
            [self.keys.root],
            round(lease_s * 1e6),
            *(field for lease in leases for field in lease),
        )
        return [answer == 1 for answer in answers]

    async def commit(
        self, judge: str, verdicts: Sequence[tuple[Review, Verdict]], *, max_stale: int
    ) -> list[Refusal | None]:
        """Commit verdicts. Per verdict: None, `Refusal.LOST` or `Refusal.STALE`."""
        answers = await self._scripts.run(
            "commit_verdicts",
            [self.keys.root],
            judge,
            max_stale,
            *(
                field
                for review, verdict in ((review, _redacted(verdict)) for review, verdict in verdicts)
                for field in (
                    review.task_id,
                    review.token,
                    verdict.decision.value,
                    f"{verdict.confidence:.4f}",
                    verdict.model_dump_json(),
                    verdict.feedback,
                    _judged(review),
                )
            ),
        )
        return [None if answer >= 0 else Refusal(answer) for answer in answers]

    async def give_back(
        self,
        judge: str,
        reviews: Sequence[tuple[Review, str, bool]],
        *,
        max_failures: int,
        pause_s: float = 1.0,
    ) -> None:
        """``(review, why, counts)``: the judge could not judge. That is never a rejection.

        Args:
            pause_s: before another judge may have them.
        """
        await self._scripts.run(
            "return_reviews",
            [self.keys.root],
            judge,
            max_failures,
            round(pause_s * 1e6),
            *(
                field
                for review, why, counts in reviews
                for field in (review.task_id, review.token, int(counts), redact(why)[:2000])
            ),
        )

    async def waiting(self) -> int:
        """Results that no judge holds."""
        with translated():
            return int(await self._redis.llen(self.keys.review))

    async def inbox(self, most: int = 100) -> list[str]:
        """Ids of the tasks that wait for a human, longest waiting first."""
        with translated():
            return list(await self._redis.zrange(self.keys.inbox, 0, most - 1))

    async def answer(
        self, task_id: str, operation: str, *, verdict: Verdict, by: str, max_stale: int
    ) -> None:
        """A human's answer: `verdict.decision` accepts or rejects, its feedback is the comment.

        Raises:
            NotFound: there is no such task.
            Conflict: it does not wait for a human, or there is no result to approve.
            StaleVerdict: the mission's state moved on; the task is planned again.
        """
        code = await self._scripts.run(
            "answer_review",
            [self.keys.root],
            task_id,
            operation,
            "approve" if verdict.decision == "accept" else "reject",
            by,
            verdict.feedback,
            verdict.model_dump_json(),
            max_stale,
        )
        if code == Refusal.STALE:
            raise StaleVerdict(f"the mission changed since task {task_id} was done: it is being done again")
        if code == Refusal.NO_RESULT:
            raise Conflict(f"task {task_id} has no result to approve: reject it to try again")
        if code == Refusal.LOST:
            raise await self._answered(task_id)

    async def _answered(self, task_id: str) -> NotFound | Conflict:
        """Why a task does not wait for a human: with who answered, for whoever came second."""
        try:
            found = await standing(self._redis, self.keys.tenant, task_id)
        except NotFound as exc:
            return exc
        status, last = found.status, found.last
        said = f"task {task_id} does not wait for a human: it is {status}"
        if last is None or not last.human:
            return Conflict(said)
        what = "approved" if last.decision is Decision.ACCEPT else "rejected"
        when = (
            "" if last.at_ms is None else f" at {datetime.fromtimestamp(last.at_ms / 1000, UTC):%H:%M:%S} UTC"
        )
        return Conflict(f"{said}; {last.human} {what} it{when}")


def _redacted(verdict: Verdict) -> Verdict:
    """What a judge says of a result may cite it, or what failed on the way. The result itself stays."""
    if not verdict.feedback and not any(one.feedback for one in verdict.opinions):
        return verdict
    opinions = tuple(
        one.model_copy(update={"feedback": redact(one.feedback)}) if one.feedback else one
        for one in verdict.opinions
    )
    return verdict.model_copy(update={"feedback": redact(verdict.feedback), "opinions": opinions})
