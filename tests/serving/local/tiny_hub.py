"""A Serve application as small as can be: what the fleet's tests deploy instead of the hub."""

from __future__ import annotations

import os
from typing import Any

from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

from chimera.serving.loopback import bind_loopback


class TinyHub:
    """Answers every path with the names of the CHIMERA_ and secret-looking variables it sees."""

    def __init__(self) -> None:
        bind_loopback()

    async def __call__(self, request: Request) -> JSONResponse:
        return JSONResponse({"pid": os.getpid(), "environment": dict(os.environ)})


def build(_: dict[str, Any]) -> serve.Application:
    """The application."""
    return serve.deployment(name="TinyHub", ray_actor_options={"num_cpus": 0.1, "resources": {"hub": 0.001}})(
        TinyHub
    ).bind()
