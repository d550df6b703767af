"""Agents that look for what is not their tenant's, and one that cannot keep to itself what is."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import importlib
import logging
import os
import re
import resource
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import structlog

from chimera.agents import Context, agent
from chimera.core.task import Task

OTHERS = re.compile(rb"planted-[b]-[0-9a-f]{16}")
"""A secret that a test has planted for another tenant. This pattern itself is none."""
MINE = re.compile(rb"planted-[a]-[0-9a-f]{16}")
libc = ctypes.CDLL(None, use_errno=True)
SEIZE = 0x4206
"""Of ptrace: it stops nobody."""


@agent("steal")
def steal(task: Task, ctx: Context) -> dict[str, Any]:
    """Tries everything; what each attempt brought, or how it was refused."""
    found: dict[str, Any] = {}
    parent, neighbour = os.getppid(), int(task.input["neighbour"])

    def attempt(name: str, theft: Callable[[], object]) -> None:
        try:
            found[name] = str(theft())[:100_000]
        except (OSError, ValueError) as exc:
            found[name] = f"refused: {type(exc).__name__}"

    attempt("environment", lambda: dict(os.environ))
    attempt("own environ", Path("/proc/self/environ").read_bytes)
    for name, pid in {"parent": parent, "neighbour": neighbour}.items():
        of = Path(f"/proc/{pid}")
        attempt(f"environ of the {name}", (of / "environ").read_bytes)
        attempt(f"memory of the {name}", partial(os.open, of / "mem", os.O_RDONLY))
        attempt(f"files of the {name}", partial(os.listdir, of / "fd"))
        attempt(f"signal to the {name}", partial(os.kill, pid, 0))
        attempt(f"trace of the {name}", lambda pid=pid: call(libc.ptrace(SEIZE, pid, 0, 0)))  # type: ignore[misc]  # (mypy takes the default for a further argument)
        attempt(f"descriptor of the {name}", partial(stolen_descriptor, pid))
        attempt(f"environ of the {name} by a child", partial(by_a_child, of / "environ"))
    for path in task.input["paths"]:
        attempt(path, partial(os.listdir if os.path.isdir(path) else by_reading, path))
        attempt(f"{path} by a child", partial(by_a_child, path))
        attempt(f"{path}, written", partial(os.open, path, os.O_WRONLY))
    attempt("a link to it", lambda: linked(task.input["paths"][0]))
    attempt("Unix socket", lambda: socket.socket(socket.AF_UNIX).connect(task.input["socket"]))
    attempt("raw socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
    attempt("io_uring", lambda: call(libc.syscall(425, 1, ctypes.create_string_buffer(120))))
    attempt("mount", lambda: call(libc.mount(b"none", b"/mnt", b"tmpfs", 0, None)))
    attempt("core files", lambda: resource.getrlimit(resource.RLIMIT_CORE))
    found["others in memory"] = in_memory(OTHERS)
    found["mine in memory"] = in_memory(MINE)
    found["others among objects"] = sum(
        bool(OTHERS.search(repr(one).encode())) for one in gc.get_objects() if isinstance(one, dict | list)
    )
    found["ray"] = sorted(name for name in sys.modules if name.split(".")[0] == "ray")
    found["secrets"] = sorted(ctx.secrets)
    found["shown"] = repr(ctx.secrets)
    return found


@agent("ask-ray")
def ask_ray(task: Task, ctx: Context) -> dict[str, str]:
    """Asks Ray's own parts for other actors, as a process without its token does; what each answered."""
    gcs_client: Any = importlib.import_module("ray._raylet").GcsClient  # untyped
    gcs, actors = task.input["gcs"], f"{task.input['dashboard']}/api/v0/actors"
    asked: dict[str, Callable[[], object]] = {
        "nodes": lambda: gcs_client(address=gcs).get_all_node_info(timeout=10),
        "names": lambda: gcs_client(address=gcs).internal_kv_keys(b"", namespace=None, timeout=10),
        "dashboard": lambda: urllib.request.urlopen(actors, timeout=10).read(),
        "shared memory": lambda: os.listdir("/dev/shm"),
    }
    found = {}
    for name, ask in asked.items():
        try:
            found[name] = str(ask())[:10_000]
        except Exception as exc:  # noqa: BLE001  (Ray's errors are many; all that counts is that it is one)
            found[name] = f"refused: {type(exc).__name__}"
    return found


def by_reading(path: str) -> str:
    """What a file holds."""
    return Path(path).read_text(encoding="utf-8")


def by_a_child(path: str | Path) -> str:
    """What another program reads there."""
    read = subprocess.run(["/bin/cat", str(path)], capture_output=True, text=True, check=False)
    if read.returncode:
        raise PermissionError(read.stderr)
    return read.stdout


def call(answer: int) -> int:
    """What a system call gave, or its error."""
    if answer < 0:
        raise OSError(ctypes.get_errno(), "refused")
    return answer


def stolen_descriptor(pid: int) -> int:
    """The first file of another process, by pidfd_getfd."""
    return call(libc.syscall(438, os.pidfd_open(pid), 0, 0))


def linked(path: str) -> str:
    """A file through a link from where one may write."""
    link = Path(os.environ["TMPDIR"], "link")
    link.symlink_to(path)
    return os.listdir(link)[0]


def in_memory(pattern: re.Pattern[bytes]) -> int:
    """How often it stands in this process's memory."""
    count = 0
    with open("/proc/self/maps", encoding="utf-8") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps:
            place, rights, *_ = line.split()
            if not rights.startswith("rw"):
                continue
            begin, end = (int(part, 16) for part in place.split("-"))
            try:
                memory.seek(begin)
                count += len(pattern.findall(memory.read(end - begin)))
            except (OSError, ValueError, OverflowError):
                continue
    return count


@agent("tell")
async def tell(task: Task, ctx: Context) -> str:
    """Tells a secret of its own tenant's as its result, which is that tenant's to know."""
    return ctx.secrets[task.input]


@agent("leak")
async def leak(task: Task, ctx: Context) -> str:
    """Prints, logs and raises with its tenant's secrets in the text."""
    key = ctx.secrets[task.input.get("key", "MODEL_API_KEY")]
    where = task.input["redis"]
    print(f"printed {key} {where}")  # noqa: T201 (what an agent's author would write)
    logging.getLogger("their.agent").warning("logged %s %s", key, where)
    structlog.get_logger("their.agent").info(
        "told", key=key, url=where, headers={"Authorization": "Basic " + key}
    )
    ctx.progress(f"with {key}")
    raise RuntimeError(f"cannot call with {key} at {where}, nor with sk-proj-0123456789abcdefABCDEF")


@agent("babble")
async def babble(task: Task, ctx: Context) -> str:
    """Finds the line to its keeper, and says what it likes there."""
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(OSError, ValueError), socket.socket(fileno=os.dup(int(descriptor))) as line:
            if line.family == socket.AF_UNIX:
                line.send(b"busy 123456\n" + b"busy one\n" + b"x" * 500 + b"\nbusy -1\n")
    return "babbled"


@agent("linger")
async def linger(task: Task, ctx: Context) -> None:
    """Never ends."""
    await asyncio.Event().wait()
