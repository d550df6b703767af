"""Loopback ports: finding free ones, and saying who holds one that is not."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

import psutil

from chimera.errors import ConfigurationError

LOOPBACK = "127.0.0.1"
CHOICE = range(20_000, 32_000)
"""Where free ports are sought: below the kernel's ephemeral range, so that no outgoing connection
takes a port that a restarted server needs again, and outside Ray's worker ports."""


def free_port(avoid: Collection[int] = ()) -> int:
    """A loopback port that nobody holds now, and not one of `avoid`."""
    for port in random.sample(CHOICE, k=len(CHOICE)):  # nosec B311 : a port is no secret
        if port not in avoid and is_free(LOOPBACK, port):
            return port
    raise ConfigurationError(f"no loopback port is free between {CHOICE.start} and {CHOICE.stop}")


def free_ports(count: int) -> list[int]:
    """`count` different free loopback ports."""
    found: list[int] = []
    while len(found) < count:
        found.append(free_port(found))
    return found


def chosen(*ports: int) -> list[int]:
    """These ports; in place of each 0 a free one."""
    free = iter(free_ports(ports.count(0)))
    return [port or next(free) for port in ports]


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(host: str, port: int, variable: str) -> None:
    """Refuse to start on a taken port.

    Raises:
        ConfigurationError: names the port, who holds it if that can be seen, and the variable to change.
    """
    if is_free(host, port):
        return
    held_by = holder(port)
    raise ConfigurationError(
        f"port {port} on {host} is taken{f' by {held_by}' if held_by else ''}: "
        f"end that program, or set {variable} to a free port"
    )


def holder(port: int) -> str:
    """Who listens on a TCP port, as ``name (pid N)``, or "" when that cannot be seen."""
    for connection in psutil.net_connections("tcp"):
        if connection.status != psutil.CONN_LISTEN or not connection.pid:
            continue
        if connection.laddr and connection.laddr.port == port:
            try:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
            except psutil.Error:
                return f"pid {connection.pid}"
    return ""
