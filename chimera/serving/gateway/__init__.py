"""The gateway: the HTTP API over the store. Plain asyncio; Ray Serve wraps it elsewhere."""

from chimera.serving.gateway.app import create_app
from chimera.serving.gateway.hub import Hub, Probe, leads

__all__ = ["Hub", "Probe", "create_app", "leads"]
