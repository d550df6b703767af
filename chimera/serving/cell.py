"""The cell: the process in which one tenant's agents run. ``python -P -m chimera.serving.cell``

It is a child of a Ray actor (`chimera.serving.shell.WorkerActor`), and no part of Ray itself: it has no
token, no connection, and never imports it. So its agents can ask Ray for nothing: no actor, object or job.
What it has it is told over its standard input, a line of JSON each, and its environment holds no secret:

    {"worker": …, "node": …, "path": […], "apart": […], "env": {…}, "outfit": {…}}     first
    {"outfit": {…}}          a spare's, when it is a tenant's; and whenever the tenant's secrets change

It answers a line, `READY`, when its agents are imported, and lines of `BUSY` while it works. It is enclosed
before any of its agents is imported.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import site
import socket
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import structlog

from chimera.agents.models.embedded import die_with_parent
from chimera.agents.registry import Registry
from chimera.agents.secrets import Secrets
from chimera.runtime import spare
from chimera.runtime.memory import limit_memory
from chimera.runtime.outfit import Outfit
from chimera.runtime.worker import Worker
from chimera.serving.enclosure import Enclosed, around, enclose, real
from chimera.serving.heap import freeze
from chimera.serving.local.environment import places
from chimera.serving.loop import LoopThread
from chimera.serving.warden import READY
from chimera.settings import Settings
from chimera.store.connection import connect, connect_sync, end
from chimera.telemetry.logs import begin, bind, configure
from chimera.telemetry.redaction import conceal

log = structlog.get_logger(__name__)

CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name what TLS trusts."""
SHOW_S, SAY_AGAIN = 1.0, 10
"""How often it looks how busy it is, and after how many looks it says so again though nothing changed."""


