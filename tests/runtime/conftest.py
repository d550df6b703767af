from tests.redis_fixtures import base, redis_server, settings, tenant
from tests.runtime.exporters import quick, sense
from tests.runtime.provoking import endpoint, receiver, world

__all__ = [
    "base",
    "endpoint",
    "quick",
    "receiver",
    "redis_server",
    "sense",
    "settings",
    "tenant",
    "world",
]
