"""The kernel bounds a process of agents, or says that it cannot; the filter refuses what it names."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from chimera.errors import ConfigurationError
from chimera.serving import enclosure
from chimera.serving.enclosure import ALLOW, CALLS, REFUSE, around, enclose, program

CHILD = """
import ctypes, os, resource, socket, sys
from pathlib import Path
from chimera.serving.enclosure import enclose
own, other, mode = sys.argv[1:]
said = enclose(mode, read=[sys.prefix, sys.base_prefix], write=[own])
def tried(what):
    try:
        what()
    except OSError as exc:
        return exc.errno
    return 0
libc = ctypes.CDLL(None, use_errno=True)
def capabilities():
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if "CapEff" in line]
    return line.split()[1]
print(said)
print(tried(lambda: Path(own, "new").write_text("x")))
print(tried(lambda: Path(other).read_text()), tried(lambda: Path(other).write_text("x")))
print(tried(lambda: os.rename(other, Path(own, "taken"))), tried(lambda: os.link(other, Path(own, "linked"))))
print(tried(lambda: socket.socket(socket.AF_UNIX)), tried(lambda: socket.socket().close()))
print(tried(lambda: [one.close() for one in socket.socketpair()]))
print(tried(lambda: os.kill(os.getppid(), 0)), tried(lambda: os.kill(os.getpid(), 0)))
print(libc.ptrace(0x4206, os.getppid(), 0, 0), ctypes.get_errno())
def changes(whose):
    files, nice = resource.getrlimit(resource.RLIMIT_NOFILE), os.getpriority(os.PRIO_PROCESS, 0)
    return [
        tried(lambda: resource.prlimit(whose, resource.RLIMIT_NOFILE, files)),
        tried(lambda: os.setpriority(os.PRIO_PROCESS, whose, nice)),
        tried(lambda: os.sched_setaffinity(whose, os.sched_getaffinity(0))),
    ]
print(*changes(os.getppid()), "|", *changes(0))
print(resource.getrlimit(resource.RLIMIT_CORE)[1], int(capabilities(), 16) & ~2)
"""
needs_landlock = pytest.mark.skipif(not enclosure.version(), reason="this kernel has no Landlock")


def enclosed(own: Path, other: Path, mode: str) -> list[str]:
    """What a process finds that is enclosed so."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(own), str(other), mode],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@needs_landlock
def test_an_enclosed_process_has_its_own_files_and_no_others(tmp_path: Path) -> None:
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.write_text("theirs", encoding="utf-8")
    said, written, others, moved, sockets, pairs, signals, trace, bounds, limits = enclosed(
        own, other, "require"
    )
    assert said.startswith("files by Landlock")
    assert written == "0"
    assert others == f"{errno.EACCES} {errno.EACCES}"
    assert "0" not in moved.split(), "neither taken nor linked"
    assert sockets == f"{errno.EPERM} 0", "no Unix socket, but others"
    assert pairs == "0", "a pair of its own harms nobody: event loops need one"
    assert signals.split()[1] == "0"
    assert signals.split()[0] != "0" or enclosure.version() < 6
    assert trace == f"-1 {errno.EPERM}"
    assert bounds == f"{' '.join([str(errno.EPERM)] * 3)} | 0 0 0", (
        "a neighbour's bounds stay, its own are its own"
    )
    assert limits == "0 0", "no core file, and of root's privileges at most that to files"
    assert other.read_text(encoding="utf-8") == "theirs"


def test_where_it_is_off_nothing_is_bounded_but_core_files(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs", encoding="utf-8")
    said, _, others, *_, limits = enclosed(tmp_path, other, "off")
    assert said == "files unbounded, Unix sockets open"
    assert others == "0 0"
    assert limits.split()[0] == "0"


def test_a_kernel_without_landlock_starts_no_worker_that_requires_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enclosure, "version", lambda: 0)
    # In this very process: so nothing that binds it may run before the refusal.
    monkeypatch.setattr(enclosure, "_drop_capabilities", lambda: None)
    monkeypatch.setattr(enclosure._libc, "prctl", lambda *_: 0)
    with pytest.raises(ConfigurationError, match="CHIMERA_ENCLOSURE=auto"):
        enclose("require", read=[], write=[])


def run(
    code: list[tuple[int, int, int, int]], *, audit: int, number: int, first: int = 0, second: int = 0
) -> int:
    """What the kernel would do: an interpreter of the few instructions there are."""
    at, held = 0, 0
    data = {
        enclosure.ARCHITECTURE_AT: audit,
        enclosure.NUMBER_AT: number,
        enclosure.FIRST_ARGUMENT_AT: first,
        enclosure.SECOND_ARGUMENT_AT: second,
    }
    while True:
        instruction, if_true, if_false, value = code[at]
        at += 1
        if instruction == enclosure.LOAD_WORD:
            held = data[value]
        elif instruction == enclosure.RETURN:
            return value
        elif instruction == enclosure.JUMP_EQUAL:
            at += if_true if held == value else if_false
        elif instruction == enclosure.JUMP_AT_LEAST:
            at += if_true if held >= value else if_false
        else:
            raise AssertionError(f"{instruction:#x} is not used")


@pytest.mark.parametrize("machine", CALLS)
def test_the_filter_refuses_what_it_names_on_every_architecture(machine: str) -> None:
    calls = CALLS[machine]
    code, audit = program(calls), calls.audit
    for number in calls.refused:
        assert run(code, audit=audit, number=number) == REFUSE
    assert run(code, audit=audit, number=calls.socket, first=enclosure.AF_UNIX) == REFUSE
    assert run(code, audit=audit, number=calls.socket, first=2) == ALLOW, "the network is open"
    for number in calls.own_only:
        assert run(code, audit=audit, number=number, first=0, second=9) == ALLOW, "of the caller"
        assert run(code, audit=audit, number=number, first=4711) == REFUSE
    for number in calls.whose:
        assert run(code, audit=audit, number=number, first=0, second=0) == ALLOW
        assert run(code, audit=audit, number=number, first=0, second=4711) == REFUSE, "another process"
        assert run(code, audit=audit, number=number, first=2, second=0) == REFUSE, "all of a user's"
    assert run(code, audit=audit + 1, number=0) == REFUSE, "another architecture's calls have other numbers"
    assert run(code, audit=audit, number=calls.most + 1) == REFUSE
    assert run(code, audit=audit, number=0) == ALLOW


def test_a_secret_inside_of_code_is_left_out_by_naming_all_beside_it(tmp_path: Path) -> None:
    for name in ("code/a.py", "code/b/c.py", "code/state/key", "code/state.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root, state = tmp_path / "code", tmp_path / "code" / "state"
    assert list(around(root, [state])) == [root / "a.py", root / "b", root / "state.txt"]
    assert list(around(root, [tmp_path / "elsewhere"])) == [root]
    assert list(around(state, [state])) == list(around(state / "key", [state])) == []
    assert list(around(tmp_path / "missing", [tmp_path / "missing" / "x"])) == []


def test_a_secret_is_left_out_by_whatever_name_it_is_known(tmp_path: Path) -> None:
    for name in ("code/a.py", "code/state/key", "code/mounted/..data/key"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    root = tmp_path / "code"
    linked = tmp_path / "linked"
    linked.symlink_to(root)
    (root / "mounted" / "key").symlink_to("..data/key")
    (root / "door").symlink_to(root / "state")
    (root / "up").symlink_to(tmp_path)
    apart = [linked / "state", root / "mounted" / "key"]
    for place in (root, linked):
        assert list(around(place, apart)) == [root / "a.py"]
    assert list(around(linked / "state" / "key", apart)) == []
