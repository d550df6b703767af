"""A mission that comes as lines: the mission itself on the first, then one input a line.

Read as it comes: of a million inputs no more is in memory than a slice of the body and the line it ends in,
and others are let at the event loop between slices.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from starlette.requests import ClientDisconnect, Request

from chimera.core.mission import DagPlan, MissionBase
from chimera.errors import InvalidRequest, PayloadTooLarge, RequestTimeout
from chimera.serving.gateway.auth import hold
from chimera.serving.gateway.intake import ITEM_SETTING, check_count, stored
from chimera.serving.gateway.problems import invalid_request
from chimera.settings import Settings
from chimera.store.uploads import LONGEST_S

MEDIA_TYPES = ("application/x-ndjson", "application/jsonl")
SLICE = 1 << 15
"""Bytes of the body that are looked at in one go."""
RAW = 6
"""A line may have so many times the bytes that its value has as JSON: one character may be written as six."""
SILENCE_S = 60.0
"""A body of which nothing comes for so long is given up."""
NOTHING = "the mission cannot be taken; nothing was submitted"


class Lines:
    """The lines of one request, with their numbers; those that are empty are passed over."""

    def __init__(self, request: Request, settings: Settings) -> None:
        self._request, self._settings = request, settings
        self._slices = _slices(request, settings.max_stream_bytes)
        self._rest = b""
        self._number = 0
        self._ready: list[tuple[int, bytes]] = []

    async def mission(self) -> MissionBase:
        """The first line, as a mission.

        Raises:
            InvalidRequest: it is none; with every problem.
            PayloadTooLarge: it is over its limit; or the whole is.
        """
        limit = self._settings.max_mission_bytes
        while not self._ready:
            if not await self._more(limit, "CHIMERA_MAX_MISSION_BYTES"):
                raise InvalidRequest(NOTHING, ("line 1: the mission is missing: it is the first line",))
        number, line = self._ready.pop(0)
        if len(line) > limit:
            raise PayloadTooLarge(f"line {number}", len(line), limit, "CHIMERA_MAX_MISSION_BYTES")
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            raise InvalidRequest(
                NOTHING, (f"line {number}: no JSON, {exc.msg} at character {exc.pos}",)
            ) from exc
        if isinstance(value, dict) and "inputs" in value:
            raise InvalidRequest(NOTHING, ("inputs: they follow the mission, one a line",))
        try:
            return MissionBase.model_validate(value)
        except ValidationError as exc:
            found = [{**error, "loc": ("body", *error["loc"])} for error in exc.errors()]
            raise invalid_request(found, value, tuple(MissionBase.model_fields)) from exc

    async def inputs(self, mission: MissionBase) -> AsyncIterator[Sequence[bytes]]:
        """The lines that follow, checked, as JSON without what a value does not need.

        Raises:
            InvalidRequest: a line is no JSON, there are too many, or none; naming the line.
            PayloadTooLarge: a line is over its limit, naming it; or the whole is.
        """
        limit, most = self._settings.max_input_bytes, self._settings.max_inputs
        count = 0
        going_on = True
        while going_on or self._ready:
            taken, self._ready = self._ready, []
            batch: list[bytes] = []
            for number, line in taken:
                batch.append(_input(number, count + len(batch), line, limit))
            count += len(batch)
            check_count(count, most)
            if batch and isinstance(mission.plan, DagPlan):
                raise InvalidRequest(NOTHING, ("inputs: a dag plan has none: each node names its own",))
            if batch:
                yield batch
            going_on = going_on and await self._more(RAW * limit, ITEM_SETTING)
        if not count and not isinstance(mission.plan, DagPlan):
            raise InvalidRequest(NOTHING, ("inputs: there are none: give at least one line",))

    async def _more(self, most: int, setting: str) -> bool:
        """Make lines ready from the next slice. False: that was the last."""
        piece = await anext(self._slices, None)
        if piece is None:
            last, self._rest = self._rest, b""
            self._note(last)
            return False
        *whole, self._rest = (self._rest + piece).split(b"\n")
        for line in whole:
            self._note(line)
        if len(self._rest) > most:
            raise PayloadTooLarge(f"line {self._number + 1}", len(self._rest), most, setting)
        hold(self._request, len(self._rest))
        return True

    def _note(self, line: bytes) -> None:
        self._number += 1
        if line and not line.isspace():
            self._ready.append((self._number, line))


def _input(number: int, index: int, line: bytes, limit: int) -> bytes:
    if len(line) > RAW * limit:
        raise PayloadTooLarge(f"line {number} (inputs[{index}])", len(line), RAW * limit, ITEM_SETTING)
    try:
        value: Any = orjson.loads(line)
    except orjson.JSONDecodeError as exc:
        raise InvalidRequest(
            NOTHING, (f"line {number} (inputs[{index}]): no JSON, {exc.msg} at character {exc.pos}",)
        ) from exc
    return stored(f"line {number} (inputs[{index}])", value, limit)


async def _slices(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in small pieces, no more than so much of it, and others let in behind each.

    Raises:
        PayloadTooLarge: there is more.
        InvalidRequest: its sender left.
        RequestTimeout: its sender says nothing any more.
    """
    size = 0
    chunks = request.stream()
    until = time.monotonic() + LONGEST_S
    while True:
        try:
            async with asyncio.timeout(min(SILENCE_S, until - time.monotonic())):
                chunk = await anext(chunks, None)
        except TimeoutError as exc:
            raise RequestTimeout(
                f"nothing of the request came for {SILENCE_S:g} s, or not all of it within {LONGEST_S:g} s; "
                "nothing was submitted"
            ) from exc
        except ClientDisconnect as exc:
            raise InvalidRequest("the request ended before it was whole; nothing was submitted") from exc
        if chunk is None:
            return
        size += len(chunk)
        if size > limit:
            raise PayloadTooLarge("the request", size, limit, "CHIMERA_MAX_STREAM_BYTES")
        for start in range(0, len(chunk), SLICE):
            yield chunk[start : start + SLICE]
            await asyncio.sleep(0)


def are_lines(content_type: str) -> bool:
    """Whether a body that says so comes as lines."""
    return content_type.partition(";")[0].strip().lower() in MEDIA_TYPES
