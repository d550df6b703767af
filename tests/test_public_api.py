from __future__ import annotations

import subprocess
import sys

import pytest

import chimera

PUBLIC = {
    "__version__",
    "Client",
    "MissionFile",
    "MissionSpec",
    "Context",
    "HttpAction",
    "Task",
    "agent",
    "Decision",
    "MissionStatus",
    "MissionView",
    "Priority",
    "ResultView",
    "ReviewView",
    "TaskStatus",
    "TaskView",
    "Verdict",
    "BackendError",
    "BudgetExceeded",
    "ChimeraError",
    "ConfigurationError",
    "Conflict",
    "FleetUnavailable",
    "Forbidden",
    "InvalidRequest",
    "NotFound",
    "PayloadTooLarge",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "StoreError",
    "Unauthorized",
}
"""Taking a name away breaks users; adding one is a promise. Both are meant to be seen here."""


def test_the_public_names_are_these() -> None:
    assert set(chimera.__all__) == PUBLIC
    assert len(chimera.__all__) == len(PUBLIC)


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(chimera, name)
    assert name == "__version__" or value.__doc__


def test_a_name_that_is_not_public_is_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Clint'"):
        _ = chimera.Clint
    assert set(dir(chimera)) == PUBLIC


def loaded(statement: str) -> set[str]:
    """The top-level packages a fresh interpreter has after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


HEAVY = {"ray", "redis", "pydantic_ai", "fastapi", "xllamacpp", "openai"}


@pytest.mark.parametrize(
    "statement", ["import chimera", "from chimera import Client", "from chimera import agent, Context"]
)
def test_a_client_and_an_agents_module_need_nothing_heavy(statement: str) -> None:
    assert not HEAVY & loaded(statement)


def test_importing_chimera_loads_next_to_nothing() -> None:
    assert not {"httpx", "pydantic"} & loaded("import chimera")


def test_the_gateway_needs_no_ray() -> None:
    assert "ray" not in loaded("import chimera.serving.gateway")
