"""A hub to talk to: the real gateway over a real Redis, with the real services in this event loop."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
import uvicorn
from fastapi import FastAPI

from chimera.agents.context import Context
from chimera.cli.main import main
from chimera.core.action import HttpAction
from chimera.core.task import Task
from chimera.core.views import Health
from chimera.runtime.base import Base
from chimera.serving.gateway import Hub, create_app
from tests.keys import key_of
from tests.redis_fixtures import base, redis_server, settings, tenant
from tests.runtime.fleet import Fleet, registry, running

__all__ = ["base", "redis_server", "settings", "tenant"]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(frozen=True)
class Shell:
    """Runs commands as a person would, in a directory and an environment.

    Called, in a thread of this process, which saves seconds of imports; `start` makes a real one.
    """

    directory: Path
    environment: Mapping[str, str]

    async def start(self, *command: str, module: str = "chimera") -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *command,
            cwd=self.directory,
            env=dict(self.environment),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def __call__(self, *command: str) -> Done:
        async with asyncio.timeout(60):
            return await asyncio.to_thread(self._run, command)

    def _run(self, command: tuple[str, ...]) -> Done:
        out, err = io.StringIO(), io.StringIO()
        code: int | str | None = 0
        with (
            pytest.MonkeyPatch.context() as patch,
            own_logging(),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            for name in [name for name in os.environ if name.startswith("CHIMERA_")]:
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["chimera", *command])
            patch.chdir(self.directory)
            try:
                main()
            except SystemExit as exit_:
                code = exit_.code
        return Done(int(code or 0), out.getvalue(), err.getvalue())

    async def process(self, *command: str, module: str = "chimera") -> Done:
        """The same in a process of its own."""
        return await ended(await self.start(*command, module=module))

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return path


@contextmanager
def own_logging() -> Iterator[None]:
    """What a command does to the logs of its process ends with it."""
    root, structured = logging.getLogger(), structlog.get_config()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    try:
        yield
    finally:
        logging.captureWarnings(False)
        root.handlers[:], root.level = handlers, level
        sys.excepthook, threading.excepthook = hooks
        structlog.configure(**structured)


async def ended(process: asyncio.subprocess.Process) -> Done:
    """Wait for a command; none of them may take a minute."""
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    return Done(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """No hub anywhere: an empty state directory."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CHIMERA_")}
    return Shell(tmp_path, {**kept, "CHIMERA_STATE_DIR": str(tmp_path / "state")})


async def echo(task: Task, ctx: Context) -> Any:
    """Gives back its input."""
    return {"said": task.input}


async def fail(task: Task, ctx: Context) -> Any:
    """Raises, but for the input `fine`."""
    if task.input != "fine":
        raise RuntimeError(f"no {task.input}")
    return "fine"


async def wait(task: Task, ctx: Context) -> Any:
    """Never ends."""
    await asyncio.Event().wait()


async def spend(task: Task, ctx: Context) -> Any:
    """One call of at most 500 µ$."""
    hold = await ctx.model.purse.reserve(amount_microusd=500, model="m", agent="spend", ttl_s=60)
    await ctx.model.purse.release(hold)
    return "paid"


async def announce(task: Task, ctx: Context) -> Any:
    """Proposes one call of the address it is given."""
    ctx.propose(HttpAction(url=task.input, body={"said": "it"}))
    return "announced"


async def well() -> Health:
    return Health(ok=True)


@pytest.fixture
def quiet() -> Iterator[None]:
    """The services' log stays out of the commands' stdout, which is the same process's."""
    # Plain tracebacks: structlog's default ones, with all locals, hold up the loop for seconds.
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.JSONRenderer()],
        logger_factory=structlog.PrintLoggerFactory(sys.__stderr__),
    )
    yield
    structlog.reset_defaults()


@pytest.fixture
async def fleet(quiet: None, base: Base, tenant: str) -> AsyncIterator[Fleet]:
    agents = registry(echo=echo, fail=fail, wait=wait, spend=spend, announce=announce)
    about = {info.name: {"description": info.description, "source": info.source} for info in agents.infos()}
    await base.catalogue.publish(about)
    async with running(base, tenant, agents) as made:
        yield made


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """An app on a free port; its address."""
    config = uvicorn.Config(app, log_level="error", ws="none", lifespan="off", timeout_graceful_shutdown=1)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        await server.startup(sockets=[listener])
        serving = asyncio.create_task(server.main_loop())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        await serving
        await server.shutdown(sockets=[listener])


@pytest.fixture
async def hub(fleet: Fleet, base: Base, tenant: str, shell: Shell) -> AsyncIterator[Shell]:
    """A shell whose environment names a running hub and a key for it."""
    async with served(create_app(Hub(base, {"judge": well}))) as url:
        key = await key_of(base, tenant)
        yield Shell(shell.directory, {**shell.environment, "CHIMERA_URL": url, "CHIMERA_API_KEY": key})
