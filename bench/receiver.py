"""An MCP server that takes the recorder's events and keeps none: `python -m bench.receiver --port 9000`."""

from __future__ import annotations

import argparse
from typing import Any

from mcp.server.mcpserver import MCPServer

server: MCPServer[Any] = MCPServer("bench receiver")


@server.tool()
def take(events: list[dict[str, Any]]) -> int:
    """Take events; returns how many."""
    return len(events)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    server.run(transport="streamable-http", host="127.0.0.1", port=parser.parse_args().port)


if __name__ == "__main__":
    main()
