"""The floor: the least that four transitions and their recorder entries cost, in a pipelined loop of Lua.

Each task is made, claimed, handed in and accepted, a hundred at a time: a status in a hash, a queue, and an
entry in a stream each. Nothing is judged, nothing leased, nothing paid.
"""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

import psutil

from chimera.settings import Settings
from chimera.store.connection import connect

BATCH = 100
STEP = """
local from, to, log = ARGV[1], ARGV[2], {}
for i = 3, #ARGV do
  if redis.call('HGET', KEYS[1] .. ARGV[i], 'status') ~= (from ~= '' and from) then
    return redis.error_reply('wrong state')
  end
  redis.call('HSET', KEYS[1] .. ARGV[i], 'status', to, 'result', '{"n":1}')
  log[#log + 1] = ARGV[i]
end
redis.call('XADD', KEYS[2], '*', 'kind', to, 'tasks', table.concat(log, ' '))
return #log
"""
STATES = ("", "READY", "PENDING", "REVIEW", "ACCEPTED")


@dataclass(frozen=True, slots=True)
class Floor:
    """What it came to."""

    tasks_a_second: float
    cpu_ms: float
    method: str = f"the same four transitions in Lua, {BATCH} tasks a call, pipelined"


async def floor(settings: Settings, tasks: int) -> Floor:
    """Run it on the fleet's Redis, under keys of its own that are removed afterwards."""
    redis = connect(settings)
    try:
        server = psutil.Process(int((await redis.info("server"))["process_id"]))
        root, log = "{bench}floor:", "{bench}log"
        step = redis.register_script(STEP)
        names = [str(number) for number in range(tasks)]
        mine = psutil.Process()
        before = [sum(one.cpu_times()[:2]) for one in (mine, server)]
        began = time.perf_counter()
        for at in range(0, tasks, 10 * BATCH):
            async with redis.pipeline(transaction=False) as pipe:
                for first in range(at, min(at + 10 * BATCH, tasks), BATCH):
                    for was, becomes in itertools.pairwise(STATES):
                        chosen = names[first : first + BATCH]
                        await step(keys=[root, log], args=[was, becomes, *chosen], client=pipe)
                await pipe.execute()
        took = time.perf_counter() - began
        spent = sum(sum(one.cpu_times()[:2]) for one in (mine, server)) - sum(before)
        for at in range(0, tasks, 1_000):
            await redis.unlink(*(root + name for name in names[at : at + 1_000]))
        await redis.unlink(log)
    finally:
        await redis.aclose()
    return Floor(tasks / took, 1e3 * spent / tasks)
