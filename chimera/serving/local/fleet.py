"""Starts, finds and ends the local fleet of a state directory: what `chimera up` and its like call."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from chimera.agents.registry import Registry
from chimera.errors import BackendError, Conflict
from chimera.serving.local import environment, remains
from chimera.serving.local.child import last_lines
from chimera.serving.local.process import ProcessId, end, spawn
from chimera.serving.local.stages import Follower, Stage, StageEvent, Status
from chimera.serving.local.state import Fleet, StateDir
from chimera.serving.local.supervisor import HUB, STOP_S, check_ports
from chimera.settings import Settings

START_S = 300.0
POLL_S = 0.05
Progress = Callable[[StageEvent], None]


class FleetStatus(BaseModel):
    """What `chimera status` shows.

    Attributes:
        fleet: the record, or None when none runs.
        alive: each recorded process, and whether it lives.
        processes: how many processes the fleet has in all.
        memory_bytes: their proportional memory, shared pages counted once.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fleet: Fleet | None
    alive: dict[str, bool] = {}
    processes: int = 0
    memory_bytes: int = 0


def up(
    settings: Settings,
    *,
    progress: Progress = lambda _: None,
    agents: Iterable[str | Path] = (),
    app: str = HUB,
) -> Fleet:
    """Start the fleet in the background and wait until it is ready; the running one if there is one.

    Args:
        progress: called with each stage's events.
        agents: files or modules that register agents, beside CHIMERA_AGENTS.
        app: ``module:function`` that builds the Serve application.
    Raises:
        ConfigurationError: agents cannot be loaded, a port is taken, or the environment is wrong otherwise;
            nothing runs.
        Conflict: a fleet runs already, without these agents or at another port; it is left as it is.
        BackendError: a stage failed, with the end of its log; nothing runs.
        KeyboardInterrupt: nothing runs.
    """
    state = StateDir(settings.state_dir)
    chosen = settings.model_copy(update={"agents": environment.agents(settings.agents, agents)})
    with state.locked() as lock:
        if lock is None:
            return _join(state, chosen, progress)
        try:
            # Here rather than in the hub, which would say so after most of a minute, in Ray's words.
            Registry.load(chosen.agents)
            # What a crashed fleet left is ended first: it may hold the very ports that are checked.
            remains.sweep(state)
            state.forget()
            state.prepare()
            check_ports(chosen)
            state.progress.unlink(missing_ok=True)
            supervisor = _spawn_supervisor(chosen, state, lock, app)
            return _follow(state, supervisor, progress)
        except BaseException:
            _end(state)
            state.forget()
            raise


def down(settings: Settings) -> bool:
    """End the fleet, whatever state it is in.

    Returns:
        Whether anything ran.
    """
    state = StateDir(settings.state_dir)
    if not os.access(state.path, os.F_OK):
        return False
    ran = _end(state)
    with state.locked(wait_s=STOP_S) as lock:
        if lock is None:
            raise BackendError(f"something keeps {state.lock_file} locked: see `fuser {state.lock_file}`")
        ran = remains.sweep(state) > 0 or ran
        state.forget()
    return ran


def find(settings: Settings) -> Fleet | None:
    """The ready fleet of this state directory, or None."""
    fleet = StateDir(settings.state_dir).read()
    return fleet if fleet and fleet.ready and fleet.supervisor.is_alive() else None


def status(settings: Settings) -> FleetStatus:
    """What runs now, and its memory."""
    state = StateDir(settings.state_dir)
    fleet, processes = state.read(), remains.find(state)
    if fleet is None or not fleet.supervisor.is_alive():
        fleet = None
    return FleetStatus(
        fleet=fleet,
        alive={name: process.is_alive() for name, process in fleet.processes.items()} if fleet else {},
        processes=len(processes),
        memory_bytes=sum(process.memory_bytes() for process in processes),
    )


def _spawn_supervisor(settings: Settings, state: StateDir, lock: int, app: str) -> ProcessId:
    command = [sys.executable, "-m", "chimera.serving.local", "--lock-fd", str(lock), "--app", app]
    log = state.logs / "supervisor.log"
    log.unlink(missing_ok=True)
    child = spawn(
        command, env=environment.of_supervisor(settings, state), log=log, pass_fds=(lock,), outlive=True
    )
    process = ProcessId.of(child.pid)
    child.returncode = 0  # it outlives this object, which would warn of that
    if process is None:
        raise BackendError(f"the supervisor ended at once; {last_lines(log)}")
    return process


def _join(state: StateDir, asked: Settings, progress: Progress) -> Fleet:
    """Wait for a fleet that somebody else started or is starting, if it is the one that is asked for."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        fleet = state.read()
        if fleet and fleet.supervisor.is_alive():
            _see_that_it_is(fleet, asked)
            return fleet if fleet.ready else _follow(state, fleet.supervisor, progress)
        time.sleep(POLL_S)  # the other one is between its lock and its first record, or going
    raise BackendError(f"{state.path} is locked and no fleet runs in it: run `chimera down`, then again")


def _see_that_it_is(fleet: Fleet, asked: Settings) -> None:
    """Refuse what a fleet that runs cannot give: agents are loaded, and its port is bound, at its start."""
    lacking = [place for place in environment.places(asked.agents) if place not in fleet.agents]
    if lacking:
        raise Conflict(
            f"the fleet that runs here was started without the agents of {', '.join(lacking)}: "
            "`chimera down`, and this again"
        )
    url = f"http://{asked.http_host}:{asked.http_port}"
    if fleet.url != url and asked.model_fields_set & {"http_host", "http_port"}:
        raise Conflict(
            f"the fleet that runs here is at {fleet.url}, not {url}: `chimera down`, and this again"
        )


def _follow(state: StateDir, supervisor: ProcessId, progress: Progress) -> Fleet:
    follower, deadline = Follower(state.progress), time.monotonic() + START_S
    while time.monotonic() < deadline:
        gone = supervisor.wait(POLL_S)
        for event in follower.new():
            progress(event)
            if event.status is Status.FAILED and event.stage is Stage.FLEET:
                raise event.error()
            if event.status is Status.READY and event.stage is Stage.FLEET and (fleet := state.read()):
                return fleet
        if gone:
            raise BackendError(f"the supervisor ended; {last_lines(state.logs / 'supervisor.log')}")
    raise BackendError(f"the fleet was not ready within {START_S:g} s; {last_lines(state.progress)}")


def _end(state: StateDir) -> bool:
    """End the supervisor, which ends the rest; what it could not is swept. Whether anything ran."""
    fleet = state.read()
    asked = [fleet.supervisor] if fleet and fleet.supervisor.is_alive() else []
    if not asked:  # it may be too young to have recorded itself
        asked = [process for process in remains.find(state) if remains.is_supervisor(process)]
    end(asked, grace_s=STOP_S)
    swept = remains.sweep(state)
    for process in asked:
        process.reap()
    return bool(asked or swept)
