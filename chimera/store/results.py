"""Accepted results, read in the order planned, many at a time: for whoever takes all of a mission's.

A task's record costs far more to make than its result to pass on. So what stands as JSON in Redis and on the
shelf stays JSON: it is checked where it is read, and not made into values and back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from pydantic_core import to_json

from chimera.core.verdict import Decision, Verdict
from chimera.errors import CorruptRecord
from chimera.store.connection import Redis, translated
from chimera.store.keys import TenantKeys
from chimera.store.scripts import Refusal, Scripts
from chimera.store.shelves import Shelf, raw_of
from chimera.store.tasks import Raw

MOST = 200
"""Tasks looked at in one step: it holds the store for about a millisecond."""
WORTH = 50
"""Tasks that lie on the shelf without a gap are read there, without a look at Redis, if so many do."""
MOST_BYTES = 1 << 20
"""A step ends behind the result that brings it to so many bytes."""
_VERDICT = re.compile(r'\{"decision":"(\w+)","confidence":([0-9.e-]+),')
"""As a judge's own verdicts begin (`Verdict.model_dump_json`)."""


class Accepted(NamedTuple):
    """An accepted result.

    Attributes:
        position: its task's, in the order planned, from 0.
        answers: no other task takes it in.
        state_version: the mission's, that it was made under.
        result: one line of JSON; so `verdict`.
        verdict: the one that accepted it; None when none is known.
    """

    position: int
    task_id: str
    stage: str
    answers: bool
    attempt: int
    spent_microusd: int
    finished_at_us: int
    state_version: int
    result: str
    confidence: float
    verdict: str | None


class Batch(NamedTuple):
    """Some of a mission's results. `following`: the position to go on at; None when no task follows."""

    results: list[Accepted]
    following: int | None


class ResultStore:
    """One tenant's; the shelf has those that left Redis."""

    def __init__(self, redis: Redis, tenant: str, shelf: Shelf) -> None:
        self._scripts = Scripts(redis)
        self._shelf = shelf
        self.keys = TenantKeys(tenant)

    async def read(self, mission_id: str, offset: int) -> Batch | None:
        """What is accepted of the tasks from a position on; None: the mission is not in Redis any more.

        Raises:
            CorruptRecord: what Redis or the shelf has of one cannot be read.
            BlobsUnavailable: the shelf cannot be read.
        """
        run = await self._shelf.run(mission_id, offset)
        if run is None:
            return None
        if len(run) >= WORTH:  # what is on the shelf is accepted, and nothing of it changes any more
            with translated():
                found = [
                    _taken(at, f"{mission_id}.{at}", raw_of(line)) for at, line in enumerate(run, offset)
                ]
            return Batch(found, offset + len(run))
        answer = await self._scripts.run(
            "read_results", [self.keys.root], mission_id, offset, MOST, MOST_BYTES
        )
        if answer == Refusal.MISSING:
            return None
        ended, rows = answer
        gone = [row for row in rows if isinstance(row, str)]
        # What leaves Redis is found elsewhere from that instant.
        shelved = await self._shelf.find(gone, most_bytes=MOST_BYTES) if gone else {}
        if gone and gone[0] not in shelved:
            raise CorruptRecord(f"task {gone[0]} is neither in Redis nor on its mission's shelf")
        results: list[Accepted] = []
        with translated():
            for position, row in enumerate(rows, offset):
                if isinstance(row, list):
                    results.append(_made(position, *row))
                elif row in shelved:
                    results.append(_taken(position, row, shelved[row]))
                elif row:
                    return Batch(results, position)  # enough for once
        return Batch(results, None if ended else offset + len(rows))


def filed(position: int, said: Mapping[str, Any]) -> Accepted | None:
    """The result of a task as a dossier's line has it; None when it is not accepted."""
    if said["status"] != "ACCEPTED":
        return None
    accepting = [one for one in said["verdicts"] if one["decision"] == Decision.ACCEPT]
    return Accepted(
        position,
        said["task_id"],
        said["stage"],
        not said["needed_by"],
        said["attempt"],
        said["spent_microusd"],
        said["finished_at_us"],
        said["state_version"],
        _text(said["result"]),
        accepting[-1]["confidence"] if accepting else 1.0,
        _text(accepting[-1]) if accepting else None,
    )


def _taken(position: int, task_id: str, raw: Raw) -> Accepted:
    """Of a task that left Redis, as it stood there."""
    spec, task, commit, verdicts = raw
    return _made(
        position,
        task_id,
        spec["stage"],
        spec.get("needed_by"),
        task["attempt"],
        task.get("spent", "0"),
        task["finished_at"],
        commit.get("version") or task["version"],
        commit["result"],
        verdicts,
    )


def _made(
    position: int,
    task_id: str,
    stage: str,
    needed_by: str | None,
    attempt: str,
    spent: str,
    finished_at: str,
    version: str,
    result: str,
    verdicts: Sequence[str],
) -> Accepted:
    confidence, verdict = _accepting(verdicts)
    return Accepted(
        position,
        task_id,
        stage,
        not needed_by,
        int(attempt),
        int(spent),
        int(finished_at),
        int(version),
        _line(result),
        confidence,
        verdict,
    )


def _accepting(verdicts: Sequence[str]) -> tuple[float, str | None]:
    """The confidence and the text of the last verdict that accepts."""
    for text in reversed(verdicts):
        if known := _VERDICT.match(text):
            if known[1] == Decision.ACCEPT:
                return float(known[2]), text
        elif (verdict := Verdict.model_validate_json(text)).decision is Decision.ACCEPT:
            return verdict.confidence, verdict.model_dump_json()
    return 1.0, None


def _line(text: str) -> str:
    """A JSON text as it is, if it is one and on one line: nobody who reads lines must take it for several."""
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return _text(json.loads(text))  # it reads more: a worker of another kind may have written it
    return _text(json.loads(text)) if "\n" in text or "\r" in text else text


def _text(value: Any) -> str:
    return to_json(value, inf_nan_mode="null").decode()
