"""An enclosure: what the kernel lets a process of agents touch, decided before any of their code is there.

Landlock bounds files: what is not named here can be neither read nor written, `/proc` of other processes
included; nor can a process outside be traced or signalled. A seccomp filter takes away what Landlock does not
know: Unix sockets, by which neighbours on one machine would talk (Ray's, Docker's, a hub's own), and calls
that read another process or go around files. Both bind threads and children that come after, and nothing can
lift them. So enclose a process while it has one thread.

What it does not bound: the network, the machine's processors, the names and sizes of files, and the memory of
the process itself. See docs/isolation.md.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chimera.errors import ConfigurationError

Mode = Literal["auto", "require", "off"]

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""System calls, the same numbers on every architecture that Python runs on."""
ASK_VERSION = 1
BENEATH_PATH = 1

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REFER, TRUNCATE = 1 << 13, 1 << 14
EVERYTHING = (1 << 13) - 1
"""All rights of the first version: reading, writing, executing, making and removing of any kind."""
MAKE_CHAR, MAKE_BLOCK = 1 << 6, 1 << 11
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
READING = EXECUTE | READ_FILE | READ_DIR
SCOPED = 0b11
"""Abstract Unix sockets and signals stay within, from version 6 on."""

CAPABILITIES_3 = 0x20080522
OVERRIDE = 1 << 1
"""CAP_DAC_OVERRIDE: where everything runs as root, files of other users are part of that, and Landlock bounds
them. No other privilege is: not to listen to the network's traffic, above all."""
PR_SET_DUMPABLE, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 4, 22, 38
FILTER = 2
_libc = ctypes.CDLL(None, use_errno=True)

SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt/lib", "/nix/store"),
    *("/etc/ssl", "/etc/pki", "/etc/ca-certificates", "/etc/ca-certificates.conf"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/passwd", "/etc/group", "/etc/localtime", "/etc/timezone"),
    *("/etc/mime.types", "/etc/os-release", "/run/systemd/resolve", "/dev/random", "/dev/urandom"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/filesystems"),
    *("/proc/sys/kernel", "/proc/sys/vm", "/sys/devices/system/cpu", "/sys/fs/cgroup"),
)
"""What programs need of a system: code, certificates, names, a few figures. No home, no /etc as a whole."""
DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
NO_LANDLOCK = "this kernel has no Landlock: 5.13 or newer has, if it is switched on"


@dataclass(frozen=True, slots=True)
class Enclosed:
    """What holds now.

    Attributes:
        landlock: the version of the kernel's Landlock that bounds files; 0: nothing does.
        sockets: whether Unix sockets and other processes' memory are out of reach.
    """

    landlock: int
    sockets: bool

    def __str__(self) -> str:
        files = f"files by Landlock {self.landlock}" if self.landlock else "files unbounded"
        return f"{files}, {'sockets by seccomp' if self.sockets else 'Unix sockets open'}"


def version() -> int:
    """The kernel's version of Landlock; 0 where there is none."""
    if not sys.platform.startswith("linux"):
        return 0
    found = int(_libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(ASK_VERSION)))
    return max(0, found)


