"""``python -m chimera.mission FILE``: submit and watch a mission as a Ray job.

    ray job submit --working-dir . -- python -m chimera.mission examples/missions/digest.yaml

The file and its inputs come with ``--working-dir``. The hub is CHIMERA_URL; the key comes from
CHIMERA_API_KEY_FILE or CHIMERA_API_KEY in the cluster's own environment, never from the job's
`runtime_env`, which Ray's dashboard shows. Progress goes to the job's log. `ray job stop` cancels
the mission within its 3 s, unless ``--detach``. Ray knows success and failure only, so the process
ends with 0 or 1, and the last line of the log says which of Chimera's exit codes it was.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chimera import settings as settings_module
from chimera.cli.exits import Exit, of_error, of_mission
from chimera.cli.progress import Lines
from chimera.cli.watching import Watch
from chimera.client import Client
from chimera.core.views import MissionView
from chimera.errors import ChimeraError
from chimera.missionfile import OpenMission, open_mission
from chimera.telemetry.logs import configure

CANCEL_S = 2.5
"""Ray kills a stopped job after 3 s (RAY_JOB_STOP_WAIT_TIME_S)."""
CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray in a job's driver (see `chimera.serving.jobs`)."""
TELL_S = 20.0


class Job:
    """One mission, from its submit to its end or to the job's stop.

    Args:
        detach: a stopped job leaves its mission going on.
    """

    def __init__(
        self, client: Client, mission: OpenMission, *, detach: bool = False, strict: bool = False
    ) -> None:
        self._client, self._detach, self._strict = client, detach, strict
        self._stopped = asyncio.Event()
        # One key for the job: a submit that is tried again makes no second mission.
        self._submitting = asyncio.create_task(
            client.submit(
                mission.spec,
                inputs=mission.inputs,
                idempotency_key=uuid.uuid4().hex,
                traceparent=os.environ.get("TRACEPARENT", ""),
            )
        )

    def stop(self) -> None:
        """Ray asks the job to end."""
        self._stopped.set()

    async def run(self) -> Exit:
        """Watch the mission to its end.

        Returns:
            The code for how it ended; `INTERRUPTED` after `stop`.
        """
        watching, stopping = asyncio.create_task(self._watch()), asyncio.create_task(self._stopped.wait())
        await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if watching.done():
            return watching.result()
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        async with asyncio.timeout(CANCEL_S):
            return await self._leave()

    async def _watch(self) -> Exit:
        # Shielded: whoever stops the job must learn which mission there is to cancel.
        mission = await asyncio.shield(self._submitting)
        _say(f"mission {mission.mission_id}: {mission.total_tasks} tasks")
        with on_the_page(mission):
            ended = await Watch(self._client, mission.mission_id, Lines()).run()
        return of_mission(ended, strict=self._strict)

    async def _leave(self) -> Exit:
        mission = await self._submitting
        if self._detach:
            _say(f"stopped; mission {mission.mission_id} goes on (--detach)")
        else:
            ended = await self._client.cancel(mission.mission_id, "its Ray job was stopped")
            _say(f"stopped; mission {mission.mission_id} is {ended.status}, {ended.accepted} results stay")
        return Exit.INTERRUPTED


@contextmanager
def on_the_page(mission: MissionView) -> Iterator[None]:
    """Ray's Jobs page names the mission, at the block's end at the latest; nothing else waits for that."""
    telling = threading.Thread(target=_tell, args=(mission,), name="tell Ray", daemon=True)
    if CONFIG in os.environ:
        telling.start()
    yield
    if telling.is_alive():
        telling.join(TELL_S)


def _tell(mission: MissionView) -> None:
    from chimera.serving import jobs  # noqa: PLC0415 (with it comes Ray, which takes seconds)

    try:
        jobs.tell(os.environ, mission=mission.mission_id, tenant=mission.tenant)
    except Exception as exc:  # noqa: BLE001 (Ray's own, of any kind: the mission does not depend on it)
        _say(f"Ray's Jobs page does not name the mission: {type(exc).__name__}: {exc}")


async def perform(file: Path, *, detach: bool, strict: bool) -> Exit:
    """Read the file, submit it, watch it."""
    environment = settings_module.load()
    configure(environment, role="job", capture_print=False)
    mission = open_mission(
        file, max_input_bytes=environment.max_input_bytes, max_inputs=environment.max_inputs
    )
    key = environment.api_key.get_secret_value() if environment.api_key else ""
    async with Client(environment.address, key) as client:
        job = Job(client, mission, detach=detach, strict=strict)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, job.stop)
        return await job.run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Ray's 0 or 1; Chimera's own code is the last line."""
    parser = argparse.ArgumentParser(prog="python -m chimera.mission", description="A mission as a Ray job.")
    parser.add_argument("file", type=Path, metavar="FILE", help="a mission file, YAML or JSON")
    parser.add_argument("--detach", action="store_true", help="`ray job stop` leaves the mission going on")
    parser.add_argument("--strict", action="store_true", help="fail when any task failed")
    given = parser.parse_args(arguments)
    try:
        code = asyncio.run(perform(given.file, detach=given.detach, strict=given.strict))
    except TimeoutError:
        _say(f"stopped; the hub did not take the cancel within {CANCEL_S:g} s: see `chimera mission list`")
        code = Exit.UNREACHABLE
    except ChimeraError as exc:
        _say(f"chimera: {exc}")
        code = of_error(exc)
    _say(f"chimera: exit code {int(code)} ({code.name.lower().replace('_', ' ')})")
    return int(code is not Exit.COMPLETED)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
