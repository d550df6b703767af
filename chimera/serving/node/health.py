"""Whether what a container runs is well: the question that the image has Docker ask (HEALTHCHECK).

One image has all roles, and each answers elsewhere. Which it is stands in the command of the container's
first process. This runs every few seconds beside the work, so it is a script, and imports nothing of ours.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

WITHIN_S = 4.0
"""Docker gives up after five."""


def asked(command: Sequence[str], environ: Mapping[str, str]) -> str:
    """Where a role says how it is.

    Args:
        command: that of the container, from its first program on.
        environ: the settings that it has.
    Returns:
        A URL that answers 200 while all is well.
    """
    match command[command.index("chimera") + 1 :] if "chimera" in command else ():
        case ["node", "worker" | "judge", *_]:
            port, path = environ.get("CHIMERA_NODE_AGENT_PORT", "52365"), "/api/local_raylet_healthz"
        case ["model", "serve", *options]:
            port, path = _value(options, "--port"), "/health"
        case _:
            port, path = environ.get("CHIMERA_HTTP_PORT", "8000"), "/healthz"
    return f"http://127.0.0.1:{port}{path}"


def _value(options: Sequence[str], name: str) -> str:
    for option, following in zip(options, [*options[1:], ""], strict=True):
        if option == name:
            return following
        if option.startswith(f"{name}="):
            return option.partition("=")[2]
    return "0"


def main() -> None:
    """Ends with 0 if it is well."""
    url = asked(Path("/proc/1/cmdline").read_text(encoding="utf-8").split("\0"), os.environ)
    try:
        urlopen(url, timeout=WITHIN_S).close()  # nosec B310 : of this machine, and http
    except OSError as exc:
        sys.exit(f"{url}: {exc}")


if __name__ == "__main__":
    main()