def enclose(mode: Mode, *, read: Iterable[str | Path], write: Iterable[str | Path]) -> Enclosed:
    """Bound this thread, and all that it starts from now on.

    Args:
        mode: "off" leaves all as it is but for core files; "auto" takes what the kernel has.
        read: files and directories that may be read and executed, beside `SYSTEM`.
        write: directories and files that may be changed too.
    Raises:
        ConfigurationError: "require", and the kernel cannot.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file is a copy of all secrets
    if mode == "off" or not sys.platform.startswith("linux"):
        _see_that_it_may_lack(mode, "this is not Linux")
        return Enclosed(0, False)
    _call("prctl", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    _drop_capabilities()
    found = version()
    if found:
        _landlock(found, [*SYSTEM, *read], [*DEVICES, *write])
    else:
        _see_that_it_may_lack(mode, NO_LANDLOCK)
        # The least that is left: other processes of this user cannot read this one's memory or environment.
        _call("prctl", _libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
    return Enclosed(found, _seccomp(mode))


def see_that_it_can(mode: Mode) -> None:
    """Say before anything is started that no agent could be here.

    Raises:
        ConfigurationError: "require", and this kernel has no Landlock.
    """
    if not version():
        _see_that_it_may_lack(mode, NO_LANDLOCK)


def around(root: Path, apart: Sequence[Path]) -> Iterator[Path]:
    """`root` as the largest parts of it that hold none of `apart`: itself, if it holds none.

    Rules can only allow. So a secret inside a directory of code is left out by naming all that is beside it.
    """
    yield from _around(real(root), [real(one) for one in apart])


def real(path: str | Path) -> Path:
    """Where a path leads. A link is but a name: what it leads to is what is allowed, or kept apart."""
    return Path(os.path.realpath(path))


def _around(root: Path, apart: Sequence[Path]) -> Iterator[Path]:
    if any(one == root or one in root.parents for one in apart):
        return
    inside = [one for one in apart if root in one.parents]
    if not inside:
        yield root
        return
    with suppress(OSError):  # what cannot be listed here could not be read there
        for child in sorted(root.iterdir()):
            # A link leads to what is allowed beside it, or to what is none of this root's.
            if not child.is_symlink():
                yield from _around(child, inside)


def _drop_capabilities() -> None:
    """Of a process that runs as root; any other has none."""
    header, data = struct.pack("Ii", CAPABILITIES_3, 0), ctypes.create_string_buffer(24)
    _call("capget", _libc.capget(header, data))
    effective, permitted, _, *rest = struct.unpack("6I", data)
    kept = struct.pack("6I", effective & OVERRIDE, permitted & OVERRIDE, 0, *(0 for _ in rest))
    _call("capset", _libc.capset(header, kept))


def _landlock(found: int, read: Sequence[str | Path], write: Sequence[str | Path]) -> None:
    handled = EVERYTHING | (REFER if found >= 2 else 0) | (TRUNCATE if found >= 3 else 0)
    words = (handled,) if found < 4 else (handled, 0) if found < 6 else (handled, 0, SCOPED)
    attributes = struct.pack(f"{len(words)}Q", *words)
    ruleset = _call(
        "landlock_create_ruleset",
        _libc.syscall(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)),
    )
    try:
        for path in read:
            _allow(ruleset, path, READING)
        for path in write:
            _allow(ruleset, path, handled & ~(MAKE_CHAR | MAKE_BLOCK))
        _call("landlock_restrict_self", _libc.syscall(RESTRICT_SELF, ruleset, ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str | Path, rights: int) -> None:
    """Allow what is there; what is not there need not be."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = rights if os.path.isdir(f"/proc/self/fd/{place}") else rights & OF_FILES
        rule = struct.pack("=Qi", rights, place)
        _call(
            "landlock_add_rule",
            _libc.syscall(ADD_RULE, ruleset, BENEATH_PATH, rule, ctypes.c_uint32(0)),
        )
    finally:
        os.close(place)


@dataclass(frozen=True, slots=True)
class Calls:
    """System calls of one architecture.

    Attributes:
        audit: the architecture as seccomp names it.
        socket: the number of `socket`; its first argument is the family.
        own_only: limits, priority and processors of a process, which the kernel lets one change of any
            neighbour of the same user. Their first argument is whose; 0: the caller's.
        whose: the same, where the first argument is of what kind (0: a process), and the second whose.
        refused: tracing and reading of other processes, keys of the kernel, handles and rings that go around
            files and filters, and what changes the kernel itself.
        most: numbers from here on are another ABI's.
    """

    audit: int
    socket: int
    own_only: tuple[int, ...]
    whose: tuple[int, ...]
    refused: tuple[int, ...]
    most: int


