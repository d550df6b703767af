from __future__ import annotations

from tests.redis_fixtures import base, redis_server, settings, tenant

__all__ = ["base", "redis_server", "settings", "tenant"]
