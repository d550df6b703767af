"""A process that tries what it is told with the logins that it is given, and says what Redis answered.

python -m tests.store.intruder: reads ``{"logins": [URL…], "attempts": [[login's number, command…]…]}`` on
stdin, writes a list of words on stdout: ``ok``, or how Redis refused.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError


def main() -> None:
    """Try everything, in order."""
    told = json.load(sys.stdin)
    clients = [Redis.from_url(url, decode_responses=True) for url in told["logins"]]
    json.dump([tried(clients[number], command) for number, *command in told["attempts"]], sys.stdout)


def tried(client: Any, command: list[Any]) -> str:
    """How Redis answered."""
    try:
        client.execute_command(*command)
    except NoPermissionError:
        return "NOPERM"
    except RedisError as exc:
        return "NOPERM in script" if "ACL failure in script" in str(exc) else f"{type(exc).__name__}: {exc}"
    return "ok"


if __name__ == "__main__":
    main()
