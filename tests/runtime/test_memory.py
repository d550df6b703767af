"""The memory limit of a worker: what is asked for over it is refused where it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from chimera.runtime.memory import MIB, limit_memory, private_bytes, refusal


def alone(code: str) -> str:
    """What code says in a process of its own: a limit cannot be taken back."""
    script = f"from chimera.runtime.memory import *\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


def test_more_than_the_limit_is_refused_and_less_is_given_before_and_after() -> None:
    said = alone(
        "limit_memory(200)\n"
        "bytearray(150 * MIB)\n"
        "try: bytearray(300 * MIB)\n"
        "except MemoryError: print('refused')\n"
        "bytearray(150 * MIB)\n"
    )
    assert said == "refused"


def test_what_grows_beyond_it_is_refused_and_goes_back_with_its_owner() -> None:
    said = alone(
        "def grow():\n"
        "    held = []\n"
        "    while True: held.append(bytearray(MIB))\n"
        "limit_memory(100)\n"
        "for _ in range(3):\n"
        "    try: grow()\n"
        "    except MemoryError: print('refused', end=' ')\n"
    )
    assert said == "refused refused refused"


def test_the_limit_comes_on_top_of_what_the_process_has() -> None:
    assert alone("held = bytearray(300 * MIB)\nprint(limit_memory(50) // MIB > 350)") == "True"


def test_none_asked_for_is_none_set() -> None:
    assert limit_memory(0) == 0
    assert (private_bytes() or 0) > MIB


def test_a_harder_limit_from_outside_stays() -> None:
    code = (
        "import resource\n"
        "hard = private_bytes() + 64 * MIB\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))\n"
        "print(limit_memory(4096) == hard)"
    )
    assert alone(code) == "True"


@pytest.mark.parametrize("named", ["4,096 MiB", "CHIMERA_WORKER_MEMORY_MB", "CHIMERA_SLOTS"])
def test_the_refusal_says_what_to_change(named: str) -> None:
    assert named in refusal(4096)
