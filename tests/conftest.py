"""What holds for every test: a neutral environment, bounded examples, nothing left running or open."""

from __future__ import annotations

import os

import hypothesis
import pytest
import structlog

from tests import leftovers, overdue
from tests.leftovers import closing, pytest_collection_finish
from tests.measuring import pytest_runtest_protocol
from tests.sharing import pytest_xdist_make_scheduler

__all__ = [
    "closing",
    "pytest_collection_finish",
    "pytest_runtest_protocol",
    "pytest_xdist_make_scheduler",
]

# A developer's own fleet and settings must change no test, nor a test change them.
for _name in [name for name in os.environ if name.startswith("CHIMERA_") or name == "RAY_ADDRESS"]:
    del os.environ[_name]

# Plain tracebacks: to colour one takes seconds under coverage, on event loops whose clocks are tested.
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)

# The same examples everywhere, and no deadline: a busy machine is no failure.
hypothesis.settings.register_profile(
    "gate", derandomize=True, deadline=None, database=None, stateful_step_count=30
)
hypothesis.settings.load_profile("gate")
# By hand: `--hypothesis-profile=long`, and the same again with `--hypothesis-seed=N`.
hypothesis.settings.register_profile(
    "long",
    derandomize=False,
    deadline=None,
    database=None,
    max_examples=5_000,
    stateful_step_count=60,
    print_blob=True,
)


def pytest_configure(config: pytest.Config) -> None:
    """Looks for what a run leaves, and ends what never ends."""
    leftovers.pytest_configure(config)
    overdue.pytest_configure(config)
