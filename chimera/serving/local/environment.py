"""The environment of the processes of a local fleet, or of a node.

Ray hands the head's environment to every worker, replica and job driver, and whoever holds Ray's
token can read it. So the hub's settings travel in it as they are, its secrets only as names of
0600 files (``CHIMERA_<FIELD>_FILE``), and other variables that look like secrets stay behind.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from pydantic import SecretStr

from chimera.serving.local.ports import LOOPBACK
from chimera.serving.local.remains import MARKER
from chimera.serving.local.state import StateDir
from chimera.settings import PREFIX, Settings, is_secret
from chimera.store.users import without_login

SENSITIVE = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
NAMES_A_FILE = re.compile(r"_(FILE|PATH|DIR)$", re.IGNORECASE)

STAYS_ON_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"

RAY = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Off, Ray keeps 127.0.0.1 as it is instead of listening on the machine's outer address.
    STAYS_ON_LOOPBACK: "0",
    "RAY_worker_niceness": "0",
    # The hub's services run in the replica's own loop, which is uvloop's; in a thread beside it they would
    # run in asyncio's, and each call of Serve would cross over.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_enable_pipe_based_agent_to_parent_health_check": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray cannot run without a port for ray://, which nobody here uses: the hook takes it away.
    "RAY_START_HOOK": "chimera.serving.local.ray_hook.prepare",
}

PATIENT = {"RAY_health_check_timeout_ms": "10000", "RAY_health_check_failure_threshold": "5"}
"""Among nodes that share a busy machine, or a network, silence is less of a sign. Work does not wait for it:
leases run out meanwhile."""


def of_supervisor(settings: Settings, state: StateDir) -> dict[str, str]:
    """Everything the caller has, with the settings that its flags changed written out."""
    return {
        **os.environ,
        **{f"{PREFIX}{name.upper()}": _plain(value) for name, value in _chosen(settings)},
        f"{PREFIX}STATE_DIR": str(state.path),
        MARKER: state.id,
    }


def with_users(settings: Settings, state: StateDir) -> Settings:
    """Settings that say how the fleet's parts log in: by role to an embedded Redis, unless somebody chose."""
    embedded = settings.redis_url is None
    if not (settings.redis_users == "roles" or (embedded and "redis_users" not in settings.model_fields_set)):
        return settings
    secret = settings.redis_secret or SecretStr(state.redis_secret.read_text(encoding="utf-8").strip())
    return settings.model_copy(update={"redis_users": "roles", "redis_secret": secret})


def of_hub(
    settings: Settings, state: StateDir, *, redis_url: str, model_url: str, model_api_key: str
) -> dict[str, str]:
    """What the Ray head, and so every replica, worker and job driver, sees.

    Args:
        redis_url: with the operator's password, which is left out where each role has its own; written to a
            file, as the secret is that those are derived from.
        model_url: the embedded model's endpoint, or "" to leave the settings as they are.
        model_api_key: the key for the model endpoint, or ""; written to a file.
    """
    roles = settings.redis_users == "roles"
    address = without_login(redis_url) if roles else redis_url
    files = {"api_key": state.api_key, "redis_url": state.secret("redis_url", address)}
    for name in ("mcp_headers", "redis_secret" if roles else "redis_password"):
        if (value := getattr(settings, name)) is not None:
            files[name] = state.secret(name, value.get_secret_value())
    if model_api_key:
        files["model_api_key"] = state.secret("model_api_key", model_api_key)
    return {
        **_of_ray(settings, state, files),
        **({f"{PREFIX}MODEL_URL": model_url} if model_url else {}),
        f"{PREFIX}DOOR": str(state.door),
        f"{PREFIX}URL": f"http://{settings.http_host}:{settings.http_port}",
    }


def of_node(settings: Settings, state: StateDir, *, host: str, secrets: Iterable[str] = ()) -> dict[str, str]:
    """What a node of a cluster, and all that Ray starts there, sees.

    Args:
        host: the node's own address; unless it is loopback the cluster is on a network.
        secrets: the settings that it needs of those that are secret: each is written to a file.
    """
    held = {name: getattr(settings, name) for name in secrets}
    files = {name: state.secret(name, _plain(value)) for name, value in held.items() if value is not None}
    found = {**_of_ray(settings, state, files), **PATIENT}
    if host != LOOPBACK:
        del found[STAYS_ON_LOOPBACK]
    return found


def _of_ray(settings: Settings, state: StateDir, files: Mapping[str, Path]) -> dict[str, str]:
    secret = {name for name, field in Settings.model_fields.items() if is_secret(field)}
    values = {name: value for name, value in _chosen(settings) if name not in secret}
    return {
        **_harmless(os.environ),
        **{f"{PREFIX}{name.upper()}": _plain(value) for name, value in values.items()},
        **{f"{PREFIX}{name.upper()}_FILE": str(path) for name, path in files.items()},
        f"{PREFIX}STATE_DIR": str(state.path),
        f"{PREFIX}CELLS": str(state.cells),
        **RAY,
        "RAY_AUTH_TOKEN_PATH": str(state.ray_token),
        "NO_PROXY": _without_proxy(os.environ),
        "no_proxy": _without_proxy(os.environ),
        # `python` in a job's command is the one that the fleet runs on, activated or not.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
        MARKER: state.id,
    }


def agents(names: str, more: Iterable[str | Path] = ()) -> str:
    """CHIMERA_AGENTS with files named by their absolute paths: the hub has another directory."""
    parts = [*places(names), *map(str, more)]
    return ",".join(str(Path(part).absolute()) if Path(part).is_file() else part for part in parts)


def places(names: str) -> tuple[str, ...]:
    """CHIMERA_AGENTS one by one."""
    return tuple(filter(None, (part.strip() for part in names.split(","))))


def _chosen(settings: Settings) -> list[tuple[str, object]]:
    """Fields with a value that somebody chose."""
    return [
        (name, value)
        for name in sorted(settings.model_fields_set)
        if (value := getattr(settings, name)) is not None
    ]


def _plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def _harmless(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith((PREFIX, "RAY_")) and (NAMES_A_FILE.search(name) or not SENSITIVE.search(name))
    }


def _without_proxy(environment: Mapping[str, str]) -> str:
    present = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    return ",".join(filter(None, (present, "127.0.0.1", "localhost")))
