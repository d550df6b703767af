"""Fixtures of tests that read pages' panels from a real Redis."""

from __future__ import annotations

from tests.redis_fixtures import base, redis_server, settings, tenant

__all__ = ["base", "redis_server", "settings", "tenant"]