CALLS = {
    # prlimit64, sched_setparam, sched_setscheduler, sched_setaffinity, sched_setattr; setpriority;
    # ptrace, process_vm_readv, process_vm_writev, add_key, request_key, keyctl, bpf, perf_event_open,
    # open_by_handle_at, io_uring_setup, init_module, finit_module, kexec_load, pidfd_getfd, ioprio_set
    "x86_64": Calls(
        0xC000003E,
        41,
        (302, 142, 144, 203, 314),
        (141,),
        (101, 310, 311, 248, 249, 250, 321, 298, 304, 425, 175, 313, 246, 438, 251),
        0x40000000,
    ),
    "aarch64": Calls(
        0xC00000B7,
        198,
        (261, 118, 119, 122, 274),
        (140,),
        (117, 270, 271, 217, 218, 219, 280, 241, 265, 425, 105, 273, 104, 438, 30),
        0x40000000,
    ),
}
AF_UNIX = 1
OF_A_PROCESS = MYSELF = 0
LOAD_WORD, JUMP_EQUAL, JUMP_AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM
NUMBER_AT, ARCHITECTURE_AT, FIRST_ARGUMENT_AT, SECOND_ARGUMENT_AT = 0, 4, 16, 24


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def program(calls: Calls) -> list[tuple[int, int, int, int]]:
    """The filter: (code, jump if true, jump if false, value) for each instruction."""
    refused, own, whose, family = "refuse", "own", "whose", "family"
    tests = [
        *((number, refused) for number in calls.refused),
        *((number, own) for number in calls.own_only),
        *((number, whose) for number in calls.whose),
        (calls.socket, family),
    ]
    # What follows the tests, by where it begins behind the last of them.
    ends = [
        (None, (RETURN, 0, 0, ALLOW)),
        (family, (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT)),
        (None, (JUMP_EQUAL, 7, 6, AF_UNIX)),
        (whose, (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT)),
        (None, (JUMP_EQUAL, 0, 5, OF_A_PROCESS)),
        (None, (LOAD_WORD, 0, 0, SECOND_ARGUMENT_AT)),
        (None, (JUMP_EQUAL, 2, 3, MYSELF)),
        (own, (LOAD_WORD, 0, 0, FIRST_ARGUMENT_AT)),
        (None, (JUMP_EQUAL, 0, 1, MYSELF)),
        (None, (RETURN, 0, 0, ALLOW)),
        (refused, (RETURN, 0, 0, REFUSE)),
    ]
    begins = {name: at for at, (name, _) in enumerate(ends) if name is not None}
    count = len(tests)
    return [
        (LOAD_WORD, 0, 0, ARCHITECTURE_AT),
        (JUMP_EQUAL, 1, 0, calls.audit),
        (RETURN, 0, 0, REFUSE),
        (LOAD_WORD, 0, 0, NUMBER_AT),
        (JUMP_AT_LEAST, count + begins[refused], 0, calls.most),
        *((JUMP_EQUAL, count - at - 1 + begins[end], 0, number) for at, (number, end) in enumerate(tests)),
        *(instruction for _, instruction in ends),
    ]


def _seccomp(mode: Mode) -> bool:
    calls = CALLS.get(platform.machine())
    if calls is None:
        _see_that_it_may_lack(mode, f"no filter is known for {platform.machine()}")
        return False
    instructions = program(calls)
    code = b"".join(struct.pack("=HBBI", *one) for one in instructions)
    made = _Program(len(instructions), code)
    if _libc.prctl(PR_SET_SECCOMP, FILTER, ctypes.byref(made), 0, 0) == 0:
        return True
    _see_that_it_may_lack(mode, f"this kernel takes no seccomp filter ({os.strerror(ctypes.get_errno())})")
    return False


def _see_that_it_may_lack(mode: Mode, why: str) -> None:
    if mode == "require":
        raise ConfigurationError(
            f"agents cannot be enclosed, which CHIMERA_ENCLOSURE=require asks for: {why}; "
            "run workers on another kernel, or set CHIMERA_ENCLOSURE=auto (in Compose STACK_ENCLOSURE=auto)"
        )


def _call(name: str, answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return int(answer)