class Cell:
    """One worker of one tenant, on a loop of its own; a spare until it is told whose.

    Args:
        settings: what it starts with.
        tenant: whose it is, or "" for a spare.
        ready: called when its agents are imported.
        busy: told how many of its slots are in use, as `warden.Warden` takes it.
    """

    def __init__(
        self,
        settings: Settings,
        tenant: str,
        worker_id: str,
        *,
        node: str = "",
        secrets: Secrets | None = None,
        ready: Callable[[], None] = lambda: None,
        busy: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.tenant, self.worker_id, self.node = tenant, worker_id, node
        self.settings, self.secrets = settings, secrets or Secrets()
        self.worker: Worker | None = None
        self._ready, self._busy = ready, busy
        self._bound: asyncio.Event | None = None
        self._loop = LoopThread(f"worker {worker_id}")
        signal.signal(signal.SIGTERM, lambda *_: self._terminated())
        self._loop.run(self._work(), then=leave)

    def serve(self, tenant: str, settings: Settings, secrets: Secrets) -> None:
        """Be this tenant's from now on, with these settings and secrets; a worker takes new secrets over.

        Harmless for whoever is another tenant's already. Any thread may call it.
        """
        self._loop.soon(partial(self._serve, tenant, settings, secrets))

    def _serve(self, tenant: str, settings: Settings, secrets: Secrets) -> None:
        if self.tenant not in {"", tenant}:
            log.warning("worker.not_theirs", asked=tenant)
            return
        self.tenant, self.settings, self.secrets = tenant, settings, secrets
        if self._bound is not None:
            self._bound.set()
        if self.worker is not None:
            self.worker.equip(settings, secrets)

    def _terminated(self) -> None:
        """Whoever ends this process (a container's end, a hand) gives it some seconds: use them."""
        if self.worker is None:
            leave()  # it holds nothing
        else:
            self._loop.soon(partial(self.worker.drain, last_s=self.settings.preempt_s))

    def ping(self) -> bool:
        """Whether its loop runs."""
        return self._loop.alive

    async def _work(self) -> None:
        """Its life. A spare's begins with waiting."""
        bind(worker=self.worker_id)
        registry = Registry.load(self.settings.agents)
        if not self.tenant:
            self._bound = asyncio.Event()
            spare.warm()
            freeze()
            self._ready()
            await self._bound.wait()
        settings = self.settings
        bind(tenant=self.tenant)
        redis, blocking = connect(settings), connect(settings, blocking=True)
        sync = connect_sync(settings)
        try:
            limit_memory(settings.worker_memory_mb)
            self.worker = worker = Worker(
                settings,
                self.tenant,
                self.worker_id,
                registry,
                redis=redis,
                blocking=blocking,
                sync=sync,
                stuck=leave,
                node=self.node,
                secrets=self.secrets,
            )
            freeze()
            showing = asyncio.create_task(self._show(worker), name="show how busy it is")
            try:
                await worker.run()
            finally:
                await end(showing)
        finally:
            sync.close()
            await redis.aclose()
            await blocking.aclose()

    async def _show(self, worker: Worker) -> None:
        """Tell how busy it is, once a second at most: for people."""
        told, unsaid = -1, 0
        while True:
            if worker.busy != told or unsaid >= SAY_AGAIN:
                told, unsaid = worker.busy, 0
                self._busy(told)
            await asyncio.sleep(SHOW_S)
            unsaid += 1


def leave() -> None:
    """End this process: its work is over, and whoever started it sees that."""
    # From the loop's thread, while the main one waits for words that come no more.
    os._exit(0)


def main() -> None:
    """Be a cell, for good."""
    begin("worker")
    die_with_parent()
    words = _take_over(sys.stdin.fileno())
    with words, words.makefile("r", encoding="utf-8") as told:
        first = json.loads(told.readline() or "null")
        if first is None:
            return
        outfit = Outfit.model_validate(first["outfit"])
        os.environ.update(first["env"])
        settings = outfit.settings
        configure(settings, role="worker", stream="stdout")
        conceal(*outfit.secrets.values())
        enclosed = shut(settings, outfit.reads, apart=first["apart"], path=first["path"])
        log.info("worker.enclosed", worker=first["worker"], how=str(enclosed))
        cell = Cell(
            settings,
            outfit.tenant,
            first["worker"],
            node=first["node"],
            secrets=Secrets(outfit.secrets),
            ready=partial(words.sendall, READY),
            busy=partial(_say_busy, words),
        )
        for line in told:
            outfit = Outfit.model_validate(json.loads(line)["outfit"])
            settings = outfit.settings
            configure(settings, role="worker", stream="stdout")
            conceal(*outfit.secrets.values())
            cell.serve(outfit.tenant, settings, Secrets(outfit.secrets))
    leave()  # nobody is there any more who could tell it anything


def _say_busy(words: socket.socket, busy: int) -> None:
    # Whoever does not listen misses a number; nobody waits for that.
    with suppress(OSError):
        words.send(b"busy %d\n" % busy, socket.MSG_DONTWAIT)


def shut(settings: Settings, reads: Iterable[str], *, apart: Iterable[str], path: Iterable[str]) -> Enclosed:
    """Enclose this process, and take over the path that modules are found on.

    Args:
        reads: files to be read beside what everybody may.
        apart: what must not be, also where it lies inside of what may.
        path: `sys.path` of whoever started it.
    Raises:
        ConfigurationError: it must be enclosed, and cannot.
    """
    sys.path += [entry for entry in path if entry and entry not in sys.path]
    home = os.environ.get("TMPDIR") or tempfile.gettempdir()
    kept_apart = _paths([settings.state_dir, *apart])
    installed = [sys.prefix, sys.base_prefix, site.getusersitepackages(), *sysconfig.get_paths().values()]
    trusted = [os.environ[name] for name in CERTIFICATES if os.environ.get(name)]
    read = {part for root in _paths([*sys.path, *installed]) for part in around(root, kept_apart)}
    for named in _paths([*places(settings.agents), *places(settings.agent_reads), *reads, *trusted]):
        # Who names a file in a directory that is kept apart means that file.
        read |= {*around(named, [one for one in kept_apart if one != named and one not in named.parents])}
    if settings.enclosure != "off":
        # Its files are out of reach: what looks there shall find an empty home instead of a refusal.
        os.environ["HOME"] = home
    return enclose(settings.enclosure, read=sorted(read), write=[home, *places(settings.agent_writes)])


def _paths(names: Iterable[str | Path]) -> list[Path]:
    return [real(one) for one in names]


def _take_over(descriptor: int) -> socket.socket:
    """The line to whoever started it, in place of a standard input that agents might read, or pass on."""
    words = socket.socket(fileno=os.dup(descriptor))
    os.set_inheritable(words.fileno(), False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, descriptor)
    os.close(nothing)
    return words


if __name__ == "__main__":
    main()
