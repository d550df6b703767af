"""The memory of a worker: a limit that a runaway agent meets before its neighbours feel it.

The kernel's own limit on private writable memory (RLIMIT_DATA) counts heaps, threads' stacks and private
maps, but no shared memory and no files mapped to be read: so not what Ray maps. A limit on the whole
address space (RLIMIT_AS) would count those too, and Ray does not live under one. An allocation over the
limit fails where it is asked for: Python raises MemoryError there.

What it cannot do. It bounds the agents of a worker together: near the limit whoever asks next is refused,
the worker itself included. Code in C that does not check its allocations dies of it, as of any fault: then
the worker's death is handled like every other. Child processes have a limit each, not a share. Memory that
is reserved and never touched counts; shared memory and a GPU's own do not.
"""

from __future__ import annotations

import resource
from pathlib import Path

MIB = 1 << 20


def limit_memory(mebibytes: int) -> int:
    """Let this process allocate so much beside what it has now.

    Returns:
        The process's limit in bytes; 0 when there is none: none was asked for, or this is not Linux, where no
        other kernel enforces it.
    """
    present = private_bytes()
    if mebibytes == 0 or present is None:
        return 0
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = present + mebibytes * MIB
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    return limit


def private_bytes() -> int | None:
    """The memory of this process that the limit counts; None where the kernel does not tell."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    sizes = [line.split()[1] for line in lines if line.startswith("VmData:")]
    return int(sizes[0]) * 1024 if sizes else None


def refusal(mebibytes: int) -> str:
    """What an attempt is told that asked for more than there is."""
    if mebibytes == 0:
        return "MemoryError: the machine has no more: let the agent need less"
    return (
        f"MemoryError: the agents of a worker may allocate {mebibytes:,} MiB together: let this one need "
        "less, run fewer beside it (CHIMERA_SLOTS), or raise CHIMERA_WORKER_MEMORY_MB"
    )
